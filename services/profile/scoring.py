"""The fast profile: what a user prefers, as bounded statistics that score items without an engine.

`scores` compares items; `services.profile.fold` takes events in, `services.profile.render` writes the
profile as text and `services.profile.serialize` stores it. Everything is pure and no state grows without
bound.

Model. Each choice is a contrast d between the chosen and the rejected text on the scales of
`style_features.FEATURES`. With a = sum of d and b = sum of d², both fading with age, the weight of a feature is
a / (b + PRIOR): the one-feature ridge regression of "chosen" on d, so consistent small contrasts
count as much as rare large ones and little evidence gives little weight. A word or a category has the
log-odds log((for + PRIOR) / (against + PRIOR)) of fading counts. What a user states about a feature
or word replaces or outweighs what was inferred of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import exp, log, sqrt
from typing import NamedTuple

from alignx.schemas.items import Item, ItemFields
from services.profile.item_features import ItemFeatures, extract_features
from services.profile.stated.clauses import stated_styles
from services.profile.stated.matching import BY_WORDS, live_clauses, match, match_words
from services.profile.statistics import (
    FADE_BY_AGE,
    MAX_SCORE,
    MIDDLE_YEAR,
    PRICE,
    ZEROS,
    Evidence,
    Profile,
    clip,
    distance,
    dot,
    fade_at,
)
from services.profile.style_features import INDEX, words
from services.profile.word_forms import root
from services.profile.word_vectors import embed_items, nearer, nearness

STYLE_PRIOR = 2.0
TERM_PRIOR = 200
NAME_PRIOR = 100
CATEGORY_PRIOR = 100
"""Hundredths of an occurrence, for and against, that every word of a text, word of a name or category
starts with."""
YEAR_PRIOR = 3.0
"""Years by which anybody's taste spreads, beside what is seen of the user's own."""
OLDER_SHARE, RECENT_SHARE = 0.5, 0.5
"""The last few choices weigh more, so that a change of taste shows soon."""
_NORMAL_95 = 1.96
"""Standard errors of a 95 % interval."""
STATED_STYLE = 3.0


def scores(profile: Profile, query: str, items: Sequence[Item]) -> list[float]:
    """Log-odds of each item against the others on offer; all 0 while nothing is known."""
    query_words = frozenset(words(query))
    return compare(profile, [extract_features(item, query_words) for item in items], query)


def probabilities(profile: Profile, query: str, items: Sequence[Item]) -> list[float]:
    """Softmax of `scores`."""
    return softmax(scores(profile, query, items))


def softmax(values: Sequence[float]) -> list[float]:
    """Probabilities of log-odds, stable for any finite values; none for none."""
    top = max(values, default=0.0)
    odds = [exp(value - top) for value in values]
    total = sum(odds)
    return [value / total for value in odds]


def interval(accuracy: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` trials (Wilson 1927)."""
    spread = _NORMAL_95 * sqrt(accuracy * (1 - accuracy) / count + _NORMAL_95**2 / (4 * count * count))
    middle, scale = accuracy + _NORMAL_95**2 / (2 * count), 1 + _NORMAL_95**2 / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def weights(profile: Profile) -> list[float]:
    """The weight of one unit of each feature and of log2 price."""
    sums, counts = profile.contrasts, profile.tallies
    recent = counts.weighed_recent / counts.weighed if counts.weighed else 0.0
    coefficients = [
        OLDER_SHARE * a / (b + STYLE_PRIOR) + RECENT_SHARE * x / (recent * b + STYLE_PRIOR)
        for a, b, x in zip(sums.lean, sums.spread, sums.recent_lean, strict=True)
    ]
    for name, value in stated_styles(profile).items():
        coefficients[INDEX[name]] = STATED_STYLE * value / 100
    return coefficients


class Offer(NamedTuple):
    """Means of the items on offer; each item is compared with them."""

    price: float = 0.0
    year: float = 0.0
    """Mean of the `year_fit`."""
    popularity: float = 0.0
    nearness: float = 0.0
    trust: float = 0.0
    """Of the item that is least reliable."""


def offer(profile: Profile, views: Sequence[ItemFeatures], near: Sequence[float]) -> Offer:
    """`near` holds the `nearness` of the items."""
    usual = year_taken(profile)
    return Offer(
        _mean([view.price for view in views if view.price is not None]),
        _mean([year_fit(usual, view.year) for view in views if view.year is not None]),
        _mean([view.popularity for view in views if view.popularity is not None]),
        _mean(near),
        min((view.trust for view in views), default=0.0),
    )


