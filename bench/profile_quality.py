"""How well the fast profile foresees choices on the public P-Soups files, and what it costs.

Each user's four history pairs are folded in as comparisons, then the target pair is scored. Beside
the accuracy stand "longer wins" and random, the mean log loss, the time of one fold and of one score,
and the bytes of a stored profile. The persona and profile fields of the files are never read.

    python bench/profile_quality.py [--data ../shared/data/psoups] [--out result.json]
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any, NamedTuple

from services.core.folding import fold
from services.core.profile import EMPTY, Profile, dumps, probabilities, scores
from services.core.schemas import ComparisonInteraction, item_text

HISTORY = "Pair-wise Comparative Feedback"


class Row(NamedTuple):
    history: tuple[ComparisonInteraction, ...]
    target: ComparisonInteraction


def read_rows(path: Path) -> list[Row]:
    return [Row(tuple(map(_pair, row[HISTORY])), _pair(row)) for row in json.loads(path.read_text("utf-8"))]


def _pair(row: dict[str, Any]) -> ComparisonInteraction:
    return ComparisonInteraction(query=row["prompt"], chosen=row["chosen"], rejected=row["rejected"])


def accuracy(margins: Sequence[float]) -> float:
    """Per cent of margins above 0, a tie counting half."""
    return 100 * statistics.fmean((margin > 0) + 0.5 * (margin == 0) for margin in margins)


def interval(margins: Sequence[float], draws: int = 1_000) -> tuple[float, float]:
    """95 % bootstrap interval of `accuracy`."""
    source = random.Random(42)
    found = sorted(accuracy(source.choices(margins, k=len(margins))) for _ in range(draws))
    return found[int(0.025 * draws)], found[int(0.975 * draws)]


def measure_file(rows: Sequence[Row]) -> dict[str, Any]:
    source = random.Random(42)
    margins, losses, longer, chance = [], [], [], []
    profiles: list[Profile] = []
    started = time.perf_counter()
    for row in rows:
        profile = EMPTY
        for event in row.history:
            profile, _ = fold(profile, event)
        profiles.append(profile)
    folded = time.perf_counter() - started
    started = time.perf_counter()
    for profile, row in zip(profiles, rows, strict=True):
        chosen, rejected = scores(profile, row.target.query or "", (row.target.chosen, row.target.rejected))
        margins.append(chosen - rejected)
    scored = time.perf_counter() - started
    for profile, row in zip(profiles, rows, strict=True):
        items = (row.target.chosen, row.target.rejected)
        losses.append(-log(probabilities(profile, row.target.query or "", items)[0]))
        longer.append(float(len(item_text(items[0])) - len(item_text(items[1]))))
        chance.append(source.choice((-1.0, 1.0)))
    low, high = interval(margins)
    return {
        "rows": len(rows),
        "accuracy": round(accuracy(margins), 1),
        "interval_95": [round(low, 1), round(high, 1)],
        "longer_wins": round(accuracy(longer), 1),
        "random": round(accuracy(chance), 1),
        "log_loss": round(statistics.fmean(losses), 3),
        "fold_us": round(1e6 * folded / sum(len(row.history) for row in rows), 1),
        "score_us": round(1e6 * scored / len(rows), 1),
        "bytes": round(statistics.fmean(len(dumps(profile)) for profile in profiles)),
        "bytes_max": max(len(dumps(profile)) for profile in profiles),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/psoups"))
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    options = parser.parse_args()
    files = sorted(options.data.glob("*.json"))
    if not files:
        sys.exit(f"no P-Soups files in {options.data}; give their folder with --data")
    results = {path.stem: measure_file(read_rows(path)) for path in files}
    for name, result in results.items():
        print(name)
        for key, value in result.items():
            print(f"  {key:<12} {value}")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
