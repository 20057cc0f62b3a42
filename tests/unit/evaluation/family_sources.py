"""Small files of MIND, Amazon Books and MovieLens 32M as the AlignX family reads them; nothing in them is real."""

import gzip
import json
from pathlib import Path


def mind(folder: Path) -> Path:
    news = [f"N{number}\tcat\tsub\tTitle {number}\tAbstract {number}\turl\t[]\t[]" for number in range(30)]
    seven = " ".join(f"N{number}" for number in range(7))
    rows = {
        "train": [
            "1\tU1\ttime\tN1 N2\tN20-1 N21-0 N22-1",
            f"2\tU1\ttime\t{seven}\tN23-1",
            "3\tU2\ttime\tN1 N2\tN20-1 N21-0",
        ],
        "dev": ["4\tU1\ttime\tN9\tN24-0 N25-0 N26-1", f"5\tU3\ttime\t{seven} N90\tN27-1 N28-0"],
    }
    for part, lines in rows.items():
        place = folder / f"MINDlarge_{part}"
        place.mkdir(parents=True)
        (place / "news.tsv").write_text("\n".join(news) + "\n", encoding="utf-8")
        (place / "behaviors.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def amazon(folder: Path) -> Path:
    folder.mkdir()
    products = [
        {"asin": f"P{number}", "title": f"Book {number}", "description": [f"d{number}"]} for number in range(40)
    ]
    products.append({"asin": "P40", "title": " ", "description": ["none"]})
    reviews = [
        {"reviewerID": user, "asin": f"P{number}", "unixReviewTime": 100 - number // 2}
        for user, count in (("b", 17), ("a", 25), ("short", 16), ("c", 18), ("d", 18))
        for number in range(count)
    ]
    reviews.append({"reviewerID": "short", "asin": "P40", "unixReviewTime": 1})
    for name, rows in (("Books_5.json.gz", reviews), ("meta_Books.json.gz", products)):
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return folder


def movielens(folder: Path) -> Path:
    folder.mkdir()
    films = [f'{number},"Film {number} (1990)",Comedy|Drama' for number in range(60)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]), encoding="utf-8")
    ratings = [
        f"{user},{900 if number == 3 else number + user},3.5,{500 - number}"
        for user, count in ((2, 17), (10, 20), (3, 16))
        for number in range(count)
    ]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings]), encoding="utf-8")
    return folder
