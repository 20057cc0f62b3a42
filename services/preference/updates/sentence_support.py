"""Finds the events that each sentence of an engine's summary rests on, and makes its claims of them.

A topic is supported by an event that names more than half of its words, or that is close to it by word vectors
(services/profile/word_table.py); a style by a choice whose texts differ so, or by a wish. What is said to be disliked
is looked for in what the user passed over. A sentence of the version before keeps the support that it had. Pure
functions; the reading of a long history takes tens of milliseconds.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    DemographicInteraction,
    DialogueInteraction,
    Interaction,
    PostInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from alignx.schemas.items import item_text
from alignx.schemas.summaries import MAX_SUPPORT, Claim, StoredInteraction
from services.preference.updates.user_rules import normalise_sentence, read_styles
from services.profile.item_features import extract_features
from services.profile.scoring import contrast
from services.profile.statistics import PRICE
from services.profile.style_features import INDEX, STOP, words
from services.profile.word_forms import root
from services.profile.word_table import embed
from services.prompts.replies.consistency import find_claims
from services.prompts.replies.lexicon import Reading
from services.prompts.sentences import split_sentences
from services.statements.clauses import read_clauses
from services.storage.users import event_time

Vector = NDArray[np.float32]

_CLOSE: Final = 0.35
"""Cosine of a topic and an event's text from which on they are about the same."""
_ALIKE: Final = 0.7
"""Share of words by which a sentence is one of the version before, in other words."""
_MIN_CONTRAST: Final = 0.15
"""Difference of a feature of style between what was chosen and what was not."""
_GENERAL: Final = frozenset(
    root(word)
    for listed in (
        "user person customer reader prefer like enjoy love interest taste choice option topic thing item content",
        "subject product answer reply text tend response drawn favour favor dislike avoid value often lately clear",
        "strong particular show shown seem appear mostly care pass passed pick picked chose chosen read buy bought",
        "watch liking fond keen recent little",
    )
    for word in listed.split()
)
"""Words of any summary: they name no topic."""
_PRICES: Final = {
    root(word): sign
    for sign, listed in ((-1.0, "cheap cheaper inexpensive affordable budget"), (1.0, "expensive dear pricey luxury"))
    for word in listed.split()
}
"""Words of low and of high prices."""


class _Sides(NamedTuple):
    """What an event tells."""

    taken: str
    """What was chosen, liked or said."""
    passed: str
    """What was passed over, disliked or said."""


class _Part(NamedTuple):
    """What a sentence says of one topic."""

    text: str
    roots: frozenset[str]
    least: int
    """How many of the roots an event must name."""
    side: int | None
    """Place in `_Sides` of what speaks for it; None where either does."""


class _Evidence:
    """The events, as sentences are compared with them."""

    def __init__(self, events: Sequence[StoredInteraction]) -> None:
        self.ids = [event.event_id for event in events]
        self.interactions = [event.interaction for event in events]
        sides = list(map(_split_sides, self.interactions))
        self.roots = [[_roots(side) for side in both] for both in sides]
        self.vectors = [embed([both[place] for both in sides]) for place in (0, 1)]

    def find_topic(self, part: _Part, vector: Vector) -> set[int]:
        """Places of the events that speak of a topic."""
        places = (0, 1) if part.side is None else (part.side,)
        close = np.max([self.vectors[place] @ vector for place in places], axis=0) >= _CLOSE
        return {
            index
            for index, roots in enumerate(self.roots)
            if close[index] or any(len(part.roots & roots[place]) >= part.least for place in places)
        }

    def find_style(self, name: str, sign: float) -> set[int]:
        return {index for index, styles in enumerate(self.styles) if styles.get(name, 0.0) * sign > _MIN_CONTRAST}

    @cached_property
    def styles(self) -> list[dict[str, float]]:
        """The features of style that each event speaks for (above 0) or against."""
        return list(map(_read_event_styles, self.interactions))


def support_sentences(
    text: str, own: str, events: Sequence[StoredInteraction], past: Sequence[Claim] = ()
) -> tuple[Claim, ...]:
    """The claims of `text`, which begins with the `own` text of the user: those of kind `own`, then the engine's with
    their support in `events`, oldest first, and in the `past` version's claims."""
    rest = text.removeprefix(own)
    sentences = [sentence for part in split_sentences(rest) if normalise_sentence(sentence := part.strip())]
    supporters = _find_supporters(sentences, events)
    claims = [_make_claim(sentence, ids, past) for sentence, ids in zip(sentences, supporters, strict=True)]
    return (*own_claims(own), *{claim.id: claim for claim in claims}.values())


def own_claims(text: str) -> tuple[Claim, ...]:
    """The claims of a text that the user wrote over the summary; it needs no support."""
    sentences = [sentence for part in split_sentences(text) if normalise_sentence(sentence := part.strip())]
    return tuple(Claim(id=_claim_id(sentence), text=sentence, kind="own") for sentence in dict.fromkeys(sentences))


def _claim_id(sentence: str) -> str:
    return hashlib.sha256(normalise_sentence(sentence).encode()).hexdigest()[:12]


