"""How well the fast profile foresees choices on public benchmarks, without a model, beside baselines.

    .venv-training/bin/python -m bench.profile_benchmarks [NAME …] [--limit N]

The rows are those of `python -m evaluation.converters` on the parts in ../shared/data. "Profile" scores by
the statistics, "text alone" by a profile that has read the summary and nothing else. "Kept aside" is the
half of the users, by a checksum of their ids, that no feature and no sentence was chosen on; P-Soups has
none. Popularity is how often others took the items before; where it is known, items carry it except in the
row that says so, and "popularity" is the accuracy of the more popular item. Negatives drawn by popularity
are at least as popular as what users take, so there the row without it is the one to read. "Category"
counts earlier events of the item's categories. MIND is one pair an impression, so its accuracy is the mean
AUC of an impression, estimated. PrefEval is a choice of four.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from alignx.schemas.interactions import ClickInteraction, Interaction, PurchaseInteraction, RatingInteraction
from alignx.schemas.items import Item, item_text
from bench.page import keep
from bench.result import Row
from evaluation.cases.benchmark import Negatives, Plan, Tally
from evaluation.cases.cases import Case, flipped
from evaluation.converters.__main__ import BENCHMARKS
from evaluation.scoring.choice_scores import folded, offered
from evaluation.scoring.metrics import right as hit
from evaluation.scoring.profile_scores import popular
from services.profile.fold import apply_own_text
from services.profile.item_features import extract_features
from services.profile.render import render
from services.profile.scoring import scores
from services.profile.statistics import EMPTY, Profile

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
FLIPPED, SEED = 0.3, 42


@dataclass(frozen=True)
class Source:
    """A benchmark, its files, and what the profile must reach on it."""

    benchmark: str
    folder: str
    kind: str = ""
    negatives: Negatives = "random"
    targets: int = 1
    must: str = ""


SOURCES = {
    "Style": Source("psoups", "psoups", kind="style", must="≥ 77"),
    "Expertise": Source("psoups", "psoups", kind="expertise", must="≥ 77"),
    "MovieLens": Source("movielens", "movielens/ml-100k", targets=3, must="≥ 77.3"),
    "MovieLens, negatives by popularity": Source("movielens", "movielens/ml-100k", negatives="popular", targets=3),
    "Amazon games": Source("amazon-candidates", "amazon/games", must="≥ 85.4"),
    "Amazon games, negatives by popularity": Source("amazon-candidates", "amazon/games", negatives="popular"),
    "MIND": Source("mind", "mind"),
    "PrefEval explicit": Source("prefeval", "prefeval", kind="explicit", must="≥ 50"),
    "PrefEval choice-based": Source("prefeval", "prefeval", kind="choice", must="≥ 50"),
    "PrefEval persona-driven": Source("prefeval", "prefeval", kind="persona", must="≥ 50"),
}

Scorer = Callable[[Case, Sequence[Item]], Sequence[float]]


def users_of(source: Source, limit: int | None) -> list[Case]:
    plan = Plan(negatives=source.negatives, targets=source.targets)
    found = []
    for row in BENCHMARKS[source.benchmark].convert(DATA / source.folder, plan, Tally()):
        if row.target is not None and row.kind == source.kind:
            found.append(Case.of_benchmark(row, row.target))
    return found[:limit]


def of_category(case: Case) -> list[float]:
    """For each item how many earlier events had one of its categories."""
    counts: dict[str, int] = {}
    for event in case.history:
        for label in _labels(_taken(event)):
            counts[label] = counts.get(label, 0) + 1
    return [float(sum(counts.get(label, 0) for label in _labels(item))) for item in offered(case)]


def _taken(event: Interaction) -> Item:
    match event:
        case ClickInteraction():
            return event.clicked
        case PurchaseInteraction() | RatingInteraction():
            return event.item
    return ""


def _labels(item: Item) -> tuple[str, ...]:
    return extract_features(item).categories


def measure(name: str, source: Source, limit: int | None) -> list[Row]:
    users = users_of(source, limit)
    profiles = [folded(user.history) for user in users]
    texts = [apply_own_text(EMPTY, render(profile)) for profile in profiles]
    turned = [folded(case.history) for case in flipped(users, FLIPPED, seed=SEED)]

    def hits(known: Sequence[Profile], *, popularity: bool = True) -> list[float]:
        return [
            hit(scores(profile, user.target.query, popular(user) if popularity else offered(user)))
            for profile, user in zip(known, users, strict=True)
        ]

    full = hits(profiles)
    aside = [value for value, user in zip(full, users, strict=True) if user.aside]
    rows = [
        Row(f"{name}: profile, {len(users)} rows, ±{_half_width(full):.1f}", _percent(full), "%", source.must),
        Row(f"{name}: text alone", _percent(hits(texts)), "%"),
    ]
    if aside:
        told = f"{name}: profile, {len(aside)} rows kept aside, ±{_half_width(aside):.1f}"
        rows.insert(1, Row(told, _percent(aside), "%"))
    if turned != profiles:
        rows.append(Row(f"{name}: profile, 30 % of choices flipped", _percent(hits(turned)), "%"))
    if any(user.popularity for user in users):
        rows.append(Row(f"{name}: profile, no popularity given", _percent(hits(profiles, popularity=False)), "%"))
        rows.append(Row(f"{name}: popularity", _percent([hit(user.popularity or (0, 0)) for user in users]), "%"))
    if any(map(any, map(of_category, users))):
        rows.append(Row(f"{name}: category", _percent([hit(of_category(user)) for user in users]), "%"))
    longer = [hit([len(item_text(item)) for item in offered(user)]) for user in users]
    rows.append(Row(f"{name}: longer wins", _percent(longer), "%"))
    return [*rows, Row(f"{name}: random", 100 / len(offered(users[0])), "%")]


def _percent(values: Sequence[float]) -> float:
    return 100 * statistics.fmean(values) if values else 0.0


def _half_width(values: Sequence[float]) -> float:
    """Of the 95 % interval of the mean, in points: 1.96 standard errors."""
    return 196 * statistics.stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SOURCES)}; default: all")
    parser.add_argument("--limit", type=int, help="users of each; prints the table and keeps nothing")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(SOURCES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(SOURCES)}")
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is absent: the benchmarks' parts are read from there")
    rows = []
    for name, source in SOURCES.items():
        if not asked.names or name in asked.names:
            found = measure(name, source, asked.limit)
            rows += found
            for row in found:
                print(f"{row.figure:<80} {row.value:>8.2f} {row.unit} {row.must}", flush=True)
    if not asked.names and asked.limit is None:
        keep("profile_benchmarks", rows, __doc__ or "")


if __name__ == "__main__":
    main()
