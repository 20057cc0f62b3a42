"""The fast profile: what a user prefers, as bounded statistics that one event updates at once.

It needs no engine. `fold` takes one event in and tells how well the profile had foreseen the choices
in it; `scores` compares items; `render` writes the profile as text. Everything is pure and no state
grows without bound.

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
from math import exp, isfinite, log, sqrt
from operator import mul
from typing import Any, NamedTuple

import orjson

from services.core.schemas import (
    ClickInteraction,
    ComparisonInteraction,
    DemographicInteraction,
    DialogueInteraction,
    Interaction,
    Item,
    PostInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from services.core.style import (
    FEATURES,
    INDEX,
    MAX_ITEM_TERMS,
    MIRRORED,
    TYPICAL,
    Reading,
    Stated,
    clean,
    measure,
    parse_statement,
    parse_writing,
    read_item,
    stem,
    terms,
    words,
)

PROFILE_SCHEMA = 1
"""Stands in every dump; a profile of another schema is rebuilt from the history."""

HALF_LIFE = 48
"""Events after which what is known of a topic counts half."""
STYLE_HALF_LIFE = 24
"""Choices after which a contrast of style counts half."""
RECENT_HALF_LIFE = 4
_FADE = 0.5 ** (1 / STYLE_HALF_LIFE)
_FADE_RECENT = 0.5 ** (1 / RECENT_HALF_LIFE)
_FADED = tuple(0.5 ** (age / HALF_LIFE) for age in range(12 * HALF_LIFE))
_KEPT = len(_FADED)
_FADED_RECENT = tuple(_FADE_RECENT**age for age in range(12 * RECENT_HALF_LIFE))

STYLE_PRIOR = 2.0
TERM_PRIOR = 200
CATEGORY_PRIOR = 100
"""Hundredths of an occurrence, for and against, that every word or category starts with."""
OLDER_SHARE, RECENT_SHARE = 0.5, 0.5
"""The last few choices weigh more, so that a change of taste shows soon."""
STATED_STYLE = 3.0
STATED_TERM = 2.0
MAX_SCORE = 20.0

ASKED_TERM = 0.5
PURCHASE = 1.0
CLICK_ALONE = 0.7
TRIED = 0.25
REVIEW_TERM = 0.3
WRITTEN_TERM = 0.5
FACT_TERM = 0.3
SAID_IN_PASSING = 0.6
MIRROR = 0.15
"""Weight of one event of each kind, against 1 for a choice between two items."""

MAX_TERMS, KEEP_TERMS = 80, 56
MAX_CATEGORIES, KEEP_CATEGORIES = 40, 28
AGEING = 4
"""Hundredths of an occurrence by which an event's age lowers the rank of a name that may be dropped."""
MAX_STATED = 32
MAX_STATEMENTS, MAX_STATEMENT_CHARS = 6, 240
MAX_FACTS, MAX_FACT_CHARS = 4, 160
MAX_OTHERS = 24
"""Items passed over that one event teaches from."""
MAX_TURNS = 12

Evidence = tuple[int, int, int, int]
"""(for, against, recent balance, event of the last change); hundredths, as they stood at that event."""

_PRICE = len(FEATURES)
_WIDTH = len(FEATURES) + 1
_ZEROS = (0.0,) * _WIDTH
_SCALARS = 7


class Contrasts(NamedTuple):
    """Sums over choices, one entry a feature and one for the logarithm of the price."""

    lean: tuple[float, ...] = _ZEROS
    spread: tuple[float, ...] = _ZEROS
    recent_lean: tuple[float, ...] = _ZEROS
    usual: tuple[float, ...] = _ZEROS
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


EMPTY = Profile()


# --- scores -------------------------------------------------------------------------------------


def scores(profile: Profile, query: str, items: Sequence[Item]) -> list[float]:
    """Log-odds of each item against the others on offer; all 0 while nothing is known."""
    asked = frozenset(words(query))
    return _scores(profile, _weights(profile), [read_item(item, asked) for item in items])


