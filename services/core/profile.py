"""The fast profile: what a user prefers, as bounded statistics that score items without an engine.

`scores` compares items, `dumps` and `loads` store a profile; `services.core.folding` takes events in
and `services.core.wording` writes the profile as text. Everything is pure and no state grows without
bound.

Model. Each choice is a contrast d between the chosen and the rejected text on the scales of
`style.FEATURES`. With a = sum of d and b = sum of d², both fading with age, the weight of a feature is
a / (b + PRIOR): the one-feature ridge regression of "chosen" on d, so consistent small contrasts
count as much as rare large ones and little evidence gives little weight. A word or a category has the
log-odds log((for + PRIOR) / (against + PRIOR)) of fading counts. What a user states about a feature
or word replaces or outweighs what was inferred of it.
"""

import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt
from operator import mul
from typing import Any, NamedTuple

import orjson

from services.core.schemas import Item
from services.core.statements import stem
from services.core.style import FEATURES, INDEX, Reading, read_item, words

PROFILE_SCHEMA = 1
"""Stands in every dump; a profile of another schema is rebuilt from the history."""

HALF_LIFE = 48
"""Events after which what is known of a topic counts half."""
STYLE_HALF_LIFE = 24
"""Choices after which a contrast of style counts half."""
RECENT_HALF_LIFE = 4
FADE = 0.5 ** (1 / STYLE_HALF_LIFE)
FADE_RECENT = 0.5 ** (1 / RECENT_HALF_LIFE)
FADED = tuple(0.5 ** (age / HALF_LIFE) for age in range(12 * HALF_LIFE))
FADED_RECENT = tuple(FADE_RECENT**age for age in range(12 * RECENT_HALF_LIFE))
"""What is left of 1, by age in events."""

STYLE_PRIOR = 2.0
TERM_PRIOR = 200
CATEGORY_PRIOR = 100
"""Hundredths of an occurrence, for and against, that every word or category starts with."""
OLDER_SHARE, RECENT_SHARE = 0.5, 0.5
"""The last few choices weigh more, so that a change of taste shows soon."""
STATED_STYLE = 3.0
STATED_TERM = 2.0
SAID_IN_PASSING = 0.6
"""Weight of what a post or dialogue says of a like, against 1 for a statement."""
MAX_SCORE = 20.0

Evidence = tuple[int, int, int, int]
"""(for, against, recent balance, event of the last change); hundredths, as they stood at that event."""

PRICE = len(FEATURES)
"""Position of the price after the features, in every vector."""
_WIDTH = len(FEATURES) + 1
ZEROS = (0.0,) * _WIDTH
_SCALARS = 7


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
    priced: float = 0.0
    price: float = 0.0
    """Sum of log2 prices of the `priced` items taken."""


NO_CONTRASTS = Contrasts()
NO_TALLIES = Tallies()
_PACKING = struct.Struct(f"<{4 * _WIDTH + _SCALARS}e")


@dataclass(frozen=True, slots=True)
class Profile:
    """Bounded sufficient statistics of one user. Compare and copy freely; never change in place."""

    events: int = 0
    contrasts: Contrasts = NO_CONTRASTS
    tallies: Tallies = NO_TALLIES
    terms: Mapping[str, Evidence] = field(default_factory=dict)
    categories: Mapping[str, Evidence] = field(default_factory=dict)
    stated: Mapping[str, int] = field(default_factory=dict)
    """Stated likes in hundredths on [-100, 100], newest last: stems of words, and features as `~name`."""
    statements: tuple[str, ...] = ()
    """The user's own sentences, newest last."""
    facts: tuple[str, ...] = ()
    own: str = ""
    """The text that the user wrote over the summary; it heads every later one."""


EMPTY = Profile()


# --- scores -------------------------------------------------------------------------------------


def scores(profile: Profile, query: str, items: Sequence[Item]) -> list[float]:
    """Log-odds of each item against the others on offer; all 0 while nothing is known."""
    asked = frozenset(words(query))
    return _scores(profile, weights(profile), [read_item(item, asked) for item in items])


def probabilities(profile: Profile, query: str, items: Sequence[Item]) -> list[float]:
    """Softmax of `scores`."""
    values = scores(profile, query, items)
    top = max(values, default=0.0)
    odds = [exp(value - top) for value in values]
    total = sum(odds)
    return [value / total for value in odds]


def weights(profile: Profile) -> list[float]:
    """What one unit of each feature, and of log2 price, is worth."""
    sums, counts = profile.contrasts, profile.tallies
    recent = counts.weighed_recent / counts.weighed if counts.weighed else 0.0
    worth = [
        OLDER_SHARE * a / (b + STYLE_PRIOR) + RECENT_SHARE * x / (recent * b + STYLE_PRIOR)
        for a, b, x in zip(sums.lean, sums.spread, sums.recent_lean, strict=True)
    ]
    for name, value in profile.stated.items():
        if name[0] == "~" and name[1:] in INDEX:
            worth[INDEX[name[1:]]] = STATED_STYLE * value / 100
    return worth


def _scores(profile: Profile, worth: list[float], views: Sequence[Reading]) -> list[float]:
    written = [view.style for view in views if view.style is not None]
    trust = min((view.trust for view in views if view.style is not None), default=0.0)
    middle = [sum(column) / len(written) for column in zip(*written, strict=True)]
    prices = [view.price for view in views if view.price is not None]
    middle_price = sum(prices) / len(prices) if prices else 0.0
    values = []
    for view in views:
        value = _topics(profile, view)
        if view.style is not None:
            value += trust * _dot(worth, distance(view.style, middle, 1.0))
        if view.price is not None:
            value += worth[PRICE] * clip(view.price - middle_price, 1.0)
        values.append(clip(value, MAX_SCORE))
    return values


