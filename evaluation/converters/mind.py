"""MIND: clicks on news. https://msnews.github.io/ (microsoft/recommenders describes the columns)

news.tsv        id, category, subcategory, title, abstract, URL, two lists of entities
behaviors.tsv   impression, user, time, history (ids by blanks, oldest first), shown (id-1 clicked, id-0 not)

A row is an impression: one of its clicked articles against one that was shown beside it and not clicked,
both drawn, neither of a title in the history. Popularity counts clicks in impressions strictly before; the
histories of others are not counted, because nothing says when they were. `others` stays empty: an impression may
show hundreds. With --negatives popular the article not clicked is drawn by those clicks, plus one; with matched
it is one that had as many as the clicked, and an impression that shows none is left out.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from alignx.schemas.interactions import ClickInteraction
from alignx.schemas.items import ItemFields
from evaluation.cases.benchmark import UNMATCHED, Benchmark, Plan, Tally, against, as_popular, named_file
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import split_lines

QUERY = "Which article would you read?"
NEWS_FIELDS = 8
TIME = "%m/%d/%Y %I:%M:%S %p"


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    file = named_file(folder, "behaviors.tsv")
    articles = _articles(named_file(folder, "news.tsv"), tally)
    clicks = _click_times(file)
    for place, values in split_lines(file, tally, "impressions", separator="\t", fields=5):
        impression, user, told, history, shown = values
        time = _time(told)
        marks = [tuple(mark.rpartition("-")[::2]) for mark in shown.split()]
        if time is None or any(mark not in ("0", "1") for _, mark in marks):
            tally.malformed(place, "a time or a mark of another form")
            continue
        before = [name for name in history.split() if name in articles]
        known = {articles[name].title for name in before}
        new = [(name, mark) for name, mark in marks if name in articles and articles[name].title not in known]
        clicked = [name for name, mark in new if mark == "1"]
        passed = [name for name, mark in new if mark == "0" and name not in clicked]
        if not (before and clicked and passed):
            tally.left_out[_lack(before, clicked)] += 1
            continue

        def popularity(name: str, now: float = time) -> int:
            return bisect_left(clicks.get(name, ()), now)

        rng = plan.rng("mind", impression)
        chosen = rng.choice(clicked)
        counts = [popularity(name) for name in passed]
        if plan.negatives == "matched":
            passed = [passed[place] for place in as_popular(counts, popularity(chosen))]
            if not passed:
                tally.left_out[UNMATCHED] += 1
                continue
        weights = [count + 1 for count in counts] if plan.negatives == "popular" else None
        rejected = rng.choices(passed, weights)[0]
        target = against(QUERY, articles[chosen], articles[rejected], tally)
        if target is None:
            continue
        yield BenchmarkRow(
            userid=user,
            benchmark="mind",
            history=tuple(ClickInteraction(clicked=articles[name], source="news") for name in plan.recent(before)),
            target=target,
            popularity=(popularity(chosen), popularity(rejected)),
        )


def _lack(before: list[str], clicked: list[str]) -> str:
    if not before:
        return "impressions of users without a history"
    return f"impressions without a new article that was {'not ' if clicked else ''}clicked"


def _articles(file: Path, tally: Tally) -> dict[str, ItemFields]:
    articles = {}
    for _, values in split_lines(file, tally, "articles", separator="\t", fields=NEWS_FIELDS):
        name, category, subcategory, title, abstract = values[:5]
        if title.strip():
            labels = [label for label in (category, subcategory) if label]
            described = abstract.strip() or None
            articles[name] = ItemFields(id=name, title=title, category=", ".join(labels) or None, description=described)
        else:
            tally.left_out["articles without a title"] += 1
    return articles


def _click_times(file: Path) -> dict[str, "array[float]"]:
    """For each article the times at which it was clicked in an impression, in order."""
    clicks: dict[str, array[float]] = {}
    for _, values in split_lines(file, Tally(), "impressions", separator="\t", fields=5):
        time = _time(values[2])
        for mark in values[4].split():
            if time is not None and mark.endswith("-1"):
                clicks.setdefault(mark[:-2], array("d")).append(time)
    return {name: array("d", sorted(times)) for name, times in clicks.items()}


def _time(told: str) -> float | None:
    """Seconds; the files name no time zone, and only the order counts."""
    try:
        return datetime.strptime(told, TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


MIND = Benchmark("mind", "news.tsv and behaviors.tsv", convert)