def probabilities(profile: Profile, query: str, items: Sequence[Item]) -> list[float]:
    """Softmax of `scores`."""
    values = scores(profile, query, items)
    top = max(values, default=0.0)
    odds = [exp(value - top) for value in values]
    total = sum(odds)
    return [value / total for value in odds]


def _weights(profile: Profile) -> list[float]:
    """What one unit of each feature, and of log2 price, is worth."""
    sums, counts = profile.contrasts, profile.tallies
    recent = counts.weighed_recent / counts.weighed if counts.weighed else 0.0
    weights = [
        OLDER_SHARE * a / (b + STYLE_PRIOR) + RECENT_SHARE * x / (recent * b + STYLE_PRIOR)
        for a, b, x in zip(sums.lean, sums.spread, sums.recent_lean, strict=True)
    ]
    for name, value in profile.stated.items():
        if name[0] == "~" and name[1:] in INDEX:
            weights[INDEX[name[1:]]] = STATED_STYLE * value / 100
    return weights


def _scores(profile: Profile, weights: list[float], views: Sequence[Reading]) -> list[float]:
    written = [view.style for view in views if view.style is not None]
    trust = min((view.trust for view in views if view.style is not None), default=0.0)
    middle = [sum(column) / len(written) for column in zip(*written, strict=True)]
    prices = [view.price for view in views if view.price is not None]
    middle_price = sum(prices) / len(prices) if prices else 0.0
    values = []
    for view in views:
        value = _topics(profile, view)
        if view.style is not None:
            value += trust * _dot(weights, _distance(view.style, middle, 1.0))
        if view.price is not None:
            value += weights[_PRICE] * _clip(view.price - middle_price, 1.0)
        values.append(_clip(value, MAX_SCORE))
    return values


def _margin(profile: Profile, weights: list[float], one: Reading, other: Reading, apart: Sequence[float]) -> float:
    """The difference of the `_scores` of two items whose `_contrast` is known."""
    return _dot(weights, apart) + _topics(profile, one) - _topics(profile, other)


def _contrast(one: Reading, other: Reading) -> list[float]:
    """Features and log2 price of one item less those of another, each cut at 2; what cannot be compared is 0."""
    apart = list(_ZEROS)
    if one.style is not None and other.style is not None:
        trust = min(one.trust, other.trust)
        apart[:_PRICE] = [trust * d for d in _distance(one.style, other.style, 2.0)]
    if one.price is not None and other.price is not None:
        apart[_PRICE] = _clip(one.price - other.price, 2.0)
    return apart


def _dot(one: Iterable[float], other: Iterable[float]) -> float:
    return float(sum(map(mul, one, other)))


def _distance(here: Sequence[float], there: Sequence[float], bound: float) -> list[float]:
    low = -bound
    return [bound if (d := a - b) > bound else low if d < low else d for a, b in zip(here, there, strict=True)]


def _topics(profile: Profile, view: Reading) -> float:
    """Log-odds of an item's words and categories; over m known words their sum is divided by √m."""
    value = 0.0
    now = profile.events
    if profile.categories:
        for label in view.categories:
            if (evidence := profile.categories.get(label)) is not None:
                value += _log_odds(evidence, now, CATEGORY_PRIOR)
    if profile.terms:
        table = profile.terms
        known = [_log_odds(table[word], now, TERM_PRIOR) for word in view.terms if word in table]
        if known:
            value += sum(known) / sqrt(len(known))
    if profile.stated:
        value += STATED_TERM * sum(_stated_terms(profile, view).values()) / 100
    return value


def _stated_terms(profile: Profile, view: Reading) -> dict[str, int]:
    stems = {stem(word) for word in view.tokens}
    return {word: value for word, value in profile.stated.items() if word in stems}


def _log_odds(evidence: Evidence, now: int, prior: int) -> float:
    liked, disliked, _, at = evidence
    age = now - at
    fade = _FADED[age] if age < _KEPT else 0.0
    return log((liked * fade + prior) / (disliked * fade + prior))


def _faded(table: tuple[float, ...], age: int) -> float:
    return table[age] if age < len(table) else 0.0


