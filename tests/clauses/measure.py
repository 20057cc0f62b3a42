"""How well clauses are read: F1 of the claims' signs with a 95 % interval, and the share of false claims, by language.

    python -m tests.clauses.measure [FILE …] [--show LANGUAGE]

A row has `text`, `lang`, `source`, `kind` and `claims`. A claim counts as right if its sign is right and its target
shares a word with that of a labelled claim. A row that should claim nothing is false if anything is claimed of it.
`--show` prints the rows that went wrong.
"""

import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from services.profile.style_features import words
from services.statements.attitudes import Clause
from services.statements.clauses import read_clauses

SEEN, UNSEEN = Path(__file__).with_name("seen.jsonl"), Path(__file__).with_name("unseen.jsonl")
SPOKEN = ("post", "dialogue", "review")
UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]+")
RESAMPLES = 500


class Counts(NamedTuple):
    """Of one row or of several."""

    labelled: int = 0
    read: int = 0
    recalled: int = 0
    right: int = 0
    empty: int = 0
    """Rows that should claim nothing."""
    false: int = 0
    """Those of them of which something is claimed."""


def load(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def claims_of(row: Mapping[str, Any]) -> list[Clause]:
    clauses = read_clauses(row["text"], statement=row["source"] not in SPOKEN)
    return [clause for clause in clauses if clause.polarity and clause.target]


def compare(row: Mapping[str, Any]) -> Counts:
    labelled, read = row["claims"], claims_of(row)
    right = [any(_agree(label, clause) for label in labelled) for clause in read]
    recalled = [any(_agree(label, clause) for clause in read) for label in labelled]
    return Counts(len(labelled), len(read), sum(recalled), sum(right), not labelled, not labelled and bool(read))


def _agree(label: Mapping[str, Any], clause: Clause) -> bool:
    return bool(_words(label["target"]) & _words(clause.target)) and (label["polarity"] > 0) == (clause.polarity > 0)


def _words(target: str) -> set[str]:
    """Its words, or its pairs of characters where words are not set apart."""
    return {word for word in words(target) if not UNSPACED.match(word)} | {
        "".join(pair) for run in UNSPACED.findall(target) for pair in (pairwise(run) if len(run) > 1 else run)
    }


def total(counts: Iterable[Counts]) -> Counts:
    return Counts(*map(sum, zip(Counts(), *counts, strict=True)))


def f1(counts: Counts) -> float:
    precision = counts.right / counts.read if counts.read else 0.0
    recall = counts.recalled / counts.labelled if counts.labelled else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def interval(rows: list[Counts]) -> tuple[float, float]:
    """The bootstrap's 95 % interval of F1."""
    generator = random.Random(1)
    values = sorted(f1(total(generator.choices(rows, k=len(rows)))) for _ in range(RESAMPLES))
    return values[int(0.025 * RESAMPLES)], values[int(0.975 * RESAMPLES)]


def measure(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Counts]]:
    by_language: dict[str, list[Counts]] = defaultdict(list)
    for row in rows:
        by_language[row["lang"]].append(compare(row))
    return by_language


def write(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main(arguments: list[str]) -> None:
    shown = arguments[arguments.index("--show") + 1] if "--show" in arguments else ""
    paths = [Path(name) for name in arguments if name.endswith(".jsonl")]
    rows = [row for path in paths or [SEEN, UNSEEN] if path.exists() for row in load(path)]
    by_language = measure(rows)
    by_language["all"] = [counts for listed in by_language.values() for counts in listed]
    write(f"{'':4} {'rows':>5} {'F1':>6}  95 % interval  precision recall  false claims")
    for language, listed in by_language.items():
        counts = total(listed)
        low, high = interval(listed)
        write(
            f"{language:4} {len(listed):5} {f1(counts):6.3f}  {low:.3f} to {high:.3f}"
            f"  {counts.right / max(1, counts.read):9.3f} {counts.recalled / max(1, counts.labelled):6.3f}"
            f"  {counts.false} of {counts.empty}"
        )
    for row in rows:
        counts = compare(row)
        if shown == row["lang"] and (counts.recalled < counts.labelled or counts.right < counts.read):
            write(f"\n[{row['kind']}, {row['source']}] {row['text']}\n  right: {row['claims']}")
            write(f"  read:  {[(clause.target, clause.polarity) for clause in claims_of(row)]}")


if __name__ == "__main__":
    main(sys.argv[1:])
