"""Runs a chain of training/runs, or kills it amid its steps."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEP_S = 900


def run(chain: Sequence[str], until: Callable[[], bool] | None = None) -> str:
    """Runs the chain to its end, or kills all its processes when `until` holds; what it printed."""
    with subprocess.Popen(
        chain, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            if until:
                deadline = time.monotonic() + STEP_S
                while not until():
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            if until:
                os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
    assert until or process.returncode == 0, printed
    return printed
