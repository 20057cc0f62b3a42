"""The people of the synthetic world: what each prefers, hidden from every model."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from training.corpus.lexicon import DIRECTED_TOPICS, Split, coin_word, directed_topics, topics

STYLES: Final[dict[str, tuple[str, str]]] = {
    "tone": ("friendly", "formal"),
    "length": ("brief", "detailed"),
    "level": ("plain", "technical"),
    "structure": ("listed", "flowing"),
}
"""Dimensions of style; a text has one of the two traits of each."""

TRAITS: Final = tuple(trait for pair in STYLES.values() for trait in pair)

STYLE_DIRECTIONS: Final[dict[str, tuple[int, float]]] = {
    "friendly": (14, 1.0), "formal": (14, 0.0),
    "brief": (16, 1.0), "detailed": (16, 0.0),
    "plain": (46, 0.0), "technical": (46, 1.0),
    "listed": (23, 1.0), "flowing": (23, 0.0),
}  # fmt: skip
"""The dimension of AlignX that is nearest to a trait, and the value there: casual chat, conciseness,
complexity, order."""

DIMENSIONS: Final = 90

Style = Mapping[str, str]
"""Dimension to trait."""


def opposite(trait: str) -> str:
    first, second = next(pair for pair in STYLES.values() if trait in pair)
    return second if trait == first else first


@dataclass(frozen=True)
class Persona:
    """What a person prefers: traits on some of the dimensions of style, and topics."""

    style: Style
    likes: tuple[str, ...]
    dislikes: tuple[str, ...]

    def directions(self) -> tuple[float, ...]:
        """The preference direction of AlignX: 1, 0, or .5 where the person does not mind."""
        values = [0.5] * DIMENSIONS
        for trait in self.style.values():
            index, value = STYLE_DIRECTIONS[trait]
            values[index] = value
        for liking, names in ((1.0, self.likes), (0.0, self.dislikes)):
            for name in names:
                if name in DIRECTED_TOPICS:
                    values[DIRECTED_TOPICS[name]] = liking
        return tuple(values)

    def drifted(self, rng: random.Random) -> "Persona":
        """The same person later: one trait reversed, or a liked and a disliked topic swapped."""
        if self.style and rng.random() < 0.5:
            dimension = rng.choice(sorted(self.style))
            return replace(self, style={**self.style, dimension: opposite(self.style[dimension])})
        return replace(self, likes=(self.dislikes[0], *self.likes[1:]), dislikes=(self.likes[0], *self.dislikes[1:]))


def topic(rng: random.Random, split: Split, *, directed: float = 0.25, new: float = 0.45) -> str:
    """A topic: of AlignX's dimensions, coined on the spot, or an ordinary noun."""
    draw = rng.random()
    if draw < directed:
        return rng.choice(directed_topics(split))
    return coin_word(rng, split) if draw < directed + new else rng.choice(topics(split))


def persona(rng: random.Random, split: Split, *, directed: float = 0.25, usual: float = 0.5) -> Persona:
    """A person with one to four traits and one or two topics on either side. `usual` is the
    probability that a trait is the first of its dimension."""
    dimensions = rng.sample(sorted(STYLES), rng.choice((1, 2, 2, 3, 3, 4)))
    names: list[str] = []
    counts = rng.choice((1, 2)), rng.choice((1, 2))
    while len(names) < sum(counts):
        if (name := topic(rng, split, directed=directed)) not in names:
            names.append(name)
    style = {dimension: STYLES[dimension][rng.random() >= usual] for dimension in dimensions}
    return Persona(style, tuple(names[: counts[0]]), tuple(names[counts[0] :]))
