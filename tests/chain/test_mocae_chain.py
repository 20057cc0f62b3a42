"""MoCaE's chain on the nano model, until vLLM serves base and merges in one batch; a second call does nothing anew."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "axes"
OUT = ROOT / "var" / "train" / "nano" / "mocae"


def run() -> str:
    chain = subprocess.run(
        ["training/runs/mocae.sh", "--tiny"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert chain.returncode == 0, chain.stdout
    return chain.stdout


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the files of the three axes in ../shared/data/axes")
def test_experts_become_merges_that_vllm_serves() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    printed = run()
    assert "8 models in one batch" in printed
    result = json.loads((OUT / "result.json").read_text(encoding="utf-8"))
    served = json.loads((OUT / "served" / "served.json").read_text(encoding="utf-8"))
    assert served == {"static": result["static"], "routed": result["routed"]}
    assert result["systems"]["base"]["helpful"]["mean"] == 0.5
    assert "served: done before" in run()
