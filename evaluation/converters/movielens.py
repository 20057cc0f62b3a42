"""MovieLens: ratings of films. https://grouplens.org/datasets/movielens/

ml-100k           u.data (user, item, rating, timestamp, separated by tabs), u.item (by |, ISO 8859-1), u.genre
ml-1m             ratings.dat, movies.dat (by ::, ISO 8859-1)
ml-latest-small   ratings.csv, movies.csv with headers, as in ml-latest and ml-25m

The files of a folder tell which one it is. A row: the earlier ratings of a user, and a film to which the user then
gave at least four stars, against one the user never rates. Age, sex and occupation of users (u.user, users.dat) are
not read.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from alignx.schemas.interactions import RatingInteraction
from alignx.schemas.items import ItemFields
from evaluation.cases.benchmark import Benchmark, Plan, Tally, find_file
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_csv, read_fields
from evaluation.cases.timeline import Timeline, make_rows

QUERY = "Which film would you like?"
SCALES = {"u.data": (1.0, 5.0), "ratings.dat": (1.0, 5.0), "ratings.csv": (0.5, 5.0)}
LATIN = "iso-8859-1"


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    ratings = find_file(folder, *SCALES)
    items = _items(folder, ratings.name, tally)
    scale = SCALES[ratings.name]
    timeline = Timeline()
    for location, values in _ratings(ratings, tally):
        try:
            value, time = float(values[2]), float(values[3])
        except ValueError:
            tally.add_malformed(location, "a rating or a time that is no number")
            continue
        if not scale[0] <= value <= scale[1]:
            tally.add_malformed(location, f"a rating outside {scale[0]:g} to {scale[1]:g}")
        elif values[1] not in items:
            tally.left_out["ratings of films that are not listed"] += 1
        else:
            timeline.add(values[0], values[1], time, value)
    films = [items[name] for name in timeline.names]

    def event(number: int) -> RatingInteraction:
        film, time, stars = timeline.event(number)
        moment = datetime.fromtimestamp(time, UTC)
        return RatingInteraction(item=films[film], value=stars, scale=scale, occurred_at=moment)

    yield from make_rows(timeline.moments(plan, tally), "movielens", QUERY, films, event, tally)


def _ratings(file: Path, tally: Tally) -> Iterator[tuple[str, list[str]]]:
    if file.suffix == ".csv":
        columns = ("userId", "movieId", "rating", "timestamp")
        for location, row in read_csv(file, tally, "ratings", columns):
            yield location, [row[name] for name in columns]
    else:
        yield from read_fields(file, tally, "ratings", separator="::" if file.suffix == ".dat" else "\t", fields=4)


def _items(folder: Path, ratings: str, tally: Tally) -> dict[str, ItemFields]:
    if ratings == "u.data":
        films = _read_films_100k(folder, tally)
    elif ratings == "ratings.dat":
        file = find_file(folder, "movies.dat")
        lines = read_fields(file, tally, "films", separator="::", fields=3, encoding=LATIN)
        films = ((number, title, genres.split("|")) for _, (number, title, genres) in lines)
    else:
        rows = read_csv(find_file(folder, "movies.csv"), tally, "films", ("movieId", "title", "genres"))
        films = ((row["movieId"], row["title"], row["genres"].split("|")) for _, row in rows)
    items = {}
    for number, title, genres in films:
        if title.strip() and title != "unknown":
            labels = [genre for genre in genres if genre not in ("unknown", "(no genres listed)", "")]
            items[number] = ItemFields(id=number, title=title, category=", ".join(labels) or None)
        else:
            tally.left_out["films without a title"] += 1
    return items


def _read_films_100k(folder: Path, tally: Tally) -> Iterator[tuple[str, str, list[str]]]:
    rows = read_fields(find_file(folder, "u.genre"), tally, "genres", separator="|", fields=2)
    genres = [values[0] for _, values in rows]
    file = find_file(folder, "u.item")
    for _, values in read_fields(file, tally, "films", separator="|", fields=5 + len(genres), encoding=LATIN):
        flags = zip(genres, values[5:], strict=True)
        yield values[0], values[1], [genre for genre, flag in flags if flag == "1"]


MOVIELENS = Benchmark(
    "movielens",
    "ml-100k (u.data, u.item, u.genre), ml-1m (ratings.dat, movies.dat) or ml-latest-small (ratings.csv, movies.csv)",
    convert,
)
