"""Users of MIND, Amazon Books and MovieLens by the rules of AlignXplore+, as pairs of a chosen and a rejected item.

    mind       folders with "train" and "dev" in their names, each with news.tsv and behaviors.tsv
    amazon     <Category>_5.json.gz and meta_<Category>.json.gz
    movielens  ratings.csv and movies.csv

Each rule is the published one, its edges included; what the published scripts leave to an unseeded generator is drawn
by `seed` and the user's id. Source: the dataset transformers of AlignX-Family b9b8a9e; their order of drawing, and so
the single negatives, differ.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from pydantic import BeforeValidator

from evaluation.cases.benchmark import Plan, Tally, find_file, find_files, find_single_file
from evaluation.cases.table_files import read_csv, read_fields, read_json
from training.data.formats import MaybeText, Record
from training.exceptions import DatasetError

SEED: Final = 42
TEST_SHARE: Final = 0.2
MIND_LEAST: Final = 9
"""Pairs, after the negatives are drawn."""
MIND_TEST: Final = 3_000
LEAST: Final = 17
"""Interactions, of Amazon after products without a title are left out, of MovieLens before films without metadata."""


class History(NamedTuple):
    """One user: what was chosen and rejected, oldest first, by the items' ids."""

    user: str
    pairs: tuple[tuple[str, str], ...]


class Users(NamedTuple):
    topic: str
    """As published: news, book or movie."""
    train: tuple[History, ...]
    test: tuple[History, ...]
    texts: Mapping[str, str]
    """Of each item; one that is not among them has the empty text."""


def split_users(users: Sequence[str]) -> tuple[list[str], list[str]]:
    """scikit-learn's train_test_split(users, test_size=.2, random_state=42)."""
    order, size = np.random.RandomState(SEED).permutation(len(users)), ceil(len(users) * TEST_SHARE)
    return [users[index] for index in order[size:]], [users[index] for index in order[:size]]


# --- MIND --------------------------------------------------------------------------------------


def read_mind(folder: Path, tally: Tally, seed: int = SEED) -> Users:
    """The longest history, as text, of each user, then each click of an impression that shows something not clicked.
    Four in five users are for training; of the others up to 3,000 are drawn."""
    texts: dict[str, str] = {}
    shown: dict[str, list[tuple[str, str]]] = {}
    for part in ("train", "dev"):
        files = sorted({file.parent for file in find_files(folder, f"*{part}*/behaviors.tsv")})
        for news in _lines(find_file(files[0], "news.tsv"), tally, "articles", 8):
            texts.setdefault(news[0], f"Title: {news[3]}\nAbstract: {news[4]}")
        for row in _lines(files[0] / "behaviors.tsv", tally, "impressions", 5):
            shown.setdefault(row[1], []).append((row[3], row[4]))
    users = {user: _mind_history(user, shown[user], texts, seed) for user in sorted(shown)}
    kept = [user for user, history in users.items() if len(history.pairs) >= MIND_LEAST]
    tally.left_out[f"users of fewer than {MIND_LEAST} pairs"] += len(users) - len(kept)
    Plan(seed).rng("split").shuffle(kept)
    train, test = kept[: int(len(kept) * (1 - TEST_SHARE))], kept[int(len(kept) * (1 - TEST_SHARE)) :]
    test = random.Random(SEED).sample(test, min(MIND_TEST, len(test)))
    return Users("news", tuple(map(users.__getitem__, train)), tuple(map(users.__getitem__, test)), texts)


def _lines(file: Path, tally: Tally, what: str, fields: int) -> Iterator[list[str]]:
    return (values for _, values in read_fields(file, tally, what, separator="\t", fields=fields))


def _mind_history(user: str, shown: Sequence[tuple[str, str]], texts: Mapping[str, str], seed: int) -> History:
    rng = Plan(seed).rng("mind", user)
    longest = max((history for history, _ in shown), key=len).split()
    unread, outside = set(longest), sorted(texts)
    pairs = [(name, other) for name in longest if (other := _draw(rng, outside, unread))]
    for _, impression in shown:
        marks = impression.split()
        clicked, passed = ([mark[:-2] for mark in marks if mark.endswith(end)] for end in ("-1", "-0"))
        pairs += [(name, rng.choice(passed)) for name in clicked if passed]
    return History(user, tuple(pairs))


def _draw(rng: random.Random, items: Sequence[str], without: set[str]) -> str | None:
    """One of the items; None where all are left out. Without a list of the others for each of a million users."""
    for _ in range(64):
        if (drawn := rng.choice(items)) not in without:
            return drawn
    rest = [item for item in items if item not in without]
    return rng.choice(rest) if rest else None


# --- Amazon ------------------------------------------------------------------------------------


