"""Pairs of AlignX rows have the served prompt, and a row that shows nothing of its user makes none."""

import random
from pathlib import Path
from typing import Any

import pytest

from alignx.schemas.interactions import ComparisonInteraction
from evaluation.cases.pairs import read_pairs
from evaluation.scoring.alignment import flatten_pairs
from services.prompts.build import chat_prompt
from tests.unit.evaluation.official import lines
from training.corpus import world_rows
from training.corpus.lexicon import Pen


def alignx_rows(count: int) -> list[dict[str, Any]]:
    return [world_rows.alignx(Pen(random.Random(seed), "heldout"), world_rows.World(), 3) for seed in range(count)]


@pytest.mark.parametrize("mode", ["ica", "pba"])
def test_the_prompt_is_the_served_one(tmp_path: Path, mode: Any):
    [row] = alignx_rows(1)
    [(prompt, chosen), (_, rejected)] = flatten_pairs(read_pairs(lines(tmp_path / "rows.jsonl", [row]), mode, None))
    history = [
        ComparisonInteraction(
            query=pair["prompt"],
            chosen=pair["chosen"],
            rejected=pair["rejected"],
            directions=pair["Preference Direction"],
        )
        for pair in row["Pair-wise Comparative Feedback"]
    ]
    request = [{"role": "user", "content": row["prompt"]}]
    assert prompt == chat_prompt(request, mode=mode, summary=None, history=history).messages
    assert [chosen, rejected] == [row["chosen"], row["rejected"]]


def test_a_row_without_choices_makes_no_pair_and_takes_none_from_its_neighbour(tmp_path: Path):
    full, bare = alignx_rows(2)
    path = lines(tmp_path / "rows.jsonl", [full, bare | {"Pair-wise Comparative Feedback": []}])
    assert len(read_pairs(path, "ica", None)) == 1