def _clip(value: float, bound: float) -> float:
    return max(-bound, min(bound, value))


# --- folding ------------------------------------------------------------------------------------


class _Draft:
    """The parts of a profile that one event changes, copied once and written many times."""

    def __init__(self, profile: Profile) -> None:
        self.now = profile.events + 1
        self.contrasts = profile.contrasts
        self.tallies = profile.tallies
        self.terms = dict(profile.terms)
        self.categories = dict(profile.categories)
        self.stated = dict(profile.stated)
        self.statements = profile.statements
        self.facts = profile.facts

    def count(self, table: dict[str, Evidence], names: Iterable[str], weight: float) -> None:
        """Adds `weight` occurrences for (or, below 0, against) each name."""
        step = int(100 * weight)
        now = self.now
        plus, minus = (step, 0) if step > 0 else (0, -step)
        for name in names:
            kept = table.get(name)
            if kept is None:
                table[name] = (plus, minus, step, now)
                continue
            liked, disliked, recent, at = kept
            if at != now:
                fade = _FADED[now - at] if now - at < _KEPT else 0.0
                liked, disliked = int(liked * fade), int(disliked * fade)
                recent = int(recent * _faded(_FADED_RECENT, now - at))
            table[name] = (liked + plus, disliked + minus, recent + step, now)

    def like(self, view: Reading, weight: float) -> None:
        self.count(self.terms, view.terms, weight)
        self.count(self.categories, view.categories, weight)

    def learn_style(self, apart: Sequence[float], weight: float) -> None:
        """One contrast of _WIDTH entries, each already cut at 2."""
        old = self.contrasts
        size = abs(weight)
        self.contrasts = Contrasts(
            tuple([_FADE * a + weight * d for a, d in zip(old.lean, apart, strict=True)]),
            tuple([_FADE * b + size * d * d for b, d in zip(old.spread, apart, strict=True)]),
            tuple([_FADE_RECENT * a + weight * d for a, d in zip(old.recent_lean, apart, strict=True)]),
            old.usual,
        )
        counts = self.tallies
        self.tallies = Tallies(
            counts.judged,
            counts.liking,
            counts.rated,
            _FADE * counts.weighed + size,
            _FADE_RECENT * counts.weighed_recent + size,
            counts.priced,
            counts.price,
        )

    def pay(self, price: float) -> None:
        old = self.tallies
        self.tallies = old._replace(priced=_FADE * old.priced + 1, price=_FADE * old.price + price)

    def state(self, stated: Stated, weight: float) -> None:
        """Newest words win: a name that is stated again moves to the end."""
        said = {**stated.terms, **{f"~{name}": value for name, value in stated.style.items()}}
        for name, value in said.items():
            self.stated.pop(name, None)
            self.stated[name] = int(100 * weight * value)
        for name in list(self.stated)[: max(0, len(self.stated) - MAX_STATED)]:
            del self.stated[name]

    def profile(self) -> Profile:
        sums, tallies = _rounded(self.contrasts, self.tallies)
        return Profile(
            self.now,
            sums,
            tallies,
            _pruned(self.terms, self.now, MAX_TERMS, KEEP_TERMS),
            _pruned(self.categories, self.now, MAX_CATEGORIES, KEEP_CATEGORIES),
            self.stated,
            self.statements,
            self.facts,
        )


def _pruned(table: dict[str, Evidence], now: int, most: int, keep: int) -> dict[str, Evidence]:
    """Drops the least telling names once there are too many: little evidence, long ago."""
    if len(table) <= most:
        return table

    ranked = [(entry[0] + entry[1] - AGEING * (now - entry[3]), name) for name, entry in table.items()]
    ranked.sort(reverse=True)
    return {name: table[name] for _, name in ranked[:keep]}


def _rounded(contrasts: Contrasts, tallies: Tallies) -> tuple[Contrasts, Tallies]:
    """To half precision, which is what a dump holds: a profile and its dump behave alike."""
    return _unpacked(_packed(contrasts, tallies))


