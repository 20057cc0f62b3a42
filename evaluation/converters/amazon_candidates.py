"""Amazon with candidates, in LLMRank's layout of RecBole's atomic files: tab-separated tables whose header gives each
column a type, such as `item_id:token`. https://github.com/RUCAIBox/LLMRank

*.test.inter   user_id, item_id_list, item_id: a history in the order of time and the target
*.item         item_id, title
*.random       user and candidates that the user never takes, separated by spaces, without header

The negative is one of the candidates, with --negatives matched any equally popular item. Without times, popularity
counts the histories of other users, not targets. A target whose text is in the user's own history is left out.
"""

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from alignx.schemas.interactions import PurchaseInteraction
from alignx.schemas.items import ItemFields, item_text
from evaluation.cases.benchmark import Benchmark, Plan, Tally, find_single_file, make_target
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_fields, read_lines
from evaluation.cases.timeline import DRAWS
from training.exceptions import DatasetError

QUERY = "Which item would you take?"


def read_table(file: Path, tally: Tally, what: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The location and the columns of each row, without the types. Raises DatasetError when a column is missing or the
    header has no types."""
    header = next(read_lines(file), "").split("\t")
    names = [name.partition(":")[0] for name in header]
    missing = [name for name in columns if name not in names]
    if missing or not all(":" in name for name in header):
        needs = f"no column {', '.join(missing)}" if missing else "no header of the form name:type"
        raise DatasetError(f"{file} has {needs}")
    rows = read_fields(file, tally, what, separator="\t", fields=len(names))
    next(rows, None)
    tally.read[what] -= 1  # the header
    for location, values in rows:
        yield location, dict(zip(names, values, strict=True))


def _items(file: Path, tally: Tally) -> dict[str, ItemFields]:
    items: dict[str, ItemFields] = {}
    for _, row in read_table(file, tally, "items", ("item_id", "title")):
        if row["title"].strip():
            items[row["item_id"]] = ItemFields(id=row["item_id"], title=html.unescape(row["title"]))
        else:
            tally.left_out["items without a title"] += 1
    return items


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    file = find_single_file(folder, "*.test.inter")
    candidates = find_single_file(folder, "*.random")
    items = _items(find_single_file(folder, "*.item"), tally)
    candidates_of = {
        user: ids.split()
        for _, (user, ids) in read_fields(candidates, tally, "lists of candidates", separator="\t", fields=2)
    }
    users: dict[str, tuple[list[str], str]] = {}
    for _, row in read_table(file, tally, "users", ("user_id", "item_id_list", "item_id")):
        history = [item for item in row["item_id_list"].split() if item in items]
        if row["item_id"] in items and history:
            users[row["user_id"]] = (history, row["item_id"])
        else:
            tally.left_out["users without a known target or history"] += 1
    counts = Counter(
        item for history, _ in users.values() for item in dict.fromkeys(history)
    )  # a set has no fixed order
    pool = list(counts.elements())
    by_count: dict[int, list[str]] = {}
    for item in items:
        by_count.setdefault(counts[item], []).append(item)
    for user, (history, target) in users.items():
        own = {*history, target}
        if item_text(items[target]) in {item_text(items[item]) for item in history}:
            tally.left_out["users whose target stands in their history"] += 1
            continue
        rng = plan.rng("candidates", user)
        if plan.negatives == "popular":
            rejected = next((item for _ in range(DRAWS) if (item := rng.choice(pool)) not in own), None)
        else:
            others = by_count[counts[target]] if plan.negatives == "matched" else candidates_of.get(user, ())
            unseen = [item for item in others if item in items and item not in own]
            rejected = rng.choice(unseen) if unseen else None
        if rejected is None:
            tally.left_out["users without a candidate"] += 1
            continue
        pair = make_target(QUERY, items[target], items[rejected], tally)
        if pair is None:
            continue
        yield BenchmarkRow(
            userid=user,
            benchmark="amazon-candidates",
            history=tuple(PurchaseInteraction(item=items[item]) for item in plan.latest(history)),
            target=pair,
            popularity=(float(counts[target]), float(counts[rejected])),  # neither is in the user's own history
        )


CANDIDATES = Benchmark("amazon-candidates", "one *.test.inter, one *.item and one *.random", convert)
