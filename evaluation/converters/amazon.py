"""Amazon reviews, 2018 version: 5-core reviews and metadata. https://nijianmo.github.io/amazon/

<Category>_5.json.gz       a review a line: reviewerID, asin, overall, unixReviewTime, reviewText, summary
meta_<Category>.json.gz    a product a line: asin, title, category, brand, price, description

Both are also read without .gz. A row: the reviews of a user on earlier days, and a product to which the
user then gave at least four stars, against one the user never reviews. The reviews are read twice, first for users,
products and times, then for the texts of the rows, so that the limit bounds the memory.

Uncertain: the 2014 version has Python literals instead of JSON; its lines count as malformed.
"""

import html
import re
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from alignx.schemas.interactions import RatingInteraction
from alignx.schemas.items import ItemFields
from evaluation.cases.benchmark import Benchmark, Plan, Tally, find_single_file
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_json
from evaluation.cases.timeline import Timeline, make_rows
from training.data.formats import MaybeText, Record, SomeText

QUERY = "Which product would you buy and like?"
DESCRIPTION: Final = 500
"""Most characters of a product's description."""
GROUP: Final = 2_000
"""Rows whose texts are collected in one pass over the reviews."""
MARKUP = re.compile(r"<[^>]*>")
SCRIPT = re.compile(r"<script|getTime\(|var aPageStart", re.IGNORECASE)
"""Titles that are a piece of a web page instead."""

Texts = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [part for part in value or () if isinstance(part, str)])
]


class Review(Record):
    user: SomeText = Field(alias="reviewerID")
    product: SomeText = Field(alias="asin")
    stars: Annotated[float, Field(alias="overall", ge=1, le=5)]
    time: int = Field(alias="unixReviewTime")
    summary: MaybeText = ""
    text: MaybeText = Field(default="", alias="reviewText")

    def full_text(self) -> str | None:
        parts = [clean(part) for part in (self.summary, self.text)]
        return "\n".join(part for part in parts if part) or None


class Product(Record):
    asin: SomeText
    title: MaybeText = ""
    category: Texts = ()
    brand: MaybeText = ""
    price: MaybeText = ""
    description: Any = ()

    def item(self) -> ItemFields | None:
        """None without a readable title."""
        title = "" if SCRIPT.search(self.title) else clean(self.title)
        if not title:
            return None
        parts = [self.description] if isinstance(self.description, str) else self.description or ()
        description = clean(" ".join(part for part in parts if isinstance(part, str)))[:DESCRIPTION].strip()
        labels = list(dict.fromkeys(label for label in map(clean, self.category) if label))
        price = clean(self.price)
        fields = {
            "description": description,
            "category": ", ".join(labels[:4]),
            "price": price if price.startswith("$") and len(price) < 20 else "",
            "brand": clean(self.brand),
        }
        return ItemFields(id=self.asin, title=title, **{name: value for name, value in fields.items() if value})


def clean(text: str) -> str:
    """Without markup, entities and line ends."""
    return " ".join(MARKUP.sub(" ", html.unescape(text)).split())


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    reviews = find_single_file(folder, "*_5.json", "*_5.json.gz")
    products = find_single_file(folder, "meta_*.json", "meta_*.json.gz")
    items = _items(products, tally)
    timeline, numbers = Timeline(), array("q")
    for number, review in enumerate(_reviews(reviews, tally)):
        if review.product not in items:
            tally.left_out["reviews of products without a title"] += 1
        else:
            numbers.append(number)
            timeline.add(review.user, review.product, review.time, review.stars)
    products_by_number = [items[name] for name in timeline.names]
    moments = timeline.moments(plan, tally)
    while group := list(islice(moments, GROUP)):
        needed = {numbers[event] for moment in group for event in moment.history}
        texts = {number: review for number, review in enumerate(_reviews(reviews, Tally())) if number in needed}

        def event(number: int, texts: dict[int, Review] = texts) -> RatingInteraction:
            review = texts[numbers[number]]
            return RatingInteraction(
                item=items[review.product],
                value=review.stars,
                review=review.full_text(),
                occurred_at=datetime.fromtimestamp(review.time, UTC),
            )

        yield from make_rows(group, "amazon", QUERY, products_by_number, event, tally)


def _reviews(file: Path, tally: Tally) -> Iterator[Review]:
    return (review for _, review in read_json(file, tally, "reviews", Review))


def _items(file: Path, tally: Tally) -> dict[str, ItemFields]:
    items: dict[str, ItemFields] = {}
    for _, product in read_json(file, tally, "products", Product):
        item = product.item()
        if item is None:
            tally.left_out["products without a title"] += 1
        else:
            items.setdefault(product.asin, item)
    return items


AMAZON = Benchmark("amazon", "one <Category>_5.json.gz and its meta_<Category>.json.gz", convert)
