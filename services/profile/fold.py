"""Folds one event into the fast profile, and says how well the profile predicted its choices.

An event costs O(1), whatever the history: sums fade by a factor an event, and names beyond a limit
are dropped.
"""

from collections.abc import Iterable, Sequence
from math import exp, isfinite

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
from services.profile.item_features import ItemFeatures, extract_features
from services.profile.parse_text import parse_text
from services.profile.scoring import contrast, margin, weights
from services.profile.serialize import round_to_half
from services.profile.stated.clauses import MAX_OWN_CLAUSES, add, keep, roots_of
from services.profile.stated.matching import match
from services.profile.stated.options import taken_options
from services.profile.statistics import (
    FADE,
    FADE_BY_AGE,
    FADE_RECENT,
    MAX_SCORE,
    MIDDLE_YEAR,
    PRICE,
    RECENT_FADE_BY_AGE,
    SAID_IN_PASSING,
    ZEROS,
    Contrasts,
    Evidence,
    Profile,
    clip,
    distance,
    fade_at,
)
from services.profile.style_features import MIRRORED, TYPICAL, measure, words
from services.profile.word_table import Vectors
from services.profile.word_vectors import embed_items, nearer, nearness, turn
from services.statements.clauses import MAX_QUOTE, Clause, read_clauses

ASKED_TERM = 0.5
PURCHASE = 1.0
CLICK_ALONE = 0.7
TRIED = 0.7
SAID_IN_REVIEW = 0.3
MIRROR = 0.15
"""Weight of one event of each kind, against 1 for a choice between two items."""
YEAR_HALF_LIFE = 8
"""Dated items after which the year of one counts half."""
FADE_YEAR = 0.5 ** (1 / YEAR_HALF_LIFE)

MAX_TERMS, KEEP_TERMS = 144, 108
MAX_CATEGORIES, KEEP_CATEGORIES = 40, 28
AGEING = 4
"""Hundredths of an occurrence by which an event's age lowers the rank of a name that may be dropped."""
MAX_SAID, MAX_PASSING = 2_000, 1_000
"""Characters of a statement, and of a turn, post or review, that are read for what they say."""
MAX_OWN_READ = 4_000
"""Characters of the user's own text that are read for likes and dislikes; the text itself is kept whole."""
MAX_OTHERS, MAX_PASSED_OVER = 24, 3
"""Items passed over that one event teaches from, and by whose meaning."""
MAX_MESSAGES = 64


