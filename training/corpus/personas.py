"""The people of the world: what each prefers and says of themselves, hidden from every model."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from alignx.schemas.interactions import PREFERENCE_DIMENSIONS
from training.corpus.lexicon import Pen, Split, Topic, table, topics, topics_by_category

STYLES: Final[dict[str, tuple[str, str]]] = {
    name: tuple(poles) for name, poles in table("styles").items() if name != "words"
}
"""Dimensions of style with their two poles."""
POLES: Final = {pole: name for name, poles in STYLES.items() for pole in poles}
"""The dimension of each pole."""
MAX_TOPICS: Final = 5

Style = Mapping[str, str]
"""Dimension to pole."""


def pole_words(pole: str) -> Mapping[str, list[str]]:
    found: Mapping[str, list[str]] = table("styles")[POLES[pole]][pole]
    return found


def opposite(pole: str) -> str:
    first, second = STYLES[POLES[pole]]
    return second if pole == first else first


@dataclass(frozen=True)
class Persona:
    style: Style
    likes: tuple[Topic, ...]
    dislikes: tuple[Topic, ...]
    facts: Mapping[str, int] = field(default_factory=dict)
    """Names in facts.toml, with the number that the person states in them."""
    language: str | None = None
    """The language they write in now and then, beside English."""

    def directions(self) -> tuple[float, ...]:
        """The preference direction of AlignX: 1, 0, or .5 where the person does not mind."""
        values = [0.5] * PREFERENCE_DIMENSIONS
        for liking, group in ((0.0, self.dislikes), (1.0, self.likes)):
            for topic in group:
                if topic.category.direction is not None:
                    values[topic.category.direction] = liking
        for pole in self.style.values():
            if (direction := table("styles")[POLES[pole]][pole].get("direction")) is not None:
                values[direction[0]] = float(direction[1])
        return tuple(values)

    def drifted(self, rng: random.Random) -> "Persona":
        """The same person later: one pole turned, or a liked and a disliked topic swapped."""
        if self.style and (not self.dislikes or rng.random() < 0.5):
            dimension = rng.choice(sorted(self.style))
            return replace(self, style={**self.style, dimension: opposite(self.style[dimension])})
        if not self.dislikes:
            return self
        return replace(self, likes=(self.dislikes[0], *self.likes[1:]), dislikes=(self.likes[0], *self.dislikes[1:]))


def persona(pen: Pen, *, foreign: float = 0.0, styled: bool = False) -> Persona:
    """A person with up to five poles of style, one to five topics they like, up to three they do not, and up to two
    facts. With probability `foreign` they also write in another language; `styled` makes sure of a pole with a
    direction of AlignX."""
    rng = pen.rng
    language = rng.choice(sorted(table("languages"))) if rng.random() < foreign else None
    dimensions = rng.sample(sorted(STYLES), rng.choice((0, 1, 2, 2, 3, 3, 4, 5)))
    if styled and not set(dimensions) & set(_directed()):
        dimensions = [*dimensions[:4], rng.choice(_directed())]
    groups = topics_by_category(pen.split)
    # Films and novels are what catalogues hold most of.
    weighted = [name for name, group in sorted(groups.items()) for _ in range(3 if group[0].ends else 1)]
    likes: list[Topic] = []
    for name in dict.fromkeys(rng.sample(weighted, rng.randint(1, 3))):
        likes += rng.sample(groups[name], rng.randint(1, min(3, len(groups[name]))))
    if language and (spoken := [topic for topic in _spoken(language, pen.split) if topic not in likes]):
        likes.insert(0, rng.choice(spoken))
    near = {topic.category.name for topic in likes}
    facts = rng.sample(sorted(table("facts")), rng.choice((0, 0, 1, 1, 2)))
    dislikes = [other_topic(pen, near) for _ in range(rng.randint(0, 3))]
    return Persona(
        {name: rng.choice(STYLES[name]) for name in dimensions},
        tuple(likes[:MAX_TOPICS]),
        tuple(dict.fromkeys(dislikes)),
        {name: rng.choice(table("facts")[name].get("numbers", [0])) for name in facts},
        language,
    )


def other_topic(pen: Pen, without: set[str]) -> Topic:
    """A topic of none of these categories."""
    groups = topics_by_category(pen.split)
    return pen.rng.choice(groups[pen.rng.choice(sorted(groups.keys() - without))])


@cache
def _directed() -> tuple[str, ...]:
    """The dimensions of style that AlignX has as well."""
    return tuple(sorted(name for name, poles in STYLES.items() if "direction" in pole_words(poles[0])))


@cache
def _spoken(language: str, split: Split) -> tuple[Topic, ...]:
    """The topics of one half that have a name in the language."""
    named = {topic for group in topics_by_category(split).values() for topic in group}
    return tuple(topics()[name] for name in table("languages")[language]["topics"] if topics()[name] in named)
