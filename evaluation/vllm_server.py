"""A vLLM on this machine's CPU that serves a checkpoint for as long as a block runs."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from training.exceptions import CheckpointError

PYTHON: Final = Path(".venv-engine/bin/python")
START_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 60.0
OPTIONS: Final = "--host 127.0.0.1 --block-size 32 --enforce-eager --disable-uvicorn-access-log"
ENVIRONMENT: Final = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TORCH_COMPILE_DISABLE": "1",
}


@contextmanager
def serve_checkpoint(checkpoint: Path, python: Path, options: str = "--max-num-seqs 64") -> Iterator[str]:
    """The base URL of the server. `python` has vLLM. Raises CheckpointError when it does not start."""
    if not python.exists():
        raise CheckpointError(f"{python} does not exist; `make .venv-engine/.ready` installs it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint), "--port", str(port)]
    command += [*OPTIONS.split(), *options.split()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")} | ENVIRONMENT
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _is_healthy(f"http://127.0.0.1:{port}/health"):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise CheckpointError(f"{checkpoint}: vLLM does not start with it: {log.read()[-3000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # vLLM's own processes as well
                process.wait()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
