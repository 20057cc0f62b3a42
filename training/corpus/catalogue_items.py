"""What the world's catalogues hold: news by category, shop titles with invented brands, books, films with genres and
years. Every item's text names its topic, in its title or in a field.
"""

import re
from functools import cache
from typing import Final, Literal

from alignx.schemas.items import Item, ItemFields, item_text
from training.corpus.lexicon import Pen, Split, Topic, half, split_of, table, topics_by_category

Source = Literal["news", "shop", "films", "books"]
_FIELDS: Final = 0.6
"""Share of items that have fields; the others are a line of text, as some front ends send them."""


def sources(topic: Topic) -> tuple[Source, ...]:
    """Where items on a topic are met."""
    match topic.category.form:
        case "film":
            return ("films",)
        case "news":
            return ("news", "books")
        case "book":
            return ("books", "books", "news")
    return ("news", "news", "shop", "shop", "books")


@cache
def topics_at(source: Source, split: Split) -> tuple[Topic, ...]:
    """The topics of one half that are met there."""
    groups = topics_by_category(split).values()
    return tuple(topic for group in groups for topic in group if source in sources(topic))


def make_item(pen: Pen, topic: Topic, source: Source, language: str | None = None) -> tuple[Item, str]:
    """An item on a topic, and its title. In another language where that has a name for the topic."""
    pen.topics.add(topic.name)
    foreign = table("languages").get(language or "", {})
    if source != "films" and topic.name in foreign.get("topics", {}):
        name = foreign["topics"][topic.name]
        title = pen.draw(half(foreign["title"], pen.split)).format(t=name, T=name[0].upper() + name[1:])
        return title, title
    make = {"news": _news, "shop": _product, "films": _film, "books": _book}
    found = make[source](pen, topic)
    pen.titles.add(found.title)
    if pen.rng.random() < _FIELDS or not re.search(re.escape(topic.name), found.title, re.IGNORECASE):
        return found, found.title
    return item_text(ItemFields(title=found.title)), found.title


def _news(pen: Pen, topic: Topic) -> ItemFields:
    return ItemFields(title=pen.say(topic, "news"), category=pen.rng.choice(topic.category.labels))


def _product(pen: Pen, topic: Topic) -> ItemFields:
    rng, words = pen.rng, table("phrases")["item"]
    if not topic.things:
        return _book(pen, topic)
    while True:
        brand, thing = rng.choice(words["front"]) + rng.choice(words["back"]), rng.choice(topic.things)
        title = pen.write("item", "shop", brand=brand, thing=thing, **topic.fill())
        title = title[0].upper() + title[1:]
        if split_of(title) == pen.split:
            break
    path = f"{rng.choice(topic.category.labels)} > {topic.fill()['T']}"
    return ItemFields(title=title, category=path, price=round(rng.lognormvariate(3.2, 0.8)) - 0.05, brand=brand)


def _book(pen: Pen, topic: Topic) -> ItemFields:
    rng, words = pen.rng, table("phrases")["item"]
    author, year = f"{rng.choice(words['first'])} {rng.choice(words['last'])}", rng.randint(1985, 2025)
    if topic.category.form == "book":
        title = _join_title(pen, topic)
        return ItemFields(title=title, category=topic.fill()["T"], author=author, year=year)
    title = pen.write("item", "book", **topic.fill())
    return ItemFields(title=title, category=rng.choice(topic.category.labels), author=author, year=year)


def _film(pen: Pen, topic: Topic) -> ItemFields:
    genre = topic.fill()["T"].removesuffix(" films")
    year = pen.rng.randint(1920, 1929) if genre == "Silent" else pen.rng.randint(1958, 2025)
    return ItemFields(title=f"{_join_title(pen, topic)} ({year})", category="Films", genres=[genre], year=year)


def _join_title(pen: Pen, topic: Topic) -> str:
    while True:
        title = f"{pen.rng.choice(topic.things)} {pen.rng.choice(topic.ends)}"
        if split_of(title) == pen.split:
            return title