class _Review(Record):
    reviewerID: str  # noqa: N815  # a published name
    asin: str
    unixReviewTime: int  # noqa: N815


class _Product(Record):
    asin: str
    title: MaybeText = ""
    description: Annotated[Any, BeforeValidator(lambda value: "" if value is None else value)] = ""


def read_amazon(folder: Path, tally: Tally, seed: int = SEED) -> Users:
    """Every review is a choice, by time; as many products with a title that the user never reviews are rejected. Where
    those are fewer, the later choices are left out. Ids are the places of the users, those for training first."""
    products = read_json(find_single_file(folder, "meta_*.json", "meta_*.json.gz"), tally, "products", _Product)
    texts = {
        product.asin: f"Title: {product.title}\nDescription: {product.description}"
        for _, product in products
        if product.title.strip()
    }
    bought: dict[str, list[tuple[int, str]]] = {}
    for _, review in read_json(find_single_file(folder, "*_5.json", "*_5.json.gz"), tally, "reviews", _Review):
        if review.asin in texts:
            bought.setdefault(review.reviewerID, []).append((review.unixReviewTime, review.asin))
    histories = {}
    for user in sorted(bought):
        order = _by_time(bought[user])
        if len(order) < LEAST:
            tally.left_out[f"users of fewer than {LEAST} reviews"] += 1
        elif others := sorted(texts.keys() - set(order)):
            chosen = order[: len(others)]
            rejected = Plan(seed).rng("amazon", user).sample(others, len(chosen))
            histories[user] = tuple(zip(chosen, rejected, strict=True))
    train, test = split_users(list(histories))
    numbered = [History(str(number), histories[user]) for number, user in enumerate([*train, *test])]
    return Users("book", tuple(numbered[: len(train)]), tuple(numbered[len(train) :]), texts)


def _by_time(events: Iterable[tuple[int, str]]) -> list[str]:
    """Those of one time in the order of the file."""
    return [item for _, item in sorted(events, key=lambda event: event[0])]


# --- MovieLens ---------------------------------------------------------------------------------


def read_movielens(folder: Path, tally: Tally, seed: int = SEED) -> Users:
    """Every rated film with metadata is a choice, by time; the rejected ones are drawn, with replacement, from a sample
    as long as the history of the films that the user never rates."""
    films = read_csv(find_file(folder, "movies.csv"), tally, "films", ("movieId", "title", "genres"))
    texts = {film["movieId"]: f"Title: {film['title']}, Genres: {film['genres']}" for _, film in films}
    columns = ("userId", "movieId", "rating", "timestamp")
    rated: dict[int, list[tuple[int, str]]] = {}
    for _, row in read_csv(find_file(folder, "ratings.csv"), tally, "ratings", columns):
        rated.setdefault(int(row["userId"]), []).append((int(row["timestamp"]), row["movieId"]))
    everything = sorted({film for events in rated.values() for _, film in events if film in texts})
    histories = {}
    for user in sorted(rated):
        order = _by_time(rated[user])
        if len(order) < LEAST:
            tally.left_out[f"users of fewer than {LEAST} ratings"] += 1
            continue
        rng, seen = Plan(seed).rng("movielens", user), set(order)
        others = [film for film in everything if film not in seen]
        sample = rng.sample(others, min(len(order), len(others)))
        pairs = [(film, rng.choice(sample)) for film in order if film in texts and sample]
        histories[str(user)] = History(str(user), tuple(pairs))
    train, test = (sorted(part, key=int) for part in split_users(list(histories)))
    return Users("movie", tuple(map(histories.__getitem__, train)), tuple(map(histories.__getitem__, test)), texts)


READERS: Final[dict[str, Callable[[Path, Tally, int], Users]]] = {
    "mind": read_mind,
    "amazon": read_amazon,
    "movielens": read_movielens,
}


# --- rows --------------------------------------------------------------------------------------


def training_row(history: History, users: Users) -> dict[str, Any]:
    """A row of behaviours; its null queries are asked for by the topic."""
    choices = [_triple(pair, users, None) for pair in history.pairs]
    return {"uid": history.user, "topic": users.topic, "behaviors": choices}


def evaluation_row(history: History, users: Users, query: str) -> dict[str, Any]:
    """A UPI row: the last pair is the target. Raises DatasetError for a user of one pair."""
    if len(history.pairs) < 2:
        raise DatasetError(f"a user of {users.topic} rows has no history before the target")
    *earlier, target = [_triple(pair, users, query) for pair in history.pairs]
    return {"userid": history.user, "history": earlier, "target": target, "kind": "recommendation"}


def _triple(pair: tuple[str, str], users: Users, query: str | None) -> dict[str, str | None]:
    chosen, rejected = (users.texts.get(item, "") for item in pair)
    return {"query": query, "chosen": chosen, "rejected": rejected}
