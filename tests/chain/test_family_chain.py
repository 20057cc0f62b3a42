"""The AlignX family's chain on the nano model, killed amid its steps: called again, it goes on to the table."""

import json
import shutil

from tests.chain.runs import ROOT, run

OUT = ROOT / "var" / "train" / "nano" / "family"
CHAIN = ["training/runs/family.sh", "--tiny"]


def test_published_files_become_checkpoints_and_a_table() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    run(CHAIN, until=lambda: (OUT / "done" / "alignxpert-ica").exists())
    assert not (OUT / "done" / "alignxplore-sft").exists()

    printed = run(CHAIN)

    assert "alignxpert-ica: done before" in printed
    assert "alignxplore-sft: done before" not in printed
    for checkpoint in ("alignxpert-pba", "alignxplore-rl-gen", "alignxplore-rl-streaming", "alignxplus-rl"):
        assert list((OUT / checkpoint).glob("*.safetensors")), checkpoint
    alignment = json.loads((OUT / "results" / "alignxpert-pba.json").read_text(encoding="utf-8"))["alignment"]
    assert alignment["alignment"]["rows"] == 4
    report = (OUT / "report" / "accuracy.md").read_text(encoding="utf-8")
    (row,) = [line for line in report.splitlines() if line.startswith("| MIND |")]
    assert "alignxplus-rl: streaming" in row
    assert row.count("(protocol, judge)") == 4, "rows and setting are the published ones; the tiny run writes less"
    assert "concise_detail.json is absent, so it is not measured" in printed
