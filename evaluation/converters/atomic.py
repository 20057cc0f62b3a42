"""RecBole's atomic files: tables by tabs whose header gives each column a type, such as `item_id:token`.
https://recbole.io/docs/user_guide/data/atomic_files.html

recbole             *.inter (user_id, item_id, timestamp, and rating where there is one) and *.item (item_id,
                    a title, perhaps categories). With ratings a row is as MovieLens'; without, all are purchases.
amazon-candidates   LLMRank's layout (https://github.com/RUCAIBox/LLMRank): *.test.inter (user_id, item_id_list,
                    item_id: a history in the order of time and the target), *.item (item_id, title) and *.random
                    (user and candidates that the user never took, by blanks, without header). The negative is one
                    of the candidates, with --negatives matched any item that as many have. Without times,
                    popularity counts the histories of other users, not targets. A target whose text stands in
                    the user's own history is left out.

Uncertain: RecBole leaves the names of title and categories to each data set; TITLES and CATEGORIES list
what its own conversions use.
"""

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from alignx.schemas.interactions import Interaction, PurchaseInteraction, RatingInteraction
from alignx.schemas.items import ItemFields, item_text
from evaluation.cases.benchmark import Benchmark, Plan, Tally, against, only_file
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import split_lines, text_lines
from evaluation.cases.timeline import DRAWS, Timeline
from training.exceptions import DatasetError

QUERY = "Which item would you take?"
TITLES = ("title", "movie_title", "name", "item_name", "product_title", "book_title", "track_name")
CATEGORIES = ("category", "categories", "class", "genre", "genres", "tags")
SCALE = (1.0, 5.0)


def table(file: Path, tally: Tally, what: str, wanted: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The place and the columns of each row, without the types. Raises DatasetError when a column is
    not there or the header has no types."""
    header = next(text_lines(file), "").split("\t")
    names = [name.partition(":")[0] for name in header]
    missing = [name for name in wanted if name not in names]
    if missing or not all(":" in name for name in header):
        needs = f"no column {', '.join(missing)}" if missing else "no header of the form name:type"
        raise DatasetError(f"{file} has {needs}")
    rows = split_lines(file, tally, what, separator="\t", fields=len(names))
    next(rows, None)
    tally.read[what] -= 1  # the header
    for place, values in rows:
        yield place, dict(zip(names, values, strict=True))


def items_of(file: Path, tally: Tally) -> dict[str, ItemFields]:
    items: dict[str, ItemFields] = {}
    for _, row in table(file, tally, "items", ("item_id",)):
        title = next((row[name] for name in TITLES if row.get(name)), "")
        if not any(name in row for name in TITLES):
            raise DatasetError(f"{file} has no column {' or '.join(TITLES)}")
        category = next((row[name] for name in CATEGORIES if row.get(name)), None)
        if title.strip():
            items[row["item_id"]] = ItemFields(id=row["item_id"], title=html.unescape(title), category=category)
        else:
            tally.left_out["items without a title"] += 1
    return items


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    file = only_file(folder, "*.inter")
    items = items_of(only_file(folder, "*.item"), tally)
    timeline, rated = Timeline(), False
    for place, row in table(file, tally, "interactions", ("user_id", "item_id", "timestamp")):
        rated = "rating" in row
        try:
            value, time = float(row.get("rating", plan.liked)), float(row["timestamp"])
        except ValueError:
            tally.malformed(place, "a rating or a timestamp that is no number")
            continue
        if rated and not SCALE[0] <= value <= SCALE[1]:
            tally.malformed(place, "a rating outside 1 to 5")
        elif row["item_id"] not in items:
            tally.left_out["interactions with items that are not listed"] += 1
        else:
            timeline.add(row["user_id"], row["item_id"], time, value)
    names = timeline.names

    def event(number: int) -> Interaction:
        item = items[names[timeline.item_of(number)]]
        at = datetime.fromtimestamp(timeline.time_of(number), UTC)
        if not rated:
            return PurchaseInteraction(item=item, occurred_at=at)
        return RatingInteraction(item=item, value=timeline.value_of(number), scale=SCALE, occurred_at=at)

    for moment in timeline.moments(plan, tally):
        target = against(QUERY, items[names[moment.chosen]], items[names[moment.rejected]], tally)
        if target is None:
            continue
        yield BenchmarkRow(
            userid=moment.user,
            benchmark="recbole",
            history=tuple(map(event, moment.history)),
            target=target,
            popularity=moment.popularity,
        )


def convert_candidates(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    file = only_file(folder, "*.test.inter")
    candidates = only_file(folder, "*.random")
    items = items_of(only_file(folder, "*.item"), tally)
    offered = {
        user: listed.split()
        for _, (user, listed) in split_lines(candidates, tally, "lists of candidates", separator="\t", fields=2)
    }
    users: dict[str, tuple[list[str], str]] = {}
    for _, row in table(file, tally, "users", ("user_id", "item_id_list", "item_id")):
        history = [item for item in row["item_id_list"].split() if item in items]
        if row["item_id"] in items and history:
            users[row["user_id"]] = (history, row["item_id"])
        else:
            tally.left_out["users without a known target or history"] += 1
    seen = Counter(item for history, _ in users.values() for item in dict.fromkeys(history))  # a set has no fixed order
    drawn_from = list(seen.elements())
    as_often: dict[int, list[str]] = {}
    for item in items:
        as_often.setdefault(seen[item], []).append(item)
    for user, (history, target) in users.items():
        own = {*history, target}
        if item_text(items[target]) in {item_text(items[item]) for item in history}:
            tally.left_out["users whose target stands in their history"] += 1
            continue
        rng = plan.rng("candidates", user)
        if plan.negatives == "matched":
            fit = [item for item in as_often[seen[target]] if item not in own]
            rejected = rng.choice(fit) if fit else None
        elif plan.negatives == "popular":
            rejected = next((item for _ in range(DRAWS) if (item := rng.choice(drawn_from)) not in own), None)
        else:
            fit = [item for item in offered.get(user, ()) if item in items and item not in own]
            rejected = rng.choice(fit) if fit else None
        if rejected is None:
            tally.left_out["users without a candidate"] += 1
            continue
        aim = against(QUERY, items[target], items[rejected], tally)
        if aim is None:
            continue
        yield BenchmarkRow(
            userid=user,
            benchmark="amazon-candidates",
            history=tuple(PurchaseInteraction(item=items[item]) for item in plan.recent(history)),
            target=aim,
            popularity=(float(seen[target]), float(seen[rejected])),  # neither is in the user's own history
        )


RECBOLE = Benchmark("recbole", "one *.inter (user_id, item_id, timestamp, perhaps rating) and one *.item", convert)
CANDIDATES = Benchmark("amazon-candidates", "one *.test.inter, one *.item and one *.random", convert_candidates)
