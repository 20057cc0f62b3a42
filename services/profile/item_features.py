"""Features of an item: style if it is a text, words, categories, price, year and popularity.

An item that is a name rather than a text, such as a film's or a product's title, is known by its few
words: there the numbers count ("PlayStation 4"), and so do words that stand together ("Star Trek").
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from math import isfinite, log1p, log2
from typing import Any, NamedTuple

from alignx.schemas.items import POPULARITY_FIELD, Item, ItemFields
from services.profile.style_features import MAX_ITEM_TERMS, MAX_TERM, STOP, URL, measure, terms, words
from services.profile.word_table import load

MAX_NAME_TERMS = 24
MAX_CATEGORY_CHARS = 32
MAX_CATEGORIES = 8
WRITTEN = 8
"""Words of a description from which its style is read."""
CATEGORY_FIELDS = frozenset(
    ("category", "genre", "genres", "categories", "subcategory", "topic", "topics", "tag", "tags", "brand", "author")
) | {"artist", "director", "publisher", "maker"}
YEAR_FIELDS = frozenset(["year", "release_year", "released"])
_COUNTS = frozenset(["one", "two", "three"])
"""Stop words that tell names apart."""
_SEPARATOR = re.compile(r"[|;,>/]")
_NUMBER = re.compile(r"\d(?:[\d.,'’ \u00a0\u202f]*\d)?")
_CENTS = re.compile(r"[.,](?=\d{1,2}\Z)|(?<=\A0)[.,]")
"""Before one or two digits at the end, or behind a single 0; any other mark in a price parts its thousands."""
SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥", "CNY": "¥", "INR": "₹", "RUB": "₽"}
"""Of currencies that are shown by one."""
_CODES = (
    *SYMBOLS,
    "CHF",
    "SEK",
    "NOK",
    "DKK",
    "PLN",
    "CZK",
    "BRL",
    "MXN",
    "CAD",
    "AUD",
    "KRW",
    "TRY",
    "AED",
    "SAR",
    "EGP",
)
_CURRENCY = re.compile(rf"[$€£¥₹₽]|\b(?:{'|'.join(_CODES)})\b")
_JOINED = re.compile(r"\A([a-z]{3,})and([a-z]{3,})\Z")
_YEAR = re.compile(r"\b(?:1[89]|20)\d\d\b")
_YEAR_IN_TITLE = re.compile(r"[(\[]((?:1[89]|20)\d\d)[)\]]")


class ItemFeatures(NamedTuple):
    """The features of one item."""

    style: tuple[float, ...] | None
    """Features; None when the item is a name rather than a piece of writing."""
    trust: float
    """Reliability of the style, 0 to 1; low for few words."""
    tokens: list[str]
    """Words of the text and the categories."""
    text: list[str]
    """Words of the text alone."""
    terms: list[str]
    """Words that can name a topic; of a name, pairs of neighbours too, joined by a space."""
    categories: tuple[str, ...]
    price: float | None
    """log2 of the price."""
    currency: str
    """A symbol, or three letters; empty where none is told."""
    year: float | None
    popularity: float | None
    """As `read_popularity` gives it: the log-odds that it is taken."""
    written: str = ""
    """The text itself, of one that is a piece of writing."""


def clean(text: str, limit: int) -> str:
    """One line without links, control characters or double quotes, at most `limit` characters."""
    line = URL.sub("[link]", text[: 4 * limit])
    line = " ".join("".join(char if char.isprintable() else " " for char in line).replace('"', "'").split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def extract_features(item: Item, query_words: frozenset[str] = frozenset()) -> ItemFeatures:
    """Words of the query name no topic of the user's own."""
    if isinstance(item, str):
        tokens = words(item)
        known = terms(tokens, MAX_ITEM_TERMS, query_words)
        return ItemFeatures(measure(item, tokens), trust(tokens), tokens, tokens, known, (), None, "", None, None, item)
    return _read_fields(item, query_words)