def _make_claim(sentence: str, ids: list[str], past: Sequence[Claim]) -> Claim:
    earlier = _find_earlier(sentence, past)
    known = earlier.support if earlier else ()
    new = [event_id for event_id in ids if event_id not in known]
    return Claim(
        id=_claim_id(sentence),
        text=sentence,
        kind="model",
        support=(*known, *new)[-MAX_SUPPORT:],
        count=len(new) + (earlier.count if earlier else 0),
        since=earlier.since if earlier and earlier.since else event_time(ids[0]) if ids else None,
        supported=bool(ids) or (earlier is not None and earlier.kind == "model" and earlier.supported),
    )


def _find_earlier(sentence: str, past: Sequence[Claim]) -> Claim | None:
    """The past claim that says the same, with the same sign."""
    claim_id, spoken = _claim_id(sentence), set(map(root, words(sentence)))
    best, most = None, _ALIKE
    for claim in past:
        if claim.id == claim_id or claim.text == sentence:
            return claim
        others = set(map(root, words(claim.text)))
        share = len(spoken & others) / max(1, len(spoken | others))
        if share >= most and _signs(claim.text) == _signs(sentence):
            best, most = claim, share
    return best


def _signs(sentence: str) -> set[bool]:
    return {claim.is_liked for claim in find_claims(Reading(sentence))}


def _find_supporters(sentences: Sequence[str], events: Sequence[StoredInteraction]) -> list[list[str]]:
    """The ids of the events that speak for each sentence, none where they speak of less than half of it."""
    if not events or not sentences:
        return [[] for _ in sentences]
    evidence = _Evidence(events)
    styles = [read_styles(sentence) | _read_price(sentence) for sentence in sentences]
    parts = list(map(_split_parts, sentences, styles))
    vectors = iter(embed([_topical(part.text) for some in parts for part in some]))
    supporters = []
    for some, wishes in zip(parts, styles, strict=True):
        found = [evidence.find_topic(part, next(vectors)) for part in some]
        found += [evidence.find_style(name, sign) for name, sign in wishes.items()]
        is_supported = 2 * sum(map(bool, found)) >= len(found)
        places = sorted(set[int]().union(*found)) if is_supported else []
        supporters.append([evidence.ids[place] for place in places])
    return supporters


def _split_parts(sentence: str, styles: Mapping[str, float]) -> list[_Part]:
    """The topics that a sentence claims; of one without, that is not of style, its words as a whole."""
    parts = []
    for claim in find_claims(Reading(sentence)):
        for topic in claim.topics:
            roots = _roots(topic) - _PRICES.keys()
            if roots and not (styles and any(clause.style for clause in read_clauses(topic))):
                parts.append(_Part(topic, roots, len(roots) // 2 + 1, 0 if claim.is_liked else 1))
    if parts or styles:
        return parts
    roots = _roots(sentence)
    return [_Part(sentence, roots, 2 if len(roots) > 2 else 1, None)] if roots else []


def _read_price(sentence: str) -> dict[str, float]:
    """Whether it says that dear items are preferred (1) or cheap ones (-1); nothing where it says neither, or both."""
    signs = {
        _PRICES[key] * (1.0 if claim.is_liked else -1.0)
        for claim in find_claims(Reading(sentence))
        for key in _roots(claim.object) & _PRICES.keys()
    }
    return {"price": signs.pop()} if len(signs) == 1 else {}


def _roots(text: str) -> frozenset[str]:
    """The words that can name a topic."""
    return frozenset(map(root, _topical(text).split()))


def _topical(text: str) -> str:
    """A text's words that can name a topic."""
    spoken = [word for line in text.split("\n") for word in words(line)]
    return " ".join(word for word in spoken if word not in STOP and root(word) not in _GENERAL)


def _split_sides(interaction: Interaction) -> _Sides:
    match interaction:
        case DialogueInteraction(messages=messages):
            said = "\n".join(turn.content for turn in messages if turn.role == "user")
            return _Sides(said, said)
        case PostInteraction(prompt=prompt, text=text):
            return _Sides(f"{prompt or ''}\n{text}", text)
        case RatingInteraction(item=item, review=review):
            text = f"{item_text(item)}\n{review or ''}"
            return _Sides(text if interaction.liking >= 0 else "", text if interaction.liking <= 0 else "")
        case DemographicInteraction(text=text) | StatementInteraction(text=text):
            return _Sides(text, text)
        case PurchaseInteraction(item=chosen, considered=others):
            query = ""
        case ClickInteraction(clicked=chosen, shown=others, query=query):
            pass
        case ComparisonInteraction(chosen=chosen, rejected=rejected, query=query):
            others = (rejected,)
    passed = "\n".join(item_text(item) for item in others if item != chosen)
    return _Sides(f"{query or ''}\n{item_text(chosen)}", passed)


def _read_event_styles(interaction: Interaction) -> dict[str, float]:
    styles: dict[str, float] = {}
    if isinstance(interaction, DemographicInteraction | StatementInteraction | PostInteraction | DialogueInteraction):
        for clause in read_clauses(_split_sides(interaction).passed):
            styles |= clause.style
        return styles
    pairs = interaction.pairs()
    if not pairs:
        return styles
    chosen = extract_features(pairs[0].chosen)
    differences = [contrast(chosen, extract_features(pair.rejected)) for pair in pairs]
    means = np.mean(differences, axis=0).tolist()
    return {"price": means[PRICE]} | {name: means[place] for name, place in INDEX.items()}