class _Draft:
    """A mutable copy of the parts of a profile that one event changes."""

    def __init__(self, profile: Profile, now: int) -> None:
        self.now = now
        self.contrasts = profile.contrasts
        self.tallies = profile.tallies
        self.terms = dict(profile.terms)
        self.categories = dict(profile.categories)
        self.clauses = profile.clauses
        self.years = profile.years
        self.direction = profile.direction
        self.own = profile.own

    def count(self, table: dict[str, Evidence], names: Iterable[str], weight: float) -> None:
        """Adds `weight` occurrences for (or, below 0, against) each name."""
        step = int(100 * weight)
        now = self.now
        plus, minus = (step, 0) if step > 0 else (0, -step)
        for name in names:
            evidence = table.get(name)
            if evidence is None:
                table[name] = (plus, minus, step, now)
                continue
            liked, disliked, recent, at = evidence
            if at != now:
                fade = fade_at(FADE_BY_AGE, now - at)
                liked, disliked = int(liked * fade), int(disliked * fade)
                recent = int(recent * fade_at(RECENT_FADE_BY_AGE, now - at))
            table[name] = (liked + plus, disliked + minus, recent + step, now)

    def like(self, view: ItemFeatures, weight: float) -> None:
        self.count(self.terms, view.terms, weight)
        self.count(self.categories, view.categories, weight)

    def learn_style(self, difference: Sequence[float], weight: float) -> None:
        """One contrast of WIDTH entries, each already cut at 2."""
        old = self.contrasts
        size = abs(weight)
        self.contrasts = Contrasts(
            tuple([FADE * a + weight * d for a, d in zip(old.lean, difference, strict=True)]),
            tuple([FADE * b + size * d * d for b, d in zip(old.spread, difference, strict=True)]),
            tuple([FADE_RECENT * a + weight * d for a, d in zip(old.recent_lean, difference, strict=True)]),
            old.usual,
        )
        counts = self.tallies
        self.tallies = counts._replace(
            weighed=FADE * counts.weighed + size, weighed_recent=FADE_RECENT * counts.weighed_recent + size
        )

    def pay(self, price: float) -> None:
        old = self.tallies
        self.tallies = old._replace(priced=FADE * old.priced + 1, price=FADE * old.price + price)

    def take(self, view: ItemFeatures, weight: float) -> None:
        """The price and the year of an item that the user chose to have."""
        if weight <= 0:
            return
        if view.price is not None:
            self.pay(view.price)
        if view.year is not None:
            old = self.tallies
            year = view.year - MIDDLE_YEAR
            difference = abs(year - old.year / old.dated) if old.dated else 0.0
            self.tallies = old._replace(
                dated=FADE_YEAR * old.dated + weight,
                year=FADE_YEAR * old.year + weight * year,
                year_spread=FADE_YEAR * old.year_spread + weight * difference,
            )

    def turn(self, difference: Vectors, weight: float) -> None:
        """Towards what an event took, and away from what it passed over."""
        if weight > 0:
            self.direction, self.tallies = turn(self.direction, self.tallies, difference, weight)

    def say(self, said: Iterable[Clause], weight: float) -> None:
        """Clauses of a statement; beside statements only those that tell something."""
        tells = [clause for clause in said if clause.polarity or clause.past or clause.style or weight == 1]
        clauses = [clause for clause in tells if clause.kind != "none" or roots_of(clause.quote)]
        self.clauses = add(self.clauses, keep(clauses, self.now, weight))

    def profile(self) -> Profile:
        sums, tallies = round_to_half(self.contrasts, self.tallies)
        return Profile(
            self.now,
            sums,
            tallies,
            _prune(self.terms, self.now, MAX_TERMS, KEEP_TERMS),
            _prune(self.categories, self.now, MAX_CATEGORIES, KEEP_CATEGORIES),
            self.clauses,
            self.years,
            self.direction,
            self.own,
        )


def _prune(table: dict[str, Evidence], now: int, most: int, keep: int) -> dict[str, Evidence]:
    """Drops the names with the least and oldest evidence once there are too many."""
    if len(table) <= most:
        return table

    ranked = [(entry[0] + entry[1] - AGEING * (now - entry[3]), name) for name, entry in table.items()]
    ranked.sort(reverse=True)
    return {name: table[name] for _, name in ranked[:keep]}


def fold(profile: Profile, interaction: Interaction) -> tuple[Profile, tuple[float, ...]]:
    """The profile with one more event, and the probability that the profile before it gave to the
    chosen item of each of the event's `pairs()`: 0.5 where it knew nothing."""
    draft = _Draft(profile, profile.events + 1)
    predicted: tuple[float, ...] = ()
    match interaction:
        case ComparisonInteraction() | ClickInteraction() | PurchaseInteraction():
            predicted = _fold_choice(profile, draft, interaction)
        case RatingInteraction():
            _fold_rating(draft, interaction)
        case PostInteraction():
            _fold_writing(draft, (interaction.text,))
        case DialogueInteraction():
            messages = interaction.messages[-MAX_MESSAGES:]
            _fold_writing(draft, [message.content for message in messages if message.role == "user"])
            draft.say(taken_options(messages), SAID_IN_PASSING)
        case DemographicInteraction() | StatementInteraction():
            _fold_said(draft, interaction.text)
    return draft.profile(), predicted


def _fold_said(draft: _Draft, text: str) -> None:
    """Of a short text each clause quotes the whole, which reads better than its parts."""
    clauses = read_clauses(text[:MAX_SAID])
    draft.say([clause._replace(quote=text) for clause in clauses] if len(text) <= MAX_QUOTE else clauses, 1.0)


def apply_own_text(profile: Profile, text: str) -> Profile:
    """The profile after the user has replaced the summary by `text`. It replaces all earlier statements; evidence
    from behaviour stays. No event is counted."""
    draft = _Draft(profile, profile.events)
    stated, draft.years = parse_text(text[:MAX_OWN_READ])
    draft.own, draft.clauses = text, add((), keep(stated, profile.events, 1.0), MAX_OWN_CLAUSES)
    return draft.profile()


