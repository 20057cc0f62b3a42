"""Brings vLLM and its model up beside a suite that already answers: a line for each step, with size and time."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from docker.local.engine import ENGINE_PYTHON, ENGINE_READY, ROOT, RefusedError, is_adapter, model_folder
from docker.local.processes import control, wait_engine

MERGE = ROOT / "docker" / "merge_adapter.py"


def prepare_engine(console: Console, home: Path, port: int, model: str) -> None:
    """Installs, makes and starts what is not there yet. Raises RefusedError."""
    if _make("--question").returncode:  # not there, or of an older lock
        with _step(console, "Installing vLLM, about 1 GB to download", "Installed vLLM"):
            done = _make()
            if done.returncode:
                raise RefusedError(f"vLLM was not installed:\n{done.stdout.strip()[-2000:]}")
    if is_adapter(model) and _merge(console, model, home):
        control(home, "stop", "engine")  # it serves the one before
    if " RUNNING " not in control(home, "status", "engine"):
        control(home, "start", "engine")
    with _step(console, "Starting vLLM; it compiles the model the first time", "vLLM is warm"):
        wait_engine(home, port)


@contextmanager
def _step(console: Console, doing: str, done: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(f"{doing} …"):
        yield
    console.print(f"{done}: {time.monotonic() - started:.0f} s")


def _make(*options: str) -> "subprocess.CompletedProcess[str]":
    """Runs make on the environment of vLLM."""
    # `make up` may have been called with -B or -n, which are not meant for this.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    command = ["make", "--no-print-directory", *options, str(ENGINE_READY.relative_to(ROOT))]
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def _merge(console: Console, model: str, home: Path) -> bool:
    """Makes the checkpoint of an adapter; whether it is new."""
    command = [str(ENGINE_PYTHON), str(MERGE), str(model_folder(model)), str(home / "models")]
    is_new = False
    with (
        console.status("Making the model …"),
        tempfile.TemporaryFile("w+") as errors,  # a pipe would be full of warnings before anyone reads it
    ):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                console.print(line.rstrip(), markup=False)
                is_new = True
        errors.seek(0)
        error = errors.read().strip()
    if process.returncode:
        raise RefusedError(error.splitlines()[-1] if error else "The model was not made.")
    return is_new
