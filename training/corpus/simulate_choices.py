"""Simulates the choices of a person, with the evidence that each gives of their preferences."""

import random
from dataclasses import dataclass
from typing import Final, Literal

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    Interaction,
    PostInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from training.corpus.lexicon import Split, phrase
from training.corpus.personas import STYLES, Persona, Style, topic

Domain = Literal["forum", "dialogue", "news", "shop", "films"]
ANSWERING: Final[tuple[Domain, ...]] = ("forum", "dialogue")
"""Domains where the user chooses between two answers, by their style."""
BROWSING: Final[tuple[Domain, ...]] = ("news", "shop", "films")
"""Domains where the user chooses between two items, by their topic."""


@dataclass(frozen=True)
class Choice:
    """A query, what the person took, and what they left."""

    query: str
    chosen: str
    rejected: str
    domain: Domain
    evidence: tuple[tuple[str, str], ...]
    """What the chosen one has and the rejected one has in its place: traits, or topics."""
    weight: int = 1
    """What it counts for."""

    @property
    def kind(self) -> Literal["style", "topic"]:
        return "style" if self.domain in ANSWERING else "topic"

    def triple(self) -> dict[str, str]:
        return {"query": self.query, "chosen": self.chosen, "rejected": self.rejected}

    def interaction(self) -> Interaction:
        return ComparisonInteraction(query=self.query, chosen=self.chosen, rejected=self.rejected)

    def flipped(self) -> "Choice":
        turned = tuple((against, for_) for for_, against in self.evidence)
        return Choice(self.query, self.rejected, self.chosen, self.domain, turned, self.weight)


@dataclass(frozen=True)
class Sign:
    """Any other event of a history and what it speaks for: a pair as in `Choice.evidence`, of which
    one side may be empty."""

    event: Interaction
    evidence: tuple[tuple[str, str], ...]
    weight: int = 1

    def interaction(self) -> Interaction:
        return self.event


STATED: Final = 3
"""What a user says of themselves counts for so many choices."""


def answer(rng: random.Random, split: Split, about: str, style: Style) -> str:
    """An answer on a topic with a trait on every dimension of style."""
    opening = phrase(rng, style["tone"], split)
    clauses = [phrase(rng, style["level"], split, topic=about)]
    if style["length"] == "detailed":
        clauses += [phrase(rng, "more", split) for _ in range(rng.choice((2, 2, 3)))]
    if style["structure"] == "listed":
        return "\n".join([opening, *(f"- {clause}." for clause in clauses)])
    return " ".join([opening, *(f"{clause}." for clause in clauses)])


def any_style(rng: random.Random) -> dict[str, str]:
    return {dimension: rng.choice(traits) for dimension, traits in STYLES.items()}


def style_choice(rng: random.Random, person: Persona, split: Split) -> Choice:
    """Two answers: the chosen one has more of the person's traits. What the person does not mind is
    mostly alike in both, as in answers of one source."""
    domain = rng.choice(ANSWERING)
    about = topic(rng, split)
    chosen = any_style(rng)
    rejected = {name: trait if rng.random() < 0.7 else rng.choice(STYLES[name]) for name, trait in chosen.items()}
    dimensions = sorted(person.style)
    differing = dimensions if rng.random() < 0.6 else rng.sample(dimensions, rng.randint(1, len(dimensions)))
    for dimension in dimensions:
        first, second = STYLES[dimension]
        preferred = person.style[dimension]
        chosen[dimension] = preferred if dimension in differing else chosen[dimension]
        rejected[dimension] = (second if preferred == first else first) if dimension in differing else chosen[dimension]
    evidence = tuple((chosen[name], rejected[name]) for name in STYLES if chosen[name] != rejected[name])
    query = phrase(rng, domain, split, topic=about)
    return Choice(query, answer(rng, split, about, chosen), answer(rng, split, about, rejected), domain, evidence)


def topic_choice(rng: random.Random, person: Persona, split: Split, *, indifferent: float = 0.0) -> Choice:
    """Two items: a liked topic against a disliked one, or one of the two against any other; with
    probability `indifferent` the liked one against any other."""
    domain = rng.choice(BROWSING)
    draw = 0.7 if indifferent and rng.random() < indifferent else rng.random()
    liked = rng.choice(person.likes) if draw < 0.8 else _other(rng, person, split)
    disliked = rng.choice(person.dislikes) if draw < 0.6 or draw >= 0.8 else _other(rng, person, split)
    chosen, rejected = (phrase(rng, f"{domain} item", split, topic=name) for name in (liked, disliked))
    return Choice(phrase(rng, domain, split), chosen, rejected, domain, ((liked, disliked),))


def _other(rng: random.Random, person: Persona, split: Split) -> str:
    while (name := topic(rng, split)) in (*person.likes, *person.dislikes):
        pass
    return name


def choice(rng: random.Random, person: Persona, split: Split, *, indifferent: float = 0.0) -> Choice:
    if rng.random() < 0.5:
        return style_choice(rng, person, split)
    return topic_choice(rng, person, split, indifferent=indifferent)


def history(
    rng: random.Random, person: Persona, split: Split, length: int, *, noise: float = 0.0, drift: bool = False
) -> list[Choice]:
    """`length` choices, oldest first. A share `noise` of them, drawn one by one, is the wrong way
    round; with `drift` the person changes midway."""
    later = person.drifted(rng) if drift else person
    choices = [choice(rng, later if 2 * index >= length else person, split) for index in range(length)]
    return [event.flipped() if rng.random() < noise else event for event in choices]


def sign(rng: random.Random, person: Persona, split: Split) -> Sign:
    """An event other than a comparison: a click, a purchase, a rating, a post or a statement."""
    match rng.randrange(5):
        case 0 | 1 as way:
            pair = topic_choice(rng, person, split)
            if way:
                return Sign(PurchaseInteraction(item=pair.chosen, considered=(pair.rejected,)), pair.evidence)
            shown = (pair.chosen, pair.rejected)
            return Sign(ClickInteraction(query=pair.query, clicked=pair.chosen, shown=shown), pair.evidence)
        case 2:
            liked = rng.random() < 0.5
            name = rng.choice(person.likes if liked else person.dislikes)
            item = phrase(rng, f"{rng.choice(BROWSING)} item", split, topic=name)
            value = rng.choice((4.0, 5.0) if liked else (1.0, 2.0))
            return Sign(RatingInteraction(item=item, value=value), _one_sided(name, liked=liked))
        case 3:
            liked = rng.random() < 0.5
            name = rng.choice(person.likes if liked else person.dislikes)
            text = phrase(rng, "love" if liked else "avoid", split, topic=name)
            return Sign(PostInteraction(text=text), _one_sided(name, liked=liked))
    trait = person.style[rng.choice(sorted(person.style))]
    text = phrase(rng, "wish", split, style=trait)
    return Sign(StatementInteraction(text=text), _one_sided(trait, liked=True), STATED)


def _one_sided(name: str, *, liked: bool) -> tuple[tuple[str, str], ...]:
    return ((name, ""),) if liked else (("", name),)