def _packed(contrasts: Contrasts, tallies: Tallies) -> bytes:
    return _PACKING.pack(*contrasts[0], *contrasts[1], *contrasts[2], *contrasts[3], *tallies)


def _unpacked(raw: bytes) -> tuple[Contrasts, Tallies]:
    flat = _PACKING.unpack(raw)
    return Contrasts(*(flat[start : start + _WIDTH] for start in range(0, 4 * _WIDTH, _WIDTH))), Tallies(
        *flat[4 * _WIDTH :]
    )


def fold(profile: Profile, interaction: Interaction) -> tuple[Profile, tuple[float, ...]]:
    """The profile with one more event, and the probability that the profile before it gave to the
    chosen item of each of the event's `pairs()`: 0.5 where it knew nothing."""
    draft = _Draft(profile)
    foreseen: tuple[float, ...] = ()
    match interaction:
        case ComparisonInteraction() | ClickInteraction() | PurchaseInteraction():
            foreseen = _fold_choice(profile, draft, interaction)
        case RatingInteraction():
            _fold_rating(draft, interaction)
        case PostInteraction():
            _fold_writing(draft, (interaction.text,))
        case DialogueInteraction():
            turns = [message.content for message in interaction.messages if message.role == "user"]
            _fold_writing(draft, turns[-MAX_TURNS:])
        case DemographicInteraction():
            draft.facts = _newest(draft.facts, clean(interaction.text, MAX_FACT_CHARS), MAX_FACTS)
            draft.count(draft.terms, terms(words(interaction.text), MAX_ITEM_TERMS), FACT_TERM)
        case StatementInteraction():
            said = clean(interaction.text, MAX_STATEMENT_CHARS)
            draft.statements = _newest(draft.statements, said, MAX_STATEMENTS)
            draft.state(parse_statement(said), 1.0)
    return draft.profile(), foreseen


def _newest(kept: tuple[str, ...], line: str, most: int) -> tuple[str, ...]:
    return (*(one for one in kept if one != line), line)[-most:] if line else kept


Choice = ComparisonInteraction | ClickInteraction | PurchaseInteraction


def _fold_choice(profile: Profile, draft: _Draft, event: Choice) -> tuple[float, ...]:
    pairs = event.pairs()
    if not pairs:
        item = event.item if isinstance(event, PurchaseInteraction) else event.clicked  # type: ignore[union-attr]
        _fold_alone(draft, read_item(item), PURCHASE if isinstance(event, PurchaseInteraction) else CLICK_ALONE)
        return ()
    asked = frozenset(words(pairs[0].query))
    chosen = read_item(pairs[0].chosen, asked)
    others = [read_item(pair.rejected, asked) for pair in pairs]
    weights = _weights(profile)
    contrasts = [_contrast(chosen, other) for other in others]
    margins = [_margin(profile, weights, chosen, other, apart) for other, apart in zip(others, contrasts, strict=True)]
    _learn_choice(draft, chosen, others[:MAX_OTHERS], contrasts[:MAX_OTHERS], ASKED_TERM if asked else 1.0)
    return tuple(1 / (1 + exp(-_clip(margin, 2 * MAX_SCORE))) for margin in margins)


def _learn_choice(
    draft: _Draft, chosen: Reading, others: Sequence[Reading], contrasts: Sequence[list[float]], topical: float
) -> None:
    """One unit of evidence for the chosen item and one against the others together, where they differ;
    `topical` units for their words."""
    share = 1 / len(others)
    for table, weight, own, theirs in (
        (draft.terms, topical, chosen.terms, [other.terms for other in others]),
        (draft.categories, 1.0, chosen.categories, [other.categories for other in others]),
    ):
        if not own and not any(theirs):
            continue
        common = frozenset(own).intersection(*theirs)
        draft.count(table, [name for name in own if name not in common], weight)
        for names in theirs:
            draft.count(table, [name for name in names if name not in common], -weight * share)
    apart = contrasts[0] if len(contrasts) == 1 else [share * sum(column) for column in zip(*contrasts, strict=True)]
    if any(apart):
        draft.learn_style(apart, 1.0)
    if chosen.price is not None:
        draft.pay(chosen.price)


