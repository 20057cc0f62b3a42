"""Writes the AlignX family's files in miniature, hand-written, into the tree that training/runs/family.sh reads.

python -m tests.chain.family_files FOLDER
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.prompts.profiles import load_profile
from tests.unit.evaluation.family_sources import amazon, mind, movielens
from tests.unit.training.data.published_rows import TRUTH, cold_start, parquet_row, part, psoups
from tests.unit.training.data.rows import LEANING, alignx, triple
from training.data.formats import RlRow

ROWS = 4
REPLY = "<think>\nBoth choices are chosen {number}.\n</think>\n\nThe user prefers short answers about topic {number}."


def directed(number: int) -> dict[str, Any]:
    """An AlignX row whose evidence has directions, without which PBA leaves it out."""
    row = alignx(number)
    row["User-Generated Content"][0]["Preference Direction"] = LEANING
    return row


def plus_sft(number: int) -> dict[str, Any]:
    """A row of AlignXplore+'s SFT, of which every second has a past summary."""
    history = [triple(10 * number + place) for place in range(4)]
    row = RlRow.model_validate({"history": history, "mid_position": 2})
    past = "The user prefers short answers." if number % 2 else None
    prompt = load_profile("alignxplore-plus").update_prompt(past, row.comparisons(), past_tokens=100)
    return {
        "prompt": prompt.messages,
        "completion": [{"role": "assistant", "content": REPLY.format(number=number)}],
    }


def main(folder: Path) -> None:
    whole: dict[str, list[Any]] = {
        "alignx/test.json": [directed(number) for number in range(ROWS)],
        "alignx/psoups/student_phd.json": [psoups("no" if number % 2 else "yes") for number in range(ROWS)],
        "alignxplore/cold_start.json": [cold_start()] * ROWS,
        "alignxplore/streaming_cold_start.json": [cold_start()] * ROWS,
        "alignxplore/rl_train.json": [[part(number, number + 1), TRUTH] for number in range(ROWS)],
        "alignxplore/streaming_rl_train.json": [
            [{"history": [part(number, number + 1), part(number + 2, number + 3)]}, TRUTH] for number in range(ROWS)
        ],
    }
    lines: dict[str, Iterable[Any]] = {
        "alignx/train/rows.jsonl": map(directed, range(10, 10 + ROWS)),
        "alignxploreplus/sft/rows.jsonl": map(plus_sft, range(2 * ROWS)),
        "alignxploreplus/rl/rows.jsonl": map(parquet_row, range(ROWS)),
    }
    for name, rows in whole.items():
        _write(folder / name, json.dumps(rows))
    for name, made in lines.items():
        _write(folder / name, "".join(f"{json.dumps(row)}\n" for row in made))
    for source in (mind, amazon, movielens):
        source(folder / source.__name__)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
