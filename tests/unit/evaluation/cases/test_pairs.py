"""Held-out pairs ask what training asked, and a row that shows nothing of its user makes none."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from alignx.schemas.interactions import ComparisonInteraction
from evaluation.cases.pairs import main
from services.prompts.build import chat_prompt
from training.corpus import world_rows


def alignx_rows(count: int) -> list[dict[str, Any]]:
    return [world_rows.alignx(random.Random(seed), world_rows.World("heldout"), 3) for seed in range(count)]


def made(folder: Path, given: list[dict[str, Any]], mode: str, *more: str) -> list[dict[str, Any]]:
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in given))
    main([str(folder / "rows.jsonl"), "--mode", mode, "--out", str(folder / "pairs.jsonl"), *more])
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", ["ica", "pba"])
def test_the_prompt_is_the_served_one(tmp_path: Path, mode: Any):
    [row] = alignx_rows(1)
    [pair] = made(tmp_path, [row], mode)
    history = [
        ComparisonInteraction(
            query=each["prompt"],
            chosen=each["chosen"],
            rejected=each["rejected"],
            directions=each["Preference Direction"],
        )
        for each in row["Pair-wise Comparative Feedback"]
    ]
    asked = [{"role": "user", "content": row["prompt"]}]
    assert pair["prompt"] == chat_prompt(asked, mode=mode, summary=None, history=history).messages
    assert [pair[name][0]["content"] for name in ("chosen", "rejected")] == [row["chosen"], row["rejected"]]


def test_a_row_without_choices_makes_no_pair_and_takes_none_from_its_neighbour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    full, bare = alignx_rows(2)
    assert len(made(tmp_path, [full, bare | {"Pair-wise Comparative Feedback": []}], "ica")) == 1
    assert "1 pairs; 1 rows made none" in capsys.readouterr().out


def test_only_the_latest_choices_are_shown(tmp_path: Path):
    [row] = alignx_rows(1)
    short, whole = (made(tmp_path, [row], "ica", "--max-history", most)[0] for most in ("1", "3"))
    assert len(str(short)) < len(str(whole))
    assert row["Pair-wise Comparative Feedback"][-1]["chosen"][:10] in str(short)


def test_rows_of_another_kind_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        made(tmp_path, [{"uid": "a", "history": [], "mid_position": 1}] * 3, "ica")
    assert ended.value.code == 2
    assert "alignx" in capsys.readouterr().err.lower()
    assert not (tmp_path / "pairs.jsonl").exists()