def compare(profile: Profile, views: Sequence[ItemFeatures], query: str = "") -> list[float]:
    """As `scores`, of items whose features are known."""
    coefficients, vectors = weights(profile), embed_items(views)
    near, said = nearness(profile, vectors), match(profile, views, vectors, query).totals
    written = [view.style for view in views if view.style is not None]
    trust = min((view.trust for view in views if view.style is not None), default=0.0)
    middle = [sum(column) / len(written) for column in zip(*written, strict=True)]
    usual_year, usual = year_taken(profile), offer(profile, views, near)
    values = []
    for view, closeness, stated in zip(views, near, said, strict=True):
        value = stated + _topics(profile, view) + nearer(closeness, usual.nearness, usual.trust)
        if view.style is not None:
            value += trust * dot(coefficients, distance(view.style, middle, 1.0))
        if view.price is not None:
            value += coefficients[PRICE] * clip(view.price - usual.price, 1.0)
        if view.year is not None:
            value += year_fit(usual_year, view.year) - usual.year
        if view.popularity is not None:
            value += view.popularity - usual.popularity
        values.append(clip(value, MAX_SCORE))
    return values


def margin(
    profile: Profile, coefficients: list[float], first: ItemFeatures, second: ItemFeatures, difference: Sequence[float]
) -> float:
    """The difference of the scores of two items whose `contrast` is known, without what vectors tell."""
    value = dot(coefficients, difference) + _topics(profile, first) - _topics(profile, second)
    if first.year is not None and second.year is not None:
        usual = year_taken(profile)
        value += year_fit(usual, first.year) - year_fit(usual, second.year)
    if first.popularity is not None and second.popularity is not None:
        value += first.popularity - second.popularity
    return value


def year_taken(profile: Profile) -> tuple[float, float] | None:
    """The usual year of the items taken and the mean distance from it; None while no year is known."""
    tallies = profile.tallies
    if profile.years:
        return profile.years
    if tallies.dated < 0.01:
        return None
    return MIDDLE_YEAR + tallies.year / tallies.dated, tallies.year_spread / tallies.dated


def year_fit(usual: tuple[float, float] | None, year: float) -> float:
    """Log-likelihood of a year, up to a constant: Laplace's distribution around the usual one."""
    return -abs(year - usual[0]) / (usual[1] + YEAR_PRIOR) if usual else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def contrast(first: ItemFeatures, second: ItemFeatures) -> list[float]:
    """Features and log2 price of one item less those of another, each cut at 2; what cannot be compared is 0."""
    difference = list(ZEROS)
    if first.style is not None and second.style is not None:
        trust = min(first.trust, second.trust)
        difference[:PRICE] = [trust * d for d in distance(first.style, second.style, 2.0)]
    if first.price is not None and second.price is not None:
        difference[PRICE] = clip(first.price - second.price, 2.0)
    return difference


def _topics(profile: Profile, view: ItemFeatures) -> float:
    """Log-odds of an item's words and categories.

    The few words of a name count as if each were independent, so they add up. The many of a text and
    the categories of an item go together: over m known ones their sum is divided by √m.
    """
    value = 0.0
    now = profile.events
    if profile.categories:
        value += _damped_sum(
            [log_odds(evidence, now, CATEGORY_PRIOR) for evidence in _known(profile.categories, view.categories)]
        )
    if profile.terms:
        seen_terms = _known(profile.terms, view.terms)
        if view.style is None:
            value += sum([log_odds(evidence, now, NAME_PRIOR) for evidence in seen_terms])
        else:
            value += _damped_sum([log_odds(evidence, now, TERM_PRIOR) for evidence in seen_terms])
    return value


def _known(table: Mapping[str, Evidence], names: Iterable[str]) -> list[Evidence]:
    return [table[name] for name in names if name in table]


def _damped_sum(values: Sequence[float]) -> float:
    return sum(values) / sqrt(len(values)) if values else 0.0


def topic_odds(profile: Profile, topics: Sequence[str]) -> list[list[float]]:
    """What speaks for each topic, as log-odds: what the user stated of it, else what was counted of the category of
    that name, else of each of its words; 0 for a word that was not counted, and nothing for a topic without words."""
    by_label = {_roots(words(label)): evidence for label, evidence in profile.categories.items()}
    by_word: dict[str, float] = {}
    for term, evidence in profile.terms.items():
        by_word[root(term)] = by_word.get(root(term), 0.0) + log_odds(evidence, profile.events, NAME_PRIOR)
    odds, clauses = [], live_clauses(profile)
    for topic in topics:
        view = extract_features(ItemFields(title=topic))
        matches = zip(clauses, match_words(clauses, [view])[:, 0], strict=True)
        if stated := [BY_WORDS * share * clause.polarity / 100 for clause, share in matches if share]:
            odds.append(stated)
        elif label := by_label.get(_roots(view.tokens)):
            odds.append([log_odds(label, profile.events, CATEGORY_PRIOR)])
        else:
            odds.append([by_word.get(root(word), 0.0) for word in view.terms if " " not in word])
    return odds


def _roots(tokens: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(root, tokens))


@lru_cache(maxsize=8_192)
def log_odds(evidence: Evidence, now: int, prior: int) -> float:
    """log((for + prior) / (against + prior)) of the faded evidence, in hundredths."""
    liked, disliked, _, at = evidence
    fade = fade_at(FADE_BY_AGE, now - at)
    return log((liked * fade + prior) / (disliked * fade + prior))
