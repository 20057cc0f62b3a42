"""Compares the claims of a summary with the user's events, as the fast profile has counted them.

Small models write sentences that are whole, and wrong: they turn a taste round, or claim one that nothing shows. The
profile counts no nuance, so a claim is refused only where every word of its topic was counted the other way, or where
a style is clearly turned round. Pure functions.
"""

import re
from collections.abc import Sequence
from math import log
from typing import Final

from services.errors import UnusableReply
from services.profile.claims.standing import CLEAR, LIKELY, style_certainties
from services.profile.scoring import topic_odds
from services.profile.stated.clauses import stated_styles
from services.profile.statistics import PRICE, Profile
from services.profile.style_features import INDEX, STOP, words
from services.profile.word_forms import root
from services.prompts.replies.consistency import Claim, find_claims
from services.prompts.replies.lexicon import Reading
from services.prompts.replies.summary_checks import Evidence
from services.statements.clauses import read_clauses

_AGAINST: Final = log(2) - 0.05
"""Log-odds of a word that one choice, not long ago, speaks against and none for."""
_OF_STYLE = re.compile(r"\b(?:answers?|repl(?:y|ies)|responses?|explanations?|texts?|writing)\b")
_UNMEASURED: Final = re.compile(
    r"\b(?:examples?|concrete|general rule|(?:to|with|at) the (?:point|result|answer|conclusion)|answer first|"
    r"background|context|step by step)\b"
)
"""Manners of an answer that no feature of style measures: what the events say of them is not known."""
_COUNTED: Final = frozenset(("length", "lists", "emoji"))
"""Styles that anybody can count in a text, so that one that no choice shows is not there. Others are nuances."""
_MAX_UNKNOWN: Final = 0.25
"""Greatest share of topics that no event names. A broader word, as "sports" for football, is one."""
_GENERAL: Final = frozenset(
    map(
        root,
        (
            *("topic", "thing", "item", "content", "subject", "product", "choice", "option"),
            *("example", "instance", "title", "mainly", "mostly", "particular", "particularly", "notably", "such"),
        ),
    )
)
"""Words that name no topic."""


def check_supported(text: str, profile: Profile, evidence: Evidence, *, grounded: bool) -> None:
    """Refuses a summary with a claim that the events speak against. One that is to be `grounded` is also refused where
    events speak of too few of its topics, or of no style, or do not show one that can be counted. Styles, and whether a
    text is grounded, are compared in English alone.

    Raises UnusableReply.
    """
    reading = Reading(text)
    is_english = reading.code == "en"
    topics = list[tuple[str, Claim]]()
    for claim in find_claims(reading):
        if is_english and _OF_STYLE.search(claim.object):
            _check_style(claim, profile, grounded=grounded)
        else:
            topics += [(topic, claim) for topic in claim.topics]
    all_odds = topic_odds(profile, [topic for topic, _ in topics])
    if any(_is_contradicted(claim, odds) for (_, claim), odds in zip(topics, all_odds, strict=True)):
        raise UnusableReply("supported", "the events speak against a claim")
    if grounded and is_english:
        known = frozenset(map(root, _topic_words(f"{evidence.events}\n{evidence.past}")))
        unknown = sum(not _is_known(topic, known) for topic, _ in topics)
        if unknown > _MAX_UNKNOWN * len(topics):
            raise UnusableReply("supported", "no event speaks of its topics")


def _topic_words(text: str) -> list[str]:
    """The words of a text of any length that can name a topic."""
    return [word for line in text.split("\n") for word in words(line) if word not in STOP]


def _is_contradicted(claim: Claim, odds: Sequence[float]) -> bool:
    """Whether every word of a topic was counted the other way."""
    if claim.is_limited or not odds:
        return False
    return max(value if claim.is_liked else -value for value in odds) <= -_AGAINST


def _is_known(topic: str, known: frozenset[str]) -> bool:
    """Whether more than half of its words stand in what was read."""
    roots = [key for key in map(root, _topic_words(topic)) if key not in _GENERAL]
    return 2 * sum(map(known.__contains__, roots)) > len(roots) or not roots


def _check_style(claim: Claim, profile: Profile, *, grounded: bool) -> None:
    said = _read_styles(claim)
    sign = 1 if claim.is_liked else -1
    if any(sign * direction * _shown(profile, name) <= -LIKELY for name, direction in said.items()):
        raise UnusableReply("supported", "the events speak against a style")
    if grounded and not ((said or _UNMEASURED.search(claim.object)) and _has_styles(profile)):
        raise UnusableReply("supported", "no event speaks of a style")
    seen = {name: direction for name, direction in said.items() if name in _COUNTED}
    if grounded and any(sign * direction * _shown(profile, name) <= 0 for name, direction in seen.items()):
        raise UnusableReply("supported", "no event shows a style")


def _read_styles(claim: Claim) -> dict[str, float]:
    """The styles that it names, without those of both poles: "short answers and long novels"."""
    parts = [_read_wishes(f"texts: {topic}") for topic in claim.topics]
    if not any(parts):
        parts = [_read_wishes(claim.object)]
    styles = {name: {part[name] for part in parts if name in part} for part in parts for name in part}
    return {name: poles.pop() for name, poles in styles.items() if len(poles) == 1}


def _read_wishes(wished: str) -> dict[str, float]:
    return {name: sign for clause in read_clauses(f"I prefer {wished}.") for name, sign in clause.style.items()}


def _shown(profile: Profile, name: str) -> float:
    """How surely a style is preferred, or its opposite: what was stated, else standard errors of choices."""
    stated = stated_styles(profile).get(name)
    return CLEAR * stated / 100 if stated else style_certainties(profile)[INDEX[name]]


def _has_styles(profile: Profile) -> bool:
    """Whether the user chose between texts, or said how they should be."""
    return any(profile.contrasts.spread[:PRICE]) or bool(stated_styles(profile))
