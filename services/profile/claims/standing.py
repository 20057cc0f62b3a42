"""Which claims the text makes of what a user was seen to do, and how surely.

Evidence wavers with every event; a claim does not. It is made when its evidence reaches a step, and stays until the
evidence has clearly left that step. Keys name claims: `topic:+Horror`, `style:-length`, `price:-`, `word:+guitar`, and
with `lately:` before them for the last few choices.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from services.profile.scoring import CATEGORY_PRIOR, NAME_PRIOR, log_odds
from services.profile.statistics import (
    FADE_BY_AGE,
    PRICE,
    RECENT_FADE_BY_AGE,
    Evidence,
    Profile,
    Standing,
    fade_at,
)
from services.profile.style_features import FEATURES, INDEX

EARLY, LIKELY, CLEAR = 0.7, 1.5, 2.6
"""Standard errors of a feature's mean contrast from which it is an early sign, likely, clear."""
SOMETIMES, OFTEN, CLEARLY = 0.4, 0.8, 1.1
"""Log-odds from which a topic is picked, or passed over, at times, often, and clearly."""
_SEEN: Final = 60
"""Hundredths of fading occurrences from which a topic is spoken of."""
_CLEAR_EVENTS: Final = 4
"""Events from which a topic may be clearly picked, or passed over."""
_LOW_RATINGS: Final = 3
"""Ratings below the user's own mean, for each above it, from which they care little for a topic."""
_SEEN_WORD: Final = 250
_MIN_WORD: Final = 3
_OF_ANY_TITLE: Final = frozenset(
    (
        *("bundle", "complete", "deluxe", "edition", "episode", "games", "limited", "official", "original", "part"),
        *("season", "series", "special", "standard", "ultimate", "version", "volume"),
    )
)
"""Words of titles that tell no topic."""


class Ladder(NamedTuple):
    """The steps of a claim, and where each is left again."""

    reached: tuple[float, ...]
    left: tuple[float, ...]

    def climb(self, value: float, level: int) -> int:
        """The level after evidence of `value`; 0 makes no claim."""
        reached = sum(value >= step for step in self.reached)
        return max(reached, min(level, sum(value >= step for step in self.left)))


_STYLE: Final = Ladder((EARLY, LIKELY, CLEAR), (0.4, 1.0, 2.0))
_TOPIC: Final = Ladder((SOMETIMES, OFTEN, CLEARLY), (0.15, 0.45, 0.7))
_WORD: Final = Ladder((CLEARLY,), (0.6,))
_PRICE: Final = Ladder((LIKELY,), (0.8,))
_TOPIC_TURN: Final = Ladder((140.0,), (50.0,))
_STYLE_TURN: Final = Ladder((1.0,), (0.3,))


def settle(profile: Profile, day: int) -> dict[str, Standing]:
    """What stands after the profile's newest event, which was on `day`."""
    standing = {}
    for key, value, ladder in _weigh(profile):
        before = profile.standing.get(key)
        level = ladder.climb(value, before.level if before else 0)
        if level:
            standing[key] = (
                Standing(level, before.event, before.day) if before else Standing(level, profile.events, day)
            )
    return standing


def _weigh(profile: Profile) -> Iterator[tuple[str, float, Ladder]]:
    """The claims that may be made, and the evidence for each."""
    certainties = style_certainties(profile)
    for position, certainty in enumerate(certainties):
        if position == PRICE:
            yield f"price:{_sign(certainty)}", abs(certainty), _PRICE
        elif FEATURES[position].high:
            yield f"style:{_sign(certainty)}{FEATURES[position].name}", abs(certainty), _STYLE
    for name, odds in _odds(profile, profile.categories, CATEGORY_PRIOR, _SEEN):
        rated, low = (profile.support.get(f"rated:{sign}{name}", (0,))[0] for sign in "+-")
        if low >= _LOW_RATINGS * max(1, rated):  # whatever was taken, it was rated low
            odds = min(odds, -OFTEN)
        key = f"topic:{_sign(odds)}{name}"
        is_often = profile.support.get(key, (0,))[0] >= _CLEAR_EVENTS
        yield key, abs(odds) if is_often else min(abs(odds), OFTEN), _TOPIC
    if not profile.categories:
        for name, odds in _odds(profile, profile.terms, NAME_PRIOR, _SEEN_WORD):
            if odds > 0 and len(name) >= _MIN_WORD and name.isalpha() and name not in _OF_ANY_TITLE:
                yield f"word:+{name}", odds, _WORD
    yield from _turns(profile, certainties)


def _sign(value: float) -> str:
    return "+" if value > 0 else "-"


def _odds(profile: Profile, table: Mapping[str, Evidence], prior: int, least: int) -> Iterator[tuple[str, float]]:
    now = profile.events
    for name, evidence in table.items():
        if (evidence[0] + evidence[1]) * fade_at(FADE_BY_AGE, now - evidence[3]) >= least:
            yield name, log_odds(evidence, now, prior)


def style_certainties(profile: Profile) -> list[float]:
    """Mean contrast over its standard error, by feature and for the price; the sign says which pole."""
    return [a / (b + 1) ** 0.5 for a, b in zip(profile.contrasts.lean, profile.contrasts.spread, strict=True)]


def _turns(profile: Profile, certainties: list[float]) -> Iterator[tuple[str, float, Ladder]]:
    """Where the last few choices turn against the longer run."""
    for name, (liked, disliked, recent, at) in profile.categories.items():
        if recent:
            turned = recent * fade_at(RECENT_FADE_BY_AGE, profile.events - at)
            sign = 1 if turned > 0 else -1
            earlier = -sign * (liked - disliked - recent)
            yield f"lately:topic:{_sign(turned)}{name}", min(sign * turned, 2.0 * earlier), _TOPIC_TURN
    counts, sums = profile.tallies, profile.contrasts
    if not counts.weighed:
        return
    share = counts.weighed_recent / counts.weighed
    for name, position in INDEX.items():
        if FEATURES[position].high:
            now = sums.recent_lean[position] / (share * sums.spread[position] + 1) ** 0.5
            contradiction = -now * certainties[position] / (EARLY * LIKELY)
            if contradiction > 0:
                yield f"lately:style:{_sign(now)}{name}", min(contradiction, abs(now) / EARLY), _STYLE_TURN


def pole_of(position: int, value: float) -> str:
    """The pole of a feature, after "texts that"."""
    return FEATURES[position].high if value > 0 else FEATURES[position].low