def margin(profile: Profile, worth: list[float], one: Reading, other: Reading, apart: Sequence[float]) -> float:
    """The difference of the `_scores` of two items whose `contrast` is known."""
    return _dot(worth, apart) + _topics(profile, one) - _topics(profile, other)


def contrast(one: Reading, other: Reading) -> list[float]:
    """Features and log2 price of one item less those of another, each cut at 2; what cannot be compared is 0."""
    apart = list(ZEROS)
    if one.style is not None and other.style is not None:
        trust = min(one.trust, other.trust)
        apart[:PRICE] = [trust * d for d in distance(one.style, other.style, 2.0)]
    if one.price is not None and other.price is not None:
        apart[PRICE] = clip(one.price - other.price, 2.0)
    return apart


def _dot(one: Iterable[float], other: Iterable[float]) -> float:
    return float(sum(map(mul, one, other)))


def distance(here: Sequence[float], there: Sequence[float], bound: float) -> list[float]:
    """`here` less `there`, each entry cut at ±bound."""
    low = -bound
    return [bound if (d := a - b) > bound else low if d < low else d for a, b in zip(here, there, strict=True)]


def _topics(profile: Profile, view: Reading) -> float:
    """Log-odds of an item's words and categories; over m known words their sum is divided by √m."""
    value = 0.0
    now = profile.events
    if profile.categories:
        for label in view.categories:
            if (evidence := profile.categories.get(label)) is not None:
                value += log_odds(evidence, now, CATEGORY_PRIOR)
    if profile.terms:
        table = profile.terms
        known = [log_odds(table[word], now, TERM_PRIOR) for word in view.terms if word in table]
        if known:
            value += sum(known) / sqrt(len(known))
    if profile.stated:
        value += STATED_TERM * sum(stated_terms(profile, view).values()) / 100
    return value


def stated_terms(profile: Profile, view: Reading) -> dict[str, int]:
    """What the user stated about words of the item: hundredths by stem."""
    stems = {stem(word) for word in view.tokens}
    return {word: value for word, value in profile.stated.items() if word in stems}


def log_odds(evidence: Evidence, now: int, prior: int) -> float:
    """For against against, each faded and on top of `prior` hundredths."""
    liked, disliked, _, at = evidence
    fade = faded(FADED, now - at)
    return log((liked * fade + prior) / (disliked * fade + prior))


def faded(table: tuple[float, ...], age: int) -> float:
    """What is left of 1 after `age` events; nothing past the end of the table."""
    return table[age] if age < len(table) else 0.0


def clip(value: float, bound: float) -> float:
    """`value` cut at ±bound."""
    return max(-bound, min(bound, value))


def rounded(contrasts: Contrasts, tallies: Tallies) -> tuple[Contrasts, Tallies]:
    """To half precision, which is what a dump holds: a profile and its dump behave alike."""
    return _unpacked(_packed(contrasts, tallies))


def _packed(contrasts: Contrasts, tallies: Tallies) -> bytes:
    return _PACKING.pack(*contrasts[0], *contrasts[1], *contrasts[2], *contrasts[3], *tallies)


def _unpacked(raw: bytes) -> tuple[Contrasts, Tallies]:
    flat = _PACKING.unpack(raw)
    return Contrasts(*(flat[start : start + _WIDTH] for start in range(0, 4 * _WIDTH, _WIDTH))), Tallies(
        *flat[4 * _WIDTH :]
    )


# --- storage ------------------------------------------------------------------------------------


def dumps(profile: Profile) -> bytes:
    """Compact JSON; `loads` gives back an equal profile."""
    return orjson.dumps(
        {
            "v": PROFILE_SCHEMA,
            "n": profile.events,
            "s": b64encode(_packed(profile.contrasts, profile.tallies)).decode(),
            "t": _listed(profile.terms, profile.events),
            "c": _listed(profile.categories, profile.events),
            "d": profile.stated,
            "q": profile.statements,
            "f": profile.facts,
            "o": profile.own,
        }
    )


def loads(raw: bytes) -> Profile:
    """Raises ValueError for bytes that are no dump of this PROFILE_SCHEMA."""
    try:
        kept = orjson.loads(raw)
        if kept["v"] != PROFILE_SCHEMA:
            raise ValueError(f"profile of schema {kept['v']}; this build reads {PROFILE_SCHEMA}")
        now = int(kept["n"])
        contrasts, tallies = _unpacked(b64decode(kept["s"]))
        return Profile(
            now,
            contrasts,
            tallies,
            _evidence(kept["t"], now),
            _evidence(kept["c"], now),
            kept["d"],
            tuple(kept["q"]),
            tuple(kept["f"]),
            kept["o"],
        )
    except (KeyError, TypeError, struct.error, IndexError) as error:
        raise ValueError("not a dump of a profile") from error


def _listed(table: Mapping[str, Evidence], now: int) -> list[Any]:
    """Names, then for each one (for, against, recent, age), in one flat list."""
    numbers = [value for liked, disliked, recent, at in table.values() for value in (liked, disliked, recent, now - at)]
    return [list(table), numbers]


def _evidence(listed: Sequence[Any], now: int) -> dict[str, Evidence]:
    names, numbers = listed
    rows = zip(*[iter(numbers)] * 4, strict=True)
    return {name: (row[0], row[1], row[2], now - row[3]) for name, row in zip(names, rows, strict=True)}
