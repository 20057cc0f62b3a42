"""The reason for an item in words: the strongest single ground of the profile for or against it."""

import re
from collections.abc import Iterable, Sequence

from alignx.schemas.items import Item
from services.profile.claims.standing import CLEARLY, pole_of
from services.profile.item_features import ItemFeatures, extract_features
from services.profile.scoring import (
    CATEGORY_PRIOR,
    TERM_PRIOR,
    Offer,
    log_odds,
    offer,
    weights,
    year_fit,
    year_taken,
)
from services.profile.stated.allowed import Allowed
from services.profile.stated.matching import Matches, match
from services.profile.stated.sensitive import DEFAULT, Policy
from services.profile.statistics import PRICE, Profile, StatedClause, clip, distance
from services.profile.style_features import FEATURES, TYPICAL, words
from services.profile.word_vectors import embed_items, nearer, nearness

_SENTENCE_WORDS = 5
"""Words from which on an item is a text that can be written in a way; fewer are a name, unless they end a sentence."""
_ENDS_SENTENCE = re.compile(r"[.!?…。！？।؟][\"'”’)]*\s*\Z")


def reasons(
    profile: Profile, query: str, items: Sequence[Item], indices: Iterable[int], policy: Policy = DEFAULT
) -> list[str]:
    """For each item at `indices` among all `items`, the strongest single thing that speaks for it, or against it where
    that is stronger. Nothing that the user asked to forget is told, and no subject that the `policy` keeps out."""
    known = frozenset(words(query))
    views = [extract_features(item, known) for item in items]
    vectors = embed_items(views)
    near, matches = nearness(profile, vectors), match(profile, views, vectors, query)
    usual, allowed = offer(profile, views, near), Allowed(profile, policy)
    said = [_tell(clause, allowed) for clause in matches.clauses]
    return [
        _reason(
            profile,
            views[index],
            usual,
            near[index],
            [*_stated_grounds(matches, said, index, allowed), *_topic_grounds(profile, views[index], allowed)],
        )
        for index in indices
    ]


def _reason(profile: Profile, view: ItemFeatures, usual: Offer, near: float, known: Iterable[tuple[float, str]]) -> str:
    meaning = nearer(near, usual.nearness, usual.trust)
    grounds = [
        *known,
        *_style_grounds(profile, view),
        *_offer_grounds(profile, view, usual),
        (meaning, f"It is {'close to' if meaning > 0 else 'far from'} what they took before in meaning."),
    ]
    weight, sentence = max(grounds, key=lambda ground: abs(ground[0]), default=(0.0, ""))
    return sentence if abs(weight) >= 0.15 else "Nothing known about this user speaks for or against it."


def _tell(clause: StatedClause, allowed: Allowed) -> str:
    """What a clause says; "" where that may not be told."""
    if not allowed.may_quote(clause.quote or clause.target, clause.language, clause.event):
        return ""
    if clause.quote:
        return f": '{clause.quote.rstrip('.!')}'"
    return f" about {clause.target}" if allowed(clause.target) else ""  # an option, in an assistant's words


def _stated_grounds(matches: Matches, said: Sequence[str], index: int, allowed: Allowed) -> Iterable[tuple[float, str]]:
    for saying, value in zip(said, matches.odds[:, index], strict=True):
        if saying:
            yield value, f"{'Matches' if value > 0 else 'Goes against'} what they said{saying}."
    if matches.recall and (said_before := matches.recall.said[index]):
        value = matches.recall.odds[index]
        may_quote = allowed.may_quote(said_before.text, "en", said_before.event)
        quoted = f": '{said_before.text.rstrip('.!')}'" if may_quote else ""
        yield (
            value,
            f"It recalls what they said{quoted}." if value > 0 else "It claims what nothing they said comes near to.",
        )


def _topic_grounds(profile: Profile, view: ItemFeatures, allowed: Allowed) -> Iterable[tuple[float, str]]:
    for label in view.categories:
        if (evidence := profile.categories.get(label)) is not None and allowed(label):
            odds = log_odds(evidence, profile.events, CATEGORY_PRIOR)
            yield odds, f"It belongs to {label}, which they {_leaning(odds)}."
    for word in view.terms:
        if (evidence := profile.terms.get(word)) is not None and allowed(word):
            odds = log_odds(evidence, profile.events, TERM_PRIOR)
            yield odds, f"It mentions {word}, which they {_leaning(odds)}."


def _leaning(odds: float) -> str:
    """No more than the evidence bears: one choice makes no habit."""
    if abs(odds) < CLEARLY:
        return "lean towards" if odds > 0 else "lean away from"
    return "often pick" if odds > 0 else "tend to pass over"


def _style_grounds(profile: Profile, view: ItemFeatures) -> Iterable[tuple[float, str]]:
    if view.style is None or not (len(view.text) >= _SENTENCE_WORDS or _ENDS_SENTENCE.search(view.written)):
        return
    coefficients = weights(profile)
    for index, difference in enumerate(distance(view.style, TYPICAL, 1.0)):
        if not FEATURES[index].high:
            continue
        fits = coefficients[index] * difference > 0
        ending = "and this is one" if fits else "and this is not one"
        pole = pole_of(index, coefficients[index])
        yield view.trust * coefficients[index] * difference, f"They prefer texts that {pole}, {ending}."


def _offer_grounds(profile: Profile, view: ItemFeatures, usual: Offer) -> Iterable[tuple[float, str]]:
    """Where an item stands among those on offer."""
    if view.price is not None:
        coefficient, difference = weights(profile)[PRICE], clip(view.price - usual.price, 1.0)
        ending = "and this is one" if coefficient * difference > 0 else "and this is not one"
        yield (
            coefficient * difference,
            f"They tend to take the {'dearer' if coefficient > 0 else 'cheaper'} on offer, {ending}.",
        )
    if view.year is not None:
        fit = year_fit(year_taken(profile), view.year) - usual.year
        yield fit, f"It is {'nearer to' if fit > 0 else 'further from'} the years they usually take than most on offer."
    if view.popularity is not None:
        more = view.popularity - usual.popularity
        yield more, f"It is taken {'more' if more > 0 else 'less'} often than most on offer."
