"""MoCaE's chain on the nano model, until vLLM serves base and merges in one batch; a second call does nothing anew."""

import json
import shutil

import pytest

from tests.chain.runs import ROOT, run

DATA = ROOT.parent / "shared" / "data" / "axes"
CHAIN = ["training/runs/mocae.sh", "--tiny"]
OUT = ROOT / "var" / "train" / "nano" / "mocae"


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the files of the three axes in ../shared/data/axes")
def test_experts_become_merges_that_vllm_serves() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    printed = run(CHAIN)
    assert "8 models in one batch" in printed
    result = json.loads((OUT / "result.json").read_text(encoding="utf-8"))
    served = json.loads((OUT / "served" / "served.json").read_text(encoding="utf-8"))
    assert served == {"static": result["static"], "routed": result["routed"]}
    assert result["systems"]["base"]["helpful"]["mean"] == 0.5
    assert "served: done before" in run(CHAIN)