def _read_fields(item: ItemFields, query_words: frozenset[str]) -> ItemFeatures:
    labels: dict[str, None] = dict.fromkeys(_labels(item.category))
    text, year, popularity = item.title, None, None
    fields = {name.lower(): value for name, value in (item.model_extra or {}).items()}
    for key, value in fields.items():
        if key in CATEGORY_FIELDS:
            labels.update(dict.fromkeys(_labels(value)))
        elif key in YEAR_FIELDS:
            year = _year(_YEAR, value)
        elif key == POPULARITY_FIELD:
            popularity = read_popularity(value)
        elif isinstance(value, str):
            text += " " + value
    written = words(item.description or "")
    style = measure(item.description or "", written) if len(written) >= WRITTEN else None
    tokens = [*words(text), *written]
    known = terms(tokens, MAX_ITEM_TERMS, query_words) if style else _name_terms(tokens, query_words)
    named = tuple(labels)[:MAX_CATEGORIES]
    described = [*tokens, *chain.from_iterable(_read_label(label)[1] for label in named)]
    if year is None and ("(" in item.title or "[" in item.title):
        year = _year(_YEAR_IN_TITLE, item.title)
    currency = _read_currency(f"{item.price} {fields.get('currency')}")
    prose = f"{item.title}\n{item.description}" if style else ""
    return ItemFeatures(
        style, trust(described), described, tokens, known, named, _price(item.price), currency, year, popularity, prose
    )


def _name_terms(tokens: Sequence[str], query_words: frozenset[str]) -> list[str]:
    """The words of a name, then its pairs of neighbours."""
    alone, pairs = [], []
    before, began = "", False
    for word in tokens:
        tells, stands = _classify(word)
        if not tells or word in query_words:
            before = ""
            continue
        if stands:
            alone.append(word)
        if before and began and len(before) + len(word) < MAX_TERM:
            pairs.append(f"{before} {word}")
        before, began = word, stands
    return list(dict.fromkeys([*alone, *pairs]))[:MAX_NAME_TERMS]


@lru_cache(maxsize=32_768)
def _classify(word: str) -> tuple[bool, bool]:
    """Whether a word of a name tells something, and whether it does alone. Years and other long numbers are no part of
    a name."""
    tells = (word not in STOP or word in _COUNTS) and len(word) <= MAX_TERM and not (word.isdigit() and len(word) > 3)
    return tells, not word.isdigit() and word not in _COUNTS and (len(word) > 1 or not word.isascii())


def trust(tokens: list[str]) -> float:
    """Reliability of the style of a text of these words, 0 to 1."""
    return len(tokens) / (len(tokens) + 4)


def _labels(value: Any) -> Iterable[str]:
    parts = _SEPARATOR.split(value) if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        if isinstance(part, str) and (label := _read_label(part)[0]):
            yield label


@lru_cache(maxsize=4_096)
def _read_label(part: str) -> tuple[str, list[str]]:
    """A category as it is shown, and its words: "video_games" and "foodanddrink" as one writes them."""
    label = clean(part.replace("-and-", " and ").replace("_", " "), MAX_CATEGORY_CHARS)
    if (joined := _JOINED.match(label)) and all(map(load().holds, joined.groups())):
        label = " and ".join(joined.groups())
    return label, words(label)


def _price(price: float | str | None) -> float | None:
    if isinstance(price, str):
        number = _NUMBER.search(price[:40])
        whole, *cents = _CENTS.split(number[0]) if number else ("",)
        digits = "".join(char for char in whole if char.isdecimal())
        price = float(f"{digits}.{cents[0] if cents else 0}") if digits else None
    return log2(price) if price and 1e-6 < price < 1e12 else None


def _read_currency(text: str) -> str:
    found = _CURRENCY.search(text)
    return SYMBOLS.get(found[0], found[0]) if found else ""


def _year(pattern: re.Pattern[str], value: Any) -> float | None:
    """A year from 1800 to 2099 in a number or a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    match = pattern.search(str(value)[:400])
    return float(match[match.re.groups]) if match else None


def read_popularity(value: Any) -> float | None:
    """Natural logarithm of one more than a count; None for what is no count."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return log1p(value) if isfinite(value) and 0 <= value < 1e12 else None
