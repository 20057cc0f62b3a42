"""Held-out AlignX rows as preference pairs, for the alignment accuracy of evaluation.

    python -m evaluation.cases.pairs heldout_alignx.jsonl --mode ica --out heldout_ica.jsonl

The prompts are those that training.dpo makes of the same rows; rows that show nothing of their user in
a mode are left out and counted.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import orjson

from training.data.formats import AlignXRow
from training.data.preference_pairs import Mode, pair_prompt, select_directions, select_history
from training.data.reading import ReadReport, read
from training.exceptions import TrainingError

MAX_HISTORY = 16
HISTORY_TOKENS = 6_144


def pair(row: AlignXRow, mode: Mode, *, max_history: int, history_tokens: int) -> dict[str, Any] | None:
    """The row as a pair of messages; None when its prompt would say nothing of the user."""
    if mode == "pba":
        history = select_directions(row, most=max_history)
    else:
        history = select_history(row, shown="comparisons", most=max_history, tokens=history_tokens)
    if (prompt := pair_prompt(row, history, mode)) is None:
        return None
    replies = {"chosen": row.chosen, "rejected": row.rejected}
    return {"prompt": prompt} | {name: [{"role": "assistant", "content": text}] for name, text in replies.items()}


def write(pairs: Iterator[dict[str, Any] | None], out: Path) -> tuple[int, int]:
    """Writes the pairs, whole or not at all; how many there are, and how many rows made none."""
    written = left_out = 0
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    with unfinished.open("wb") as file:
        for each in pairs:
            written += each is not None
            left_out += each is None
            if each is not None:
                file.write(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(out)
    return written, left_out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write AlignX rows as preference pairs of messages.")
    parser.add_argument("rows", type=Path, help="a file or folder of AlignX rows")
    parser.add_argument("--mode", choices=get_args(Mode), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-history", type=int, default=MAX_HISTORY)
    parser.add_argument("--history-tokens", type=int, default=HISTORY_TOKENS)
    given = parser.parse_args(arguments)
    report = ReadReport()
    limits = {"max_history": given.max_history, "history_tokens": given.history_tokens}
    try:
        rows = read(given.rows, AlignXRow, report=report)
        written, left_out = write((pair(row, given.mode, **limits) for row in rows), given.out)
    except TrainingError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    print(f"{given.out}: {written:,} pairs; {left_out + report.malformed.total():,} rows made none")


if __name__ == "__main__":
    main()
