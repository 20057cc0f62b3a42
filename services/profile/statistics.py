"""The statistics that the fast profile keeps of one user: bounded, immutable, fading with age."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import mul
from typing import NamedTuple

from services.profile.style_features import FEATURES

HALF_LIFE = 48
"""Events after which what is known of a topic counts half."""
STYLE_HALF_LIFE = 24
"""Choices after which a contrast of style counts half."""
RECENT_HALF_LIFE = 4
FADE = 0.5 ** (1 / STYLE_HALF_LIFE)
FADE_RECENT = 0.5 ** (1 / RECENT_HALF_LIFE)
FADE_BY_AGE = tuple(0.5 ** (age / HALF_LIFE) for age in range(12 * HALF_LIFE))
RECENT_FADE_BY_AGE = tuple(FADE_RECENT**age for age in range(12 * RECENT_HALF_LIFE))
"""What is left of 1, by age in events."""
PLAIN = 100
"""Weight of a clause of a statement or a fact, in hundredths."""
SAID_IN_PASSING = 0.6
"""Weight of what a post or dialogue says of a like, against 1 for a statement."""
MAX_SCORE = 20.0
Evidence = tuple[int, int, int, int]
"""(for, against, recent balance, event of the last change); hundredths, as they stood at that event."""
PRICE = len(FEATURES)
"""Position of the price after the features, in every vector."""
WIDTH = len(FEATURES) + 1
ZEROS = (0.0,) * WIDTH
MIDDLE_YEAR = 2000
"""What years are counted from, so that half precision holds them."""


class Contrasts(NamedTuple):
    """Sums over choices, one entry a feature and one for the logarithm of the price."""

    lean: tuple[float, ...] = ZEROS
    spread: tuple[float, ...] = ZEROS
    recent_lean: tuple[float, ...] = ZEROS
    usual: tuple[float, ...] = ZEROS
    """Sum of the features of texts judged alone."""


class Tallies(NamedTuple):
    """Fading counts and sums."""

    judged: float = 0.0
    """Texts in `Contrasts.usual`."""
    liking: float = 0.0
    """Sum of ratings on [-1, 1]."""
    rated: float = 0.0
    weighed: float = 0.0
    """Contrasts in `Contrasts.lean`."""
    weighed_recent: float = 0.0
    dated: float = 0.0
    year: float = 0.0
    """Sum of the years, from MIDDLE_YEAR, of the `dated` items taken."""
    year_spread: float = 0.0
    """Sum of their distances in years from the mean before them."""
    embedded: float = 0.0
    """Choices in `Profile.direction`."""
    reach: float = 0.0
    """Largest number of `Profile.direction`, which 127 stands for there."""


class StatedClause(NamedTuple):
    """A clause of what the user said (`services.statements.clauses.Clause`)."""

    quote: str
    target: str
    """What it is about; empty where it claims nothing."""
    polarity: int
    """Hundredths on [-100, 100]."""
    kind: str
    event: int
    """Number of the event that it was said in."""
    weight: int = PLAIN
    """Hundredths of what a statement counts."""
    style: tuple[tuple[str, int], ...] = ()
    """Wishes about the writing of texts, by feature, in hundredths."""
    is_struck: bool = False
    """Whether the user took it back later."""
    language: str = "en"
    """ISO 639-1; empty where it is not known."""
    day: int = 0
    """On which it was said (`day_of`); 0 where that is not known."""


class Standing(NamedTuple):
    """A claim that the text makes until the evidence has clearly gone."""

    level: int
    """How sure it is; 1 is the least."""
    event: int
    """Number of the event from which on it stands."""
    day: int
    """Of that event; 0 where that is not known."""


class Price(NamedTuple):
    """What was paid, or rated well at a price."""

    amount: float
    """To four digits."""
    currency: str
    label: str
    """The first category of the item."""


NO_CONTRASTS = Contrasts()
NO_TALLIES = Tallies()


@dataclass(frozen=True, slots=True)
class Profile:
    """Bounded sufficient statistics of one user. Compare and copy freely; never change in place."""

    events: int = 0
    contrasts: Contrasts = NO_CONTRASTS
    tallies: Tallies = NO_TALLIES
    terms: Mapping[str, Evidence] = field(default_factory=dict)
    categories: Mapping[str, Evidence] = field(default_factory=dict)
    clauses: tuple[StatedClause, ...] = ()
    """What the user said, newest last."""
    years: tuple[int, int] | None = None
    """A year and a number of years around it, of which the user's own text tells."""
    direction: bytes = b""
    """Sum of the vectors of what was taken, less those of what was passed over; a byte a number."""
    own: str = ""
    """The text that the user wrote over the summary; it heads every later one."""
    standing: Mapping[str, Standing] = field(default_factory=dict)
    """What the text claims, by key (`services.profile.claims.standing`)."""
    support: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By key of a claim, how many events spoke for it, then the numbers of some of them, newest last."""
    titles: Mapping[int, str] = field(default_factory=dict)
    """Of what was taken in those events, by their number."""
    prices: Mapping[int, Price] = field(default_factory=dict)
    """Of the latest items taken that tell one, by the number of their event."""
    left_out: int = 0
    """Events that have a number and do not count, because of a rollback."""
    memory: bytes = b""
    """Sentences that the user said in passing (`services.profile.stated.memory`)."""
    latest: int = 0
    """Seconds since 1970 at which the latest event occurred, or was received where it does not say; 0 for none."""


EMPTY = Profile()


def day_of(time: datetime | None) -> int:
    """Days, of which the first of January of year 1 is the first; 0 for None."""
    return time.toordinal() if time else 0


def distance(here: Sequence[float], there: Sequence[float], bound: float) -> list[float]:
    """`here` less `there`, each entry cut at ±bound."""
    low = -bound
    return [bound if (d := a - b) > bound else low if d < low else d for a, b in zip(here, there, strict=True)]


def fade_at(table: tuple[float, ...], age: int) -> float:
    """What is left of 1 after `age` events; nothing past the end of the table."""
    return table[age] if age < len(table) else 0.0


def dot(first: Iterable[float], second: Iterable[float]) -> float:
    return float(sum(map(mul, first, second)))


def clip(value: float, bound: float) -> float:
    """`value` cut at ±bound."""
    return max(-bound, min(bound, value))
