"""Small files in the official formats, with rows written for these tests; nothing in them is real."""

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from evaluation.cases.benchmark import Plan, Tally
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.converters.registry import BENCHMARKS

SECRET = "zebra-7q"
"""Stands in every field that must not enter a row: personas, profiles, system messages, who users are."""

GENRES = ("unknown", "Action", "Comedy", "Drama")
FILMS = {
    "1": ("Red Hill (1990)", ("Action",)),
    "2": ("Blue Sea (1991)", ("Comedy", "Drama")),
    "3": ("Green Lake (1992)", ("Drama",)),
    "4": ("Grey Café (1993)", ("Comedy",)),
    "5": ("Black Road (1994)", ("Action", "Drama")),
}
RATINGS = [
    ("ann", "1", 5, 10),
    ("ben", "2", 4, 11),
    ("ann", "2", 2, 20),
    ("ben", "1", 5, 21),
    ("ben", "3", 4, 22),
    ("ann", "3", 4, 30),
    ("ann", "4", 1, 40),
    ("cat", "5", 5, 50),
]
"""User, film, stars, seconds. Ann's last liking is 3 at 30, Ben's 3 at 22; Cat has nothing before hers."""


def run_converter(name: str, folder: Path, plan: Plan | None = None) -> tuple[list[BenchmarkRow], Tally]:
    tally = Tally()
    rows = list(BENCHMARKS[name].convert(folder, plan or Plan(), tally))
    assert SECRET not in "".join(row.line().decode() for row in rows)
    return rows, tally


def lines(path: Path, rows: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def ml_100k(folder: Path, ratings: Sequence[tuple[str, str, int, int]] = RATINGS) -> Path:
    lines(folder / "u.genre", [*(f"{name}|{place}" for place, name in enumerate(GENRES)), ""])
    lines(folder / "u.data", ("\t".join(map(str, row)) for row in ratings))
    lines(folder / "u.user", [f"ann|24|F|{SECRET}|85711"])
    films = (
        f"{number}|{title}|01-Jan-1990||http://films.example/{number}|"
        + "|".join(str(int(genre in genres)) for genre in GENRES)
        for number, (title, genres) in FILMS.items()
    )
    (folder / "u.item").write_text("\n".join(films), encoding="iso-8859-1")
    return folder


def ml_1m(folder: Path) -> Path:
    lines(folder / "ratings.dat", ("::".join(map(str, row)) for row in RATINGS))
    films = (f"{number}::{title}::{'|'.join(genres)}" for number, (title, genres) in FILMS.items())
    (folder / "movies.dat").write_text("\n".join(films), encoding="iso-8859-1")
    lines(folder / "users.dat", [f"ann::F::24::{SECRET}::85711"])
    return folder


def ml_latest_small(folder: Path) -> Path:
    lines(folder / "ratings.csv", ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in RATINGS)])
    films = (f'{number},"{title}",{"|".join(genres)}' for number, (title, genres) in FILMS.items())
    lines(folder / "movies.csv", ["movieId,title,genres", *films])
    return folder


def review(user: str, product: str, stars: int, at: int, **changed: Any) -> dict[str, Any]:
    named = {"reviewerID": user, "asin": product, "overall": float(stars), "unixReviewTime": at}
    return named | {"summary": f"On {product}", "reviewText": f"{stars} &amp; done", "reviewerName": SECRET} | changed


def amazon(folder: Path, reviews: Sequence[object] | None = None) -> Path:
    rows = [review(*row) for row in RATINGS] if reviews is None else reviews
    lines(folder / "Films_5.json.gz", rows)
    products = [
        {
            "asin": number,
            "title": title.replace("Red", "Red &amp; White"),
            "category": ["Films", "Films", *genres],
            "brand": "Reel",
            "price": "$9.99",
            "description": [f"<b>All</b> of {title}"],
        }
        for number, (title, genres) in FILMS.items()
    ]
    lines(folder / "meta_Films.json.gz", products)
    return folder


def candidates(folder: Path) -> Path:
    users = ["7\t1 2 3\t4", "8\t2 3\t5", "9\t3\t1"]
    lines(folder / "Games.test.inter", ["user_id:token\titem_id_list:token_seq\titem_id:token", *users])
    items = (f"{number}\t{title}" for number, (title, _) in FILMS.items())
    lines(folder / "Games.item", ["item_id:token\ttitle:token_seq", *items])
    lines(folder / "Games.random", ["7\t5 1", "8\t1 4", "9\t4 5"])
    return folder


def mind(folder: Path) -> Path:
    topics = (("sports", "golf"), ("news", "world"), ("food", ""), ("sports", "judo"), ("news", "local"), ("tv", ""))
    news = (
        "\t".join((f"N{number}", topic, part, f"Title {number}", f"About {number}", "https://a.example", "[]", "[]"))
        for number, (topic, part) in enumerate(topics, 1)
    )
    lines(folder / "news.tsv", news)
    behaviors = [
        ("1", "U1", "11/12/2019 2:00:00 PM", "N1 N2", "N3-1 N4-0 N5-0"),
        ("2", "U2", "11/12/2019 11:00:00 AM", "N1", "N4-1 N3-0"),
        ("3", "U3", "11/12/2019 1:00:00 PM", "", "N4-1 N5-0"),
        ("4", "U4", "11/13/2019 1:00:00 AM", "N6", "N3-1 N6-0 N4-0"),
        ("5", "U5", "11/13/2019 2:00:00 AM", "N3", "N3-1 N5-0"),
    ]
    lines(folder / "behaviors.tsv", ("\t".join(row) for row in behaviors))
    return folder
