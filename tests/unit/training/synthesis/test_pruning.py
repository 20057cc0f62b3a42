"""Pruning: which choices become targets of RL rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from training.data.formats import RlRow
from training.data.reading import read
from training.synthesis.pruning import app

SAMPLES = Path(__file__).resolve().parents[5] / "shared" / "cases" / "family" / "formats" / "alignxploreplus"


def line(user: str, place: int, logprob: float, signal: float) -> dict[str, Any]:
    choice = {"query": f"q{user}{place}", "chosen": "a", "rejected": "b"}
    scores = {"logprob1": logprob, "logprob2": logprob - 0.2, "signal": signal}
    return {"uid": user, "original_history_item": choice, **scores, "pref_idx": 9}


def pruned(file: Path, folder: Path, *values: str) -> list[dict[str, Any]]:
    out = folder / "rl.jsonl"
    arguments = [str(file), "--out", str(out), "--a", values[0], "--b", values[1], "--c", values[2]]
    result = CliRunner().invoke(app, arguments)
    if result.exit_code:
        assert "no user has two choices" in result.output
        return []
    assert len(list(read(out, RlRow, malformed="fatal"))) > 0
    return [json.loads(text) for text in out.read_text(encoding="utf-8").splitlines()]


def test_the_least_likely_tenth_gives_the_targets(tmp_path: Path) -> None:
    unlikely = {1: -0.4, 4: -0.45}
    lines = [line("u", place, unlikely.get(place, -0.01 * place), 1 - place / 10) for place in range(7)]
    lines += [line("v", place, -0.05, 0.05) for place in range(13)]
    file = tmp_path / "once.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in lines), encoding="utf-8")
    (row,) = pruned(file, tmp_path, "1", "0.5", "1")
    assert [choice["query"] for choice in row["history"]] == [f"qu{place}" for place in range(5)]
    assert (row["mid_position"], row["distance_to_end"], row["uid"]) == (1, 3, "u")
    assert row["signal_gap"] == pytest.approx(-0.3)
    others = pruned(file, tmp_path, "1", "0.42", "1")
    assert all(len(other["history"]) != 5 for other in others), "what was target 2 is below the bound"
    assert pruned(file, tmp_path, "0.1", "0.5", "1") == [], "target 2 is not among the highest signals"
    assert pruned(file, tmp_path, "1", "0.5", "0.5") == [], "another slice"


def test_the_published_sample_gives_the_published_row(tmp_path: Path) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("../shared/cases/family is absent: this test compares with the published row")
    rows = pruned(SAMPLES / "sample_once.jsonl", tmp_path, "1", "0.5", "1")
    wanted = (SAMPLES / "sample_once_test_easy.jsonl").read_text(encoding="utf-8").splitlines()
    assert rows == [json.loads(text) for text in wanted]
