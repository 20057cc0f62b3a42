"""The words of the world, read from tables/*.toml: its topics by category, and how its texts are phrased.

Topics and phrasings are divided once and for all between training and the held-out half: of each list, the fifth with
the smallest checksums is held out, and so is a title whose checksum says so. Nobody in training ever meets them, and
no list has to be kept in two parts.
"""

import itertools
import random
import re
import tomllib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

Split = Literal["train", "heldout"]
Form = Literal["any", "film", "book", "news"]

HELDOUT_SHARE: Final = 5
"""One in so many topics, phrasings and titles is held out."""
_TABLES: Final = Path(__file__).parent / "tables"
_CHOICE: Final = re.compile(r"\[([^\]]*)\]")


@cache
def table(name: str) -> Mapping[str, Any]:
    return tomllib.loads((_TABLES / f"{name}.toml").read_text(encoding="utf-8"))


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def split_of(title: str) -> Split:
    """Which half a title belongs to that names no topic."""
    return "heldout" if _checksum(title) % HELDOUT_SHARE == 0 else "train"


def half(texts: Iterable[str], split: Split) -> tuple[str, ...]:
    """One half of a list, in its order; neither is empty where there are two texts."""
    listed = tuple(dict.fromkeys(texts))
    held = set(sorted(listed, key=_checksum)[: max(1, len(listed) // HELDOUT_SHARE)])
    return tuple(text for text in listed if (text in held) == (split == "heldout"))


def spell_out(pattern: str) -> list[str]:
    """All texts of a pattern in which [a|b] is either, without those that say please twice."""
    parts = [part.split("|") if index % 2 else [part] for index, part in enumerate(_CHOICE.split(pattern))]
    texts = map("".join, itertools.product(*parts))
    return [text for text in texts if text.lower().count("please") < 2]


@cache
def phrasings(name: str, group: str, kind: str, split: Split) -> tuple[str, ...]:
    """The phrasings of a kind in one half: `kind` of the group `group` in the table `name`."""
    patterns = table(name)[group][kind]
    return half(itertools.chain.from_iterable(map(spell_out, patterns)), split)


# --- topics --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Category:
    name: str
    labels: tuple[str, ...]
    """What catalogues call it."""
    emoji: str
    sentences: Mapping[str, tuple[str, ...]]
    """By use: news, plain, technical, example."""
    form: Form = "any"
    """What its items are: films or novels with a genre, news alone, or anything on a topic."""
    direction: int | None = None
    """The dimension of AlignX that is 1 where a topic of it is liked."""


@dataclass(frozen=True, eq=False)
class Topic:
    name: str
    category: Category = field(repr=False)
    things: tuple[str, ...] = field(repr=False)
    """What a shop sells for it; of films and novels, the beginnings of titles."""
    ends: tuple[str, ...] = field(default=(), repr=False)
    """Of films and novels: how titles end."""

    def fill(self) -> dict[str, str]:
        return {"t": self.name, "T": self.name[0].upper() + self.name[1:]}


def _read_topic(line: str, category: Category) -> Topic:
    name, _, words = line.partition(": ")
    starts, _, ends = words.partition(" / ")
    return Topic(name, category, *(tuple(filter(None, part.split(", "))) for part in (starts, ends)))


@cache
def topics() -> Mapping[str, Topic]:
    """All topics by name."""
    found: dict[str, Topic] = {}
    for entry in table("topics")["category"]:
        sentences = {use: tuple(entry[use]) for use in ("news", "plain", "technical", "example")}
        form, direction = entry.get("form", "any"), entry.get("direction")
        category = Category(entry["name"], tuple(entry["labels"]), entry["emoji"], sentences, form, direction)
        listed = [_read_topic(line, category) for line in entry["topics"].strip().split("\n")]
        found |= {topic.name: topic for topic in listed}
    return found


@cache
def topics_by_category(split: Split) -> Mapping[str, tuple[Topic, ...]]:
    groups = itertools.groupby(topics().values(), key=lambda topic: topic.category.name)
    return {
        name: tuple(topics()[kept] for kept in half((topic.name for topic in group), split)) for name, group in groups
    }


# --- writing -------------------------------------------------------------------------------------


@dataclass
class Pen:
    """Draws what one half of the world writes, and remembers it."""

    rng: random.Random
    split: Split
    phrasings: set[str] = field(default_factory=set)
    titles: set[str] = field(default_factory=set)
    topics: set[str] = field(default_factory=set)

    def write(self, group: str, kind: str, *, name: str = "phrases", **fill: str) -> str:
        """A phrasing with its blanks filled."""
        return self.draw(phrasings(name, group, kind, self.split)).format(**fill)

    def draw(self, phrases: tuple[str, ...]) -> str:
        """One of the phrasings of this half."""
        self.phrasings.add(phrase := self.rng.choice(phrases))
        return phrase

    def say(self, topic: Topic, use: str) -> str:
        """A sentence on a topic: use news, plain, technical or example."""
        self.topics.add(topic.name)
        return self.draw(half(topic.category.sentences[use], self.split)).format(**topic.fill())
