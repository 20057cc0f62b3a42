"""AlignX and P-Soups rows as AlignXplore+ evaluates and trains on them.

Every row is evaluated, by its pairs alone; those that quote their persona stay, and are counted. Rows of one question
are one "cluster", a field beside the published ones. Rows of at least 8 pairs are users to train on. Source:
unify_selection_task.py and the AlignX transformer of AlignX-Family b9b8a9e.
"""

from pathlib import Path
from typing import Any, Final

from evaluation.cases.benchmark import Tally
from evaluation.cases.table_files import read_json
from training.data.formats import AlignXRow, MaybeText, Triple

LEAST: Final = 8
"""Pairs of a user to train on."""


class _Row(AlignXRow):
    ground_truth_persona: MaybeText = ""


def read_selection(file: Path, tally: Tally) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """UPI rows of all users, and rows of behaviours. Raises DatasetError."""
    upi: list[dict[str, Any]] = []
    behaviours: list[dict[str, Any]] = []
    for number, (_, row) in enumerate(read_json(file, tally, "rows", _Row)):
        pairs = [_texts(pair) for pair in row.pairs]
        persona = row.ground_truth_persona.strip().rstrip(".").casefold()
        if persona and any(persona in text.casefold() for pair in [row.target(), *row.pairs] for text in pair.texts()):
            tally.read["rows that quote their persona, kept"] += 1
        user = {"userid": f"{file.stem}_{number}", "cluster": row.prompt}
        upi.append({**user, "history": pairs, "target": _texts(row.target())})
        if len(pairs) >= LEAST:
            behaviours.append({"uid": len(behaviours), "topic": "alignx", "behaviors": pairs})
    tally.left_out[f"users to train on of fewer than {LEAST} pairs"] += len(upi) - len(behaviours)
    return upi, behaviours


def _texts(pair: Triple) -> dict[str, str]:
    return {"query": pair.query, "chosen": pair.chosen, "rejected": pair.rejected}
