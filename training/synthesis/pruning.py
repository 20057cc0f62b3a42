"""RL rows of the choices that a sequence model finds telling: AlignXplore+'s pruning of *_once.jsonl files.

    python -m training.synthesis.pruning MIND_once.jsonl --out rl.jsonl --a 1 --b 0.5 --c 1

A line is one choice of a user with its scores, oldest first. Of all choices the share `a` of the highest signal stays,
of them those whose log-probability is above -`b`; sorted by falling log-probability, the slice from c - 0.1 to c is
taken. A user of two such choices becomes a row: the later one is target 2, the latest before it that is neither the
first choice nor right before target 2 is target 1. Source: AlignX-Family b9b8a9e, pruning/pruning.py. Uncertain, since
no file that it reads is published: that `b` bounds the log-probability itself, and which of three choices is target 1.
"""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from typer import Option

from training.data.formats import Record, Triple, UserName
from training.data.reading import Malformed, ReadReport, parse, raw_rows
from training.data.whole_file import replace_file
from training.exceptions import DatasetError, TrainingError

SLICE: Final = 0.1
LEAST: Final = 4
"""Choices of a row, target 2 included."""
SCORES: Final = {"logprob1", "logprob2", "signal"}
app = typer.Typer(add_completion=False, rich_markup_mode=None)


class ScoredChoice(Record):
    uid: UserName = None
    original_history_item: Triple
    logprob1: float
    logprob2: float
    signal: float


def read_choices(file: Path, report: ReadReport) -> list[ScoredChoice]:
    """Raises DatasetError, also without any choice."""
    choices = []
    with closing(raw_rows(file, report)) as raws:
        for raw in raws:
            choice = parse(raw, ScoredChoice)
            report.add(choice) if isinstance(choice, Malformed) else choices.append(choice)
    if not choices:
        raise DatasetError(f"{file} holds no scored choice ({report.left_out} malformed)")
    return choices


def prune(choices: list[ScoredChoice], a: float, b: float, c: float) -> Iterator[dict[str, Any]]:
    """Rows of the users of whom two choices are taken."""
    by_signal = sorted(range(len(choices)), key=lambda index: -choices[index].signal)[: int(a * len(choices))]
    kept = [index for index in by_signal if choices[index].logprob1 > -b]
    kept.sort(key=lambda index: (-choices[index].logprob1, index))
    taken = set(kept[int((c - SLICE) * len(kept)) : int(c * len(kept))])
    users: dict[str | None, list[int]] = {}
    for index, choice in enumerate(choices):
        users.setdefault(choice.uid, []).append(index)
    for uid, places in users.items():
        last = max((place for place, index in enumerate(places) if index in taken), default=0)
        mids = [place for place in range(1, last - 1) if places[place] in taken]
        if last + 1 < LEAST or not mids:
            continue
        mid, end = choices[places[mids[-1]]], choices[places[last]]
        yield {
            "uid": uid,
            "history": [
                choices[index].original_history_item.model_dump(include={"query", "chosen", "rejected"})
                for index in places[: last + 1]
            ],
            "mid_position": mids[-1],
            "mid_record": mid.model_dump(include=SCORES),
            "last_record": end.model_dump(include=SCORES),
            "signal_gap": end.signal - mid.signal,
            "distance_to_end": last - mids[-1],
        }


@app.command()
def main(
    file: Path,
    out: Annotated[Path, Option(help="RL rows, as JSON Lines.")],
    a: Annotated[float, Option(min=0, max=1, help="Share of the choices, by signal.")],
    b: Annotated[float, Option(min=0, help="Lowest log-probability, without its sign.")],
    c: Annotated[float, Option(min=SLICE, max=1, help="End of the slice, of the likeliest at 0.")],
) -> None:
    report = ReadReport()
    try:
        rows = list(prune(read_choices(file, report), a, b, c))
        if not rows:
            raise DatasetError(f"{file}: no user has two choices in that slice; other values of a, b and c take others")
        with replace_file(out) as written:
            written.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    print(f"{len(rows):,} rows; {report.left_out:,} malformed lines", file=sys.stderr)


if __name__ == "__main__":
    app()
