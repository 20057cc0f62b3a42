"""How well the fast profile foresees choices on the public P-Soups files, and what it costs.

    python -m bench.profile_quality

Each user's four history pairs are folded in as comparisons, then the target pair is scored; "longer
wins" is the accuracy of always choosing the longer text. The persona and profile fields of the files
are never read. Where ../shared/data is absent, the histories in examples/ tell speed and size alone.
"""

import json
import statistics
import time
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any, NamedTuple

from alignx.schemas.interactions import INTERACTION, ComparisonInteraction, Interaction, Pair
from alignx.schemas.items import item_text
from bench.result import Row
from services.profile.fold import fold
from services.profile.scoring import probabilities, scores
from services.profile.serialize import dumps
from services.profile.statistics import EMPTY, Profile

ROOT = Path(__file__).resolve().parents[1]
PSOUPS = ROOT.parent / "shared" / "data" / "psoups"
EXAMPLES = ROOT / "examples"
HISTORY = "Pair-wise Comparative Feedback"
REPEATS = 5
"""A time is the best of so many runs: what else the machine does only adds to it."""


class Case(NamedTuple):
    """One user: what is folded in, and the choice to foresee."""

    history: tuple[Interaction, ...]
    target: Pair


def read_psoups(path: Path) -> list[Case]:
    return [Case(tuple(map(_choice, row[HISTORY])), _choice(row).pairs()[0]) for row in json.loads(path.read_text())]


def _choice(row: dict[str, Any]) -> ComparisonInteraction:
    return ComparisonInteraction(query=row["prompt"], chosen=row["chosen"], rejected=row["rejected"])


def read_example(path: Path) -> Case:
    """The history up to its last choice, and that choice."""
    events = [INTERACTION.validate_json(line) for line in path.read_bytes().splitlines()]
    last = max(place for place, event in enumerate(events) if event.pairs())
    return Case(tuple(events[:last]), events[last].pairs()[0])


def measure() -> list[Row]:
    files = sorted(PSOUPS.glob("*.json"))
    if not files:
        return cost([read_example(path) for path in sorted(EXAMPLES.glob("*.jsonl"))])
    groups = {path.stem: read_psoups(path) for path in files}
    rows = [row for name, cases in groups.items() for row in quality(name, cases)]
    return rows + cost([case for cases in groups.values() for case in cases])


def quality(name: str, cases: Sequence[Case]) -> list[Row]:
    profiles = [folded(case.history) for case in cases]
    margins, losses, longer = [], [], []
    for profile, (_, (query, chosen, rejected)) in zip(profiles, cases, strict=True):
        here, there = scores(profile, query, (chosen, rejected))
        margins.append(here - there)
        losses.append(-log(probabilities(profile, query, (chosen, rejected))[0]))
        longer.append(float(len(item_text(chosen)) - len(item_text(rejected))))
    return [
        Row(f"{name}: accuracy on {len(cases)} users", accuracy(margins), "%", "≥ 74"),
        Row(f"{name}: longer wins", accuracy(longer), "%"),
        Row(f"{name}: log loss (a coin: 0.693)", statistics.fmean(losses), "nats"),
    ]


def accuracy(margins: Sequence[float]) -> float:
    """Per cent of margins above 0, a tie counting half."""
    return 100 * statistics.fmean((margin > 0) + 0.5 * (margin == 0) for margin in margins)


def folded(history: Sequence[Interaction]) -> Profile:
    profile = EMPTY
    for event in history:
        profile, _ = fold(profile, event)
    return profile


def cost(cases: Sequence[Case]) -> list[Row]:
    """Microseconds of one event and of one choice between two items, and bytes of a stored profile."""
    folds, choices = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        profiles = [folded(case.history) for case in cases]
        middle = time.perf_counter()
        for profile, (_, (query, chosen, rejected)) in zip(profiles, cases, strict=True):
            scores(profile, query, (chosen, rejected))
        folds.append((middle - started) / sum(len(case.history) for case in cases))
        choices.append((time.perf_counter() - middle) / len(cases))
    sizes = [len(dumps(profile)) for profile in profiles]
    return [
        Row("fold one event", 1e6 * min(folds), "µs"),
        Row("score two items", 1e6 * min(choices), "µs"),
        Row("a stored profile, mean", statistics.fmean(sizes), "bytes"),
        Row("a stored profile, largest", max(sizes), "bytes"),
    ]


if __name__ == "__main__":
    for row in measure():
        print(f"{row.figure:<44} {row.value:>10,.2f} {row.unit:<8} {row.must}")
