"""MIND: clicks on news. https://msnews.github.io/ (microsoft/recommenders describes the columns)

news.tsv        id, category, subcategory, title, abstract, URL, two lists of entities
behaviors.tsv   impression, user, time, history (ids separated by spaces, oldest first), shown (id-1 clicked, id-0 not)

A row is an impression: one of its clicked articles against one shown beside it and not clicked, both drawn,
neither with a title of the history. Popularity counts clicks in impressions strictly before; histories of other
users do not count, since they have no times. `others` stays empty: an impression may show hundreds. With
--negatives popular the rejected article is drawn by those clicks, plus one; with matched it has exactly as many as
the chosen, and an impression without such an article is left out.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from alignx.schemas.interactions import ClickInteraction
from alignx.schemas.items import ItemFields
from evaluation.cases.benchmark import UNMATCHED, Benchmark, Plan, Tally, find_file, make_target
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_fields

QUERY = "Which article would you read?"
NEWS_FIELDS = 8
TIME = "%m/%d/%Y %I:%M:%S %p"


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    file = find_file(folder, "behaviors.tsv")
    articles = _articles(find_file(folder, "news.tsv"), tally)
    clicks = _click_times(file)
    for location, values in read_fields(file, tally, "impressions", separator="\t", fields=5):
        impression, user, at, history, shown = values
        time = _time(at)
        marks = [tuple(mark.rpartition("-")[::2]) for mark in shown.split()]
        if time is None or any(mark not in ("0", "1") for _, mark in marks):
            tally.add_malformed(location, "a time or a mark of another form")
            continue
        before = [name for name in history.split() if name in articles]
        read_titles = {articles[name].title for name in before}
        new = [(name, mark) for name, mark in marks if name in articles and articles[name].title not in read_titles]
        clicked = [name for name, mark in new if mark == "1"]
        skipped = [name for name, mark in new if mark == "0" and name not in clicked]
        if not (before and clicked and skipped):
            lacking = f"impressions without a new article that was {'not ' if clicked else ''}clicked"
            tally.left_out[lacking if before else "impressions of users without a history"] += 1
            continue

        def popularity(name: str, now: float = time) -> int:
            return bisect_left(clicks.get(name, ()), now)

        rng = plan.rng("mind", impression)
        chosen = rng.choice(clicked)
        counts = [popularity(name) for name in skipped]
        if plan.negatives == "matched":
            skipped = [name for name, count in zip(skipped, counts, strict=True) if count == popularity(chosen)]
            if not skipped:
                tally.left_out[UNMATCHED] += 1
                continue
        weights = [count + 1 for count in counts] if plan.negatives == "popular" else None
        rejected = rng.choices(skipped, weights)[0]
        target = make_target(QUERY, articles[chosen], articles[rejected], tally)
        if target is None:
            continue
        yield BenchmarkRow(
            userid=user,
            benchmark="mind",
            history=tuple(ClickInteraction(clicked=articles[name], source="news") for name in plan.latest(before)),
            target=target,
            popularity=(popularity(chosen), popularity(rejected)),
        )


def _articles(file: Path, tally: Tally) -> dict[str, ItemFields]:
    articles = {}
    for _, values in read_fields(file, tally, "articles", separator="\t", fields=NEWS_FIELDS):
        name, category, subcategory, title, abstract = values[:5]
        if title.strip():
            labels = [label for label in (category, subcategory) if label]
            description = abstract.strip() or None
            articles[name] = ItemFields(
                id=name, title=title, category=", ".join(labels) or None, description=description
            )
        else:
            tally.left_out["articles without a title"] += 1
    return articles


def _click_times(file: Path) -> dict[str, "array[float]"]:
    """For each article the times of its clicks, sorted."""
    clicks: dict[str, array[float]] = {}
    for _, values in read_fields(file, Tally(), "impressions", separator="\t", fields=5):
        time = _time(values[2])
        for mark in values[4].split():
            if time is not None and mark.endswith("-1"):
                clicks.setdefault(mark[:-2], array("d")).append(time)
    return {name: array("d", sorted(times)) for name, times in clicks.items()}


def _time(text: str) -> float | None:
    """Seconds. The files name no time zone; only the order matters."""
    try:
        return datetime.strptime(text, TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


MIND = Benchmark("mind", "news.tsv and behaviors.tsv", convert)
