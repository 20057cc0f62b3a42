"""Preference pairs for alignment accuracy: pairs of messages, or AlignX rows with the prompts of training.dpo."""

from itertools import islice
from pathlib import Path

from services.prompts.build import ChatMessage
from training.data.formats import AlignXRow, PairRow
from training.data.preference_pairs import Mode, row_prompt
from training.data.reading import read

MAX_HISTORY = 16
HISTORY_TOKENS = 6_144


def read_pairs(path: Path, mode: Mode | None, limit: int | None) -> list[PairRow]:
    """The first `limit` pairs. With a mode the rows are AlignX rows; those that show nothing of their user in that
    mode are left out. Raises DatasetError."""
    if mode is None:
        return list(islice(read(path, PairRow), limit))
    made = (make_pair(row, mode) for row in read(path, AlignXRow))
    return list(islice((pair for pair in made if pair), limit))


def make_prompt(row: AlignXRow, mode: Mode) -> list[ChatMessage] | None:
    """None where the prompt shows nothing of the user."""
    return row_prompt(row, mode, shown="comparisons", most=MAX_HISTORY, tokens=HISTORY_TOKENS)


def make_pair(row: AlignXRow, mode: Mode) -> PairRow | None:
    """None where the prompt shows nothing of the user."""
    if (prompt := make_prompt(row, mode)) is None:
        return None
    replies = {"chosen": row.chosen, "rejected": row.rejected}
    return PairRow.model_validate(
        {"prompt": prompt} | {name: [{"role": "assistant", "content": text}] for name, text in replies.items()}
    )
