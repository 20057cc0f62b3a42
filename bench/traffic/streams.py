"""Public recommendation data as a stream: the events of all users in the order of time, and the choices to foresee.

A target comes before every event of its own time, so that what foresees it knows the past alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from alignx.schemas.interactions import ClickInteraction, Interaction, PurchaseInteraction, RatingInteraction
from evaluation.cases.benchmark import NEGATIVES, Negatives, Plan, Tally, find_file, find_single_file
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_fields
from evaluation.converters import amazon_candidates, mind, movielens

START = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
"""Time of all events of the games, which have none."""


class Target(NamedTuple):
    user: str
    time: float
    negatives: Negatives
    row: BenchmarkRow


class Event(NamedTuple):
    user: str
    time: float
    interaction: Interaction


@dataclass(frozen=True)
class _Noted(Plan):
    """Notes for what each row was drawn: MIND's rows do not name their impression."""

    names: list[str] = field(default_factory=list)

    def rng(self, *keys: object) -> Any:
        self.names.append(str(keys[-1]))
        return super().rng(*keys)


def read_movielens(folder: Path) -> Iterator[Target | Event]:
    items = movielens._items(folder, "u.data", Tally())
    targets = defaultdict(list)
    for negatives in NEGATIVES:
        for row in movielens.convert(folder, Plan(negatives=negatives), Tally()):
            assert row.target
            assert not isinstance(row.target.chosen, str)
            targets[row.userid, row.target.chosen.id].append((negatives, row))
    events, found = list[Event](), list[Target]()
    for _, (user, film, stars, seconds) in read_fields(folder / "u.data", Tally(), "", separator="\t", fields=4):
        if film in items:
            time = float(seconds)
            events.append(Event(user, time, RatingInteraction(item=items[film], value=float(stars))))
            found += [Target(user, time, *target) for target in targets.pop((user, film), ())]
    yield from _in_time([*found, *events])


def read_games(folder: Path) -> Iterator[Target | Event]:
    """The histories of all users, and then their next purchases."""
    items = amazon_candidates._items(find_single_file(folder, "*.item"), Tally())
    table = find_single_file(folder, "*.test.inter")
    columns = ("user_id", "item_id_list", "item_id")
    for _, row in amazon_candidates.read_table(table, Tally(), "", columns):
        for name in row["item_id_list"].split():
            if name in items:
                yield Event(row["user_id"], START, PurchaseInteraction(item=items[name]))
    for negatives in NEGATIVES:
        for target in amazon_candidates.convert(folder, Plan(negatives=negatives), Tally()):
            yield Target(target.userid, START, negatives, target)


def read_mind(folder: Path) -> Iterator[Target | Event]:
    """Impressions; before a user's first one the clicks of the history, which have no times."""
    articles = mind._articles(find_file(folder, "news.tsv"), Tally())
    targets = defaultdict(list)
    for negatives in NEGATIVES:
        plan = _Noted(negatives=negatives)
        for row in mind.convert(folder, plan, Tally()):
            targets[plan.names[-1]].append((negatives, row))
    steps, begun = list[Target | Event](), dict[str, tuple[float, list[str]]]()
    for _, values in read_fields(find_file(folder, "behaviors.tsv"), Tally(), "", separator="\t", fields=5):
        impression, user, at, history, shown = values
        time = mind._time(at)
        assert time is not None
        if user not in begun or time < begun[user][0]:
            begun[user] = time, history.split()
        steps += [Target(user, time, *target) for target in targets.pop(impression, ())]
        marks = [mark.rpartition("-")[::2] for mark in shown.split()]
        page = tuple(articles[name] for name, _ in marks if name in articles)[:200]
        clicked = [articles[name] for name, mark in marks if mark == "1" and name in articles]
        steps += [Event(user, time, ClickInteraction(clicked=article, shown=page)) for article in clicked[:1]]
    earlier = [
        Event(user, time - 1, ClickInteraction(clicked=articles[name]))
        for user, (time, history) in begun.items()
        for name in history[-Plan().history :]
        if name in articles
    ]
    yield from _in_time([*earlier, *steps])


def _in_time(steps: Iterable[Target | Event]) -> Iterator[Target | Event]:
    for _, together in groupby(sorted(steps, key=attrgetter("time")), attrgetter("time")):
        yield from sorted(together, key=lambda step: isinstance(step, Event))


STREAMS = {
    "movielens": (read_movielens, "movielens/ml-100k"),
    "games": (read_games, "amazon/games"),
    "mind": (read_mind, "mind"),
}