Choice = ComparisonInteraction | ClickInteraction | PurchaseInteraction


def _fold_choice(profile: Profile, draft: _Draft, event: Choice) -> tuple[float, ...]:
    pairs = event.pairs()
    if not pairs:
        item = event.item if isinstance(event, PurchaseInteraction) else event.clicked  # type: ignore[union-attr]
        _fold_alone(draft, extract_features(item), PURCHASE if isinstance(event, PurchaseInteraction) else CLICK_ALONE)
        return ()
    query_words = frozenset(words(pairs[0].query))
    chosen = extract_features(pairs[0].chosen, query_words)
    others = [extract_features(pair.rejected, query_words) for pair in pairs]
    coefficients = weights(profile)
    contrasts, vectors = [contrast(chosen, other) for other in others], embed_items([chosen, *others])
    first, *near = nearness(profile, vectors)
    said, *said_of_others = match(profile, [chosen, *others], vectors).totals
    margins = [
        margin(profile, coefficients, chosen, other, difference)
        + nearer(first, closeness, min(chosen.trust, other.trust))
        + said
        - stated
        for other, difference, closeness, stated in zip(others, contrasts, near, said_of_others, strict=True)
    ]
    _learn_choice(draft, chosen, others[:MAX_OTHERS], contrasts[:MAX_OTHERS], ASKED_TERM if query_words else 1.0)
    draft.turn(vectors[0] - vectors[1 : 1 + MAX_PASSED_OVER].mean(axis=0), 1.0)
    return tuple(1 / (1 + exp(-clip(odds, 2 * MAX_SCORE))) for odds in margins)


def _learn_choice(
    draft: _Draft,
    chosen: ItemFeatures,
    others: Sequence[ItemFeatures],
    contrasts: Sequence[list[float]],
    topical: float,
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
    difference = (
        contrasts[0] if len(contrasts) == 1 else [share * sum(column) for column in zip(*contrasts, strict=True)]
    )
    if any(difference):
        draft.learn_style(difference, 1.0)
    draft.take(chosen, 1.0)


def _fold_alone(draft: _Draft, view: ItemFeatures, liking: float) -> None:
    """An item judged by itself: its topics, and its style and price against what was judged before."""
    draft.like(view, liking)
    draft.take(view, liking)
    draft.turn(embed_items([view])[0], liking)
    if view.style is None:
        return
    sums, tallies = draft.contrasts, draft.tallies
    if tallies.judged:
        middle = [total / tallies.judged for total in sums.usual[:PRICE]]
        difference = [view.trust * d for d in distance(view.style, middle, 2.0)]
        draft.learn_style([*difference, 0.0], 0.5 * liking)
    usual = [FADE * total + here for total, here in zip(sums.usual, (*view.style, 0.0), strict=True)]
    draft.contrasts = draft.contrasts._replace(usual=tuple(usual))
    draft.tallies = draft.tallies._replace(judged=FADE * tallies.judged + 1)


def _fold_rating(draft: _Draft, rating: RatingInteraction) -> None:
    """A rating counts against the user's own average; having tried the item at all counts a little."""
    tallies = draft.tallies
    rating_value = rating.liking if isfinite(rating.liking) else 0.0
    liking = clip(rating_value - tallies.liking / (tallies.rated + 2), 1.0)
    draft.tallies = tallies._replace(liking=FADE * tallies.liking + rating_value, rated=FADE * tallies.rated + 1)
    view = extract_features(rating.item)
    draft.like(view, TRIED)
    _fold_alone(draft, view, liking)
    if rating.review:
        draft.say(read_clauses(rating.review[:MAX_PASSING], statement=False), SAID_IN_REVIEW)


def _fold_writing(draft: _Draft, texts: Sequence[str]) -> None:
    """What a person says of their tastes in passing; how they write hints at what they like to read."""
    for text in texts:
        draft.say(read_clauses(text[:MAX_PASSING], statement=False), SAID_IN_PASSING)
        manner = measure(text, words(text))
        difference = list(ZEROS)
        for position in MIRRORED:
            difference[position] = clip(manner[position] - TYPICAL[position], 1.0)
        if any(difference):
            draft.learn_style(difference, MIRROR)
