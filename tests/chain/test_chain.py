"""The whole chain of training on the nano model, killed amid its steps: called again, it goes on where it was."""

import json
import shutil

from tests.chain.runs import ROOT, run

OUT = ROOT / "var" / "train" / "nano"
CHAIN = ["training/runs/small.sh", "--tiny"]


def is_done(step: str) -> bool:
    return (OUT / "done" / step).exists()


def test_a_chain_killed_at_any_step_goes_on_where_it_was() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    run(CHAIN, until=lambda: (OUT / "corpus.log").exists())
    assert not is_done("corpus")
    run(CHAIN, until=lambda: any(OUT.glob("sft.run/checkpoint-*/whole")))
    assert is_done("tokenizer")
    assert not is_done("sft")
    run(CHAIN, until=lambda: (OUT / "grpo_streaming.log").exists())
    assert is_done("grpo_gen")
    assert not is_done("grpo_streaming")
    tokenizer = (OUT / "done" / "tokenizer").stat().st_mtime_ns

    printed = run(CHAIN)

    assert printed.splitlines()[:3] == ["corpus: done before", "tokenizer: done before", "sft: done before"]
    assert (OUT / "done" / "tokenizer").stat().st_mtime_ns == tokenizer
    history = json.loads((OUT / "sft.run" / "metrics.json").read_text())["history"]
    steps = [entry["step"] for entry in history]
    assert steps == sorted(set(steps)), "a resumed stage goes on from its checkpoint"
    assert len(list((OUT / "adapter").glob("*.safetensors"))) == 3
    assert json.loads((OUT / "summaries" / "rl.json").read_text())["users"] == 8
    assert "well formed" in (OUT / "served.log").read_text()
