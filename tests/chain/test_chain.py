"""The whole chain of training on the nano model, killed amid its steps: called again, it goes on where it was."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUT = ROOT / "var" / "train" / "nano"
CHAIN = ["training/runs/small.sh", "--tiny"]
STEP_S = 900


def run(until: Callable[[], bool] | None = None) -> str:
    """Runs the chain to its end, or kills all its processes when `until` holds; what it printed."""
    with subprocess.Popen(
        CHAIN, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
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


def is_done(step: str) -> bool:
    return (OUT / "done" / step).exists()


def test_a_chain_killed_at_any_step_goes_on_where_it_was() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    run(until=lambda: (OUT / "corpus.log").exists())
    assert not is_done("corpus")
    run(until=lambda: any(OUT.glob("sft.run/checkpoint-*/whole")))
    assert is_done("tokenizer")
    assert not is_done("sft")
    run(until=lambda: (OUT / "grpo_streaming.log").exists())
    assert is_done("grpo_gen")
    assert not is_done("grpo_streaming")
    tokenizer = (OUT / "done" / "tokenizer").stat().st_mtime_ns

    printed = run()

    assert printed.splitlines()[:3] == ["corpus: done before", "tokenizer: done before", "sft: done before"]
    assert (OUT / "done" / "tokenizer").stat().st_mtime_ns == tokenizer
    history = json.loads((OUT / "sft.run" / "metrics.json").read_text())["history"]
    steps = [entry["step"] for entry in history]
    assert steps == sorted(set(steps)), "a resumed stage goes on from its checkpoint"
    assert len(list((OUT / "adapter").glob("*.safetensors"))) == 3
    assert json.loads((OUT / "summaries" / "rl.json").read_text())["users"] == 8
    assert "well formed" in (OUT / "served.log").read_text()