def _fold_alone(draft: _Draft, view: Reading, liking: float) -> None:
    """An item judged by itself: its topics, and its style and price against what was judged before."""
    draft.like(view, liking)
    if view.price is not None and liking > 0:
        draft.pay(view.price)
    if view.style is None:
        return
    sums, tallies = draft.contrasts, draft.tallies
    if tallies.judged:
        middle = [total / tallies.judged for total in sums.usual[:_PRICE]]
        apart = [view.trust * d for d in _distance(view.style, middle, 2.0)]
        draft.learn_style([*apart, 0.0], 0.5 * liking)
    usual = [_FADE * total + here for total, here in zip(sums.usual, (*view.style, 0.0), strict=True)]
    draft.contrasts = draft.contrasts._replace(usual=tuple(usual))
    draft.tallies = draft.tallies._replace(judged=_FADE * tallies.judged + 1)


def _fold_rating(draft: _Draft, rating: RatingInteraction) -> None:
    """A rating counts against the user's own average; having tried the item at all counts a little."""
    tallies = draft.tallies
    given = rating.liking if isfinite(rating.liking) else 0.0
    liking = _clip(given - tallies.liking / (tallies.rated + 2), 1.0)
    draft.tallies = tallies._replace(liking=_FADE * tallies.liking + given, rated=_FADE * tallies.rated + 1)
    view = read_item(rating.item)
    draft.like(view, TRIED)
    _fold_alone(draft, view, liking)
    if rating.review:
        draft.count(draft.terms, terms(words(rating.review), MAX_ITEM_TERMS), REVIEW_TERM * liking)


def _fold_writing(draft: _Draft, texts: Sequence[str]) -> None:
    """What a person writes about is a topic of theirs; how they write hints at what they like to read."""
    tokens: list[str] = []
    for text in texts:
        spoken = words(text)
        tokens += spoken
        draft.state(parse_writing(text), SAID_IN_PASSING)
        manner = measure(text, spoken)
        apart = list(_ZEROS)
        for position in MIRRORED:
            apart[position] = _clip(manner[position] - TYPICAL[position], 1.0)
        if any(apart):
            draft.learn_style(apart, MIRROR)
    draft.count(draft.terms, terms(tokens, MAX_ITEM_TERMS), WRITTEN_TERM)


# --- words --------------------------------------------------------------------------------------


CLEAR, LIKELY, EARLY = 2.6, 1.5, 0.7
"""Standard errors of a feature's mean contrast from which it is called clear, likely, an early sign."""
MAX_TRAITS, MAX_LABELS, MAX_WORDS = 5, 6, 8


def render(profile: Profile) -> str:
    """A summary in plain sentences, one paragraph a subject: what the user says first, then what was seen."""
    parts = [
        _quoted("In their own words, newest first: ", profile.statements),
        _quoted("About them: ", profile.facts),
        _passing_sentences(profile),
        _style_sentences(profile),
        _topic_sentences(profile),
        _price_sentence(profile),
        _recent_sentences(profile),
    ]
    said = [part for part in parts if part]
    if not profile.events:
        return "Nothing is known about this user's preferences yet."
    events = "1 event" if profile.events == 1 else f"{profile.events} events"
    if not said:
        return f"No clear preference shows yet, after {events}."
    return "\n".join([*said, f"Based on {events} so far."])


def _quoted(opening: str, lines: Sequence[str]) -> str:
    """Newest first."""
    return opening + " ".join(f'"{line}"' for line in reversed(lines)) if lines else ""


def _passing_sentences(profile: Profile) -> str:
    """What was said in a post or dialogue; statements are quoted already."""
    passing = {name: value for name, value in profile.stated.items() if abs(value) < 100 * SAID_IN_PASSING + 1}
    poles = [_pole(INDEX[name[1:]], value) for name, value in passing.items() if name[0] == "~"]
    liked = [name for name, value in passing.items() if name[0] != "~" and value > 50]
    disliked = [name for name, value in passing.items() if name[0] != "~" and value < -50]
    sentences = []
    if poles:
        sentences.append(f"Has asked for texts that {_joined(poles[-MAX_TRAITS:])}.")
    if liked:
        sentences.append(f"Has mentioned liking: {', '.join(liked[-MAX_WORDS:])}.")
    if disliked:
        sentences.append(f"Has mentioned not liking: {', '.join(disliked[-MAX_WORDS:])}.")
    return " ".join(sentences)


def _certainties(profile: Profile) -> list[float]:
    """Mean contrast over its standard error, by feature and for the price; the sign says which pole."""
    return [a / (b + 1) ** 0.5 for a, b in zip(profile.contrasts.lean, profile.contrasts.spread, strict=True)]


def _traits(certainties: Sequence[float], least: float) -> list[int]:
    """The surest features first; one that an equally sure axis already tells is left out."""
    found = []
    for position in sorted(range(len(FEATURES)), key=lambda place: -abs(certainties[place])):
        if abs(certainties[position]) < least:
            break
        parent = FEATURES[position].parent
        if FEATURES[position].high and (not parent or abs(certainties[INDEX[parent]]) < least):
            found.append(position)
    return found[:MAX_TRAITS]


def _pole(position: int, value: float) -> str:
    return FEATURES[position].high if value > 0 else FEATURES[position].low


def _style_sentences(profile: Profile) -> str:
    certainties = _certainties(profile)
    traits = _traits(certainties, LIKELY)
    clear = [_pole(place, certainties[place]) for place in traits if abs(certainties[place]) >= CLEAR]
    likely = [_pole(place, certainties[place]) for place in traits if abs(certainties[place]) < CLEAR]
    sentences = []
    if clear:
        sentences.append(f"Clearly prefers texts that {_joined(clear)}.")
    if likely:
        sentences.append(f"Tends to prefer texts that {_joined(likely)}.")
    if not traits and (early := _traits(certainties, EARLY)[:3]):
        poles = [_pole(place, certainties[place]) for place in early]
        sentences.append(f"Early signs point to texts that {_joined(poles)}.")
    return " ".join(sentences)


def _joined(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _ranked(profile: Profile, table: Mapping[str, Evidence], prior: int, seen: int) -> list[tuple[float, str]]:
    """Names with at least `seen` hundredths of fading occurrences, by log-odds, highest first."""
    now = profile.events
    return sorted(
        (
            (_log_odds(evidence, now, prior), name)
            for name, evidence in table.items()
            if (evidence[0] + evidence[1]) * _faded(_FADED, now - evidence[3]) >= seen
        ),
        reverse=True,
    )


def _topic_sentences(profile: Profile) -> str:
    sentences = []
    labels = _ranked(profile, profile.categories, CATEGORY_PRIOR, 60)
    drawn = [(odds, name) for odds, name in labels if odds >= 0.4][:MAX_LABELS]
    if drawn:
        surest = drawn[0][0]
        verb = "Clearly drawn to" if surest >= 1.1 else "Tends to pick" if surest >= 0.8 else "Has picked"
        sentences.append(f"{verb} {_joined([name for _, name in drawn])}.")
    passed = [name for odds, name in reversed(labels) if odds <= -0.4][:MAX_LABELS]
    if passed:
        sentences.append(f"Tends to pass over {_joined(passed)}.")
    named = _ranked(profile, profile.terms, TERM_PRIOR, 140)
    about = [name for odds, name in named if odds >= 0.4][:MAX_WORDS]
    if about:
        sentences.append(f"Words that mark their choices: {', '.join(about)}.")
    without = [name for odds, name in reversed(named) if odds <= -0.4][:MAX_WORDS]
    if without:
        sentences.append(f"Words that mark what they leave: {', '.join(without)}.")
    return " ".join(sentences)


def _price_sentence(profile: Profile) -> str:
    counts, certainty = profile.tallies, _certainties(profile)[_PRICE]
    sentences = []
    if counts.priced > 0.5:
        usual = 2 ** (counts.price / counts.priced)
        sentences.append(
            f"Usually takes items priced around {usual:,.2g}."
            if usual < 10
            else f"Usually takes items priced around {usual:,.0f}."
        )
    if abs(certainty) >= LIKELY:
        sentences.append(f"Tends to take the {'dearer' if certainty > 0 else 'cheaper'} of the items on offer.")
    return " ".join(sentences)


def _recent_sentences(profile: Profile) -> str:
    """Where the last few choices turn against the longer run."""
    sums, counts = profile.contrasts, profile.tallies
    sentences = []
    if counts.weighed:
        share = counts.weighed_recent / counts.weighed
        longer = _certainties(profile)
        recent = [x / (share * b + 1) ** 0.5 for x, b in zip(sums.recent_lean, sums.spread, strict=True)]
        turned = [_turned(now, lasting) for now, lasting in zip(recent, longer, strict=True)]
        poles = [_pole(place, turned[place]) for place in _traits(turned, EARLY)[:3]]
        if poles:
            sentences.append(f"Lately prefers texts that {_joined(poles)}, more than before.")
    rising = _turning(profile, 1)
    falling = _turning(profile, -1)
    if rising:
        sentences.append(f"Lately picks more of {_joined(rising)}.")
    if falling:
        sentences.append(f"Lately picks less of {_joined(falling)}.")
    return " ".join(sentences)


def _turned(recent: float, lasting: float) -> float:
    """The recent certainty where it contradicts a lasting taste, or shows one that is not lasting yet."""
    if recent * lasting < 0:
        return recent if abs(recent) >= EARLY and -recent * lasting >= EARLY * LIKELY else 0.0
    return recent if abs(recent) >= LIKELY > abs(lasting) else 0.0


def _turning(profile: Profile, sign: int) -> list[str]:
    """Categories whose last events point the other way than all of them together."""
    found = []
    for name, evidence in profile.categories.items():
        recent = sign * evidence[2] * _faded(_FADED_RECENT, profile.events - evidence[3])
        if recent >= 120 and sign * (evidence[0] - evidence[1] - evidence[2]) <= -100:
            found.append(name)
    return found[:3]


def reason(profile: Profile, query: str, item: Item) -> str:
    """The strongest single thing that speaks for the item, or against it where that is stronger."""
    view = read_item(item, frozenset(words(query)))
    grounds = [*_stated_grounds(profile, view), *_topic_grounds(profile, view), *_style_grounds(profile, view)]
    weight, sentence = max(grounds, key=lambda ground: abs(ground[0]), default=(0.0, ""))
    return sentence if abs(weight) >= 0.15 else "Nothing known about this user speaks for or against it."


def _stated_grounds(profile: Profile, view: Reading) -> Iterable[tuple[float, str]]:
    shown = {stem(word): word for word in view.tokens}
    for key, value in _stated_terms(profile, view).items():
        verb = "Matches" if value > 0 else "Goes against"
        yield STATED_TERM * value / 100, f"{verb} what they said about {shown[key]}."


def _topic_grounds(profile: Profile, view: Reading) -> Iterable[tuple[float, str]]:
    for label in view.categories:
        if (evidence := profile.categories.get(label)) is not None:
            odds = _log_odds(evidence, profile.events, CATEGORY_PRIOR)
            yield odds, f"It belongs to {label}, which they {'often pick' if odds > 0 else 'tend to pass over'}."
    for word in view.terms:
        if (evidence := profile.terms.get(word)) is not None:
            odds = _log_odds(evidence, profile.events, TERM_PRIOR)
            yield odds, f"It mentions {word}, which they {'often pick' if odds > 0 else 'tend to pass over'}."


def _style_grounds(profile: Profile, view: Reading) -> Iterable[tuple[float, str]]:
    if view.style is None:
        return
    weights = _weights(profile)
    for place, apart in enumerate(_distance(view.style, TYPICAL, 1.0)):
        if not FEATURES[place].high:
            continue
        fits = weights[place] * apart > 0
        ending = "and this is one" if fits else "and this is not one"
        pole = _pole(place, weights[place])
        yield view.trust * weights[place] * apart, f"They prefer texts that {pole}, {ending}."


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
