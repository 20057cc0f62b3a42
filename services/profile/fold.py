"""Folds one event into the fast profile, and says how well the profile predicted its choices.

An event costs O(1), whatever the history: sums fade by a factor an event, and names beyond a limit
are dropped.
"""

from collections.abc import Sequence
from datetime import datetime
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
from services.profile.draft import Draft
from services.profile.item_features import ItemFeatures, extract_features
from services.profile.parse_text import parse_text
from services.profile.scoring import contrast, margin, weights
from services.profile.stated.clauses import MAX_OWN_CLAUSES, add, keep
from services.profile.stated.matching import match
from services.profile.stated.options import taken_options
from services.profile.stated.sensitive import find_subjects
from services.profile.stated.withheld import hides
from services.profile.statistics import (
    EMPTY,
    FADE,
    MAX_SCORE,
    PRICE,
    SAID_IN_PASSING,
    ZEROS,
    Profile,
    clip,
    distance,
)
from services.profile.style_features import MIRRORED, TYPICAL, measure, words
from services.profile.word_vectors import embed_items, nearer, nearness
from services.statements.attitudes import NO_STYLE, Clause
from services.statements.clauses import MAX_QUOTE, read_clauses

ASKED_TERM = 0.5
PURCHASE = 1.0
CLICK_ALONE = 0.7
TRIED = 0.7
SAID_IN_REVIEW = 0.3
MIRROR = 0.15
"""Weight of one event of each kind, against 1 for a choice between two items."""
MAX_SAID, MAX_PASSING = 2_000, 1_000
"""Characters of a statement, and of a turn, post or review, that are read for what they say."""
MAX_OWN_READ = 4_000
"""Characters of the user's own text that are read for likes and dislikes; the text itself is kept whole."""
MAX_OTHERS, MAX_PASSED_OVER = 24, 3
"""Items passed over that one event teaches from, and by whose meaning."""
MAX_MESSAGES = 64


def load_tables() -> None:
    """Reads the word vectors and the lexicons, before a request needs them."""
    find_subjects("")
    profile, _ = fold(EMPTY, StatementInteraction(text="I like jazz."))
    fold(profile, ComparisonInteraction(chosen="A concert of jazz", rejected="A recipe"))


def fold(
    profile: Profile, interaction: Interaction, received: datetime | None = None
) -> tuple[Profile, tuple[float, ...]]:
    """The profile with one more event, and the probability that the profile before it gave to the
    chosen item of each of the event's `pairs()`: 0.5 where it knew nothing. An event that does not say when it
    occurred, or says a time to come, is dated as `received`."""
    times = [time for time in (interaction.occurred_at, received) if time]
    draft = Draft(profile, profile.events + 1, min(times, default=None))
    predicted: tuple[float, ...] = ()
    match interaction:
        case ComparisonInteraction() | ClickInteraction() | PurchaseInteraction():
            predicted = _fold_choice(profile, draft, interaction)
        case RatingInteraction():
            _fold_rating(draft, interaction)
        case PostInteraction():
            _fold_writing(draft, (interaction.text,), is_asking=False)
        case DialogueInteraction():
            messages = interaction.messages[-MAX_MESSAGES:]
            _fold_writing(draft, [message.content for message in messages if message.role == "user"])
            draft.say(taken_options(messages), SAID_IN_PASSING)
        case DemographicInteraction() | StatementInteraction():
            _fold_said(draft, interaction.text, is_fact=isinstance(interaction, DemographicInteraction))
    return draft.profile(), predicted


def _fold_said(draft: Draft, text: str, *, is_fact: bool) -> None:
    """Of a short text each clause quotes the whole, which reads better than its parts, unless one is withheld."""
    clauses = read_clauses(text[:MAX_SAID])
    if is_fact:
        clauses = [clause if clause.polarity or clause.style else clause._replace(kind="fact") for clause in clauses]
    is_whole = len(text) <= MAX_QUOTE and not any(hides(clause.quote, clause.language) for clause in clauses)
    draft.say([clause._replace(quote=text) for clause in clauses] if is_whole else clauses, 1.0)
    draft.forget(text[:MAX_SAID])


def apply_own_text(profile: Profile, text: str, time: datetime | None = None) -> Profile:
    """The profile after the user has replaced the summary by `text`, at a `time`. It replaces all earlier statements;
    evidence from behaviour stays. No event is counted."""
    draft = Draft(profile, profile.events, time)
    stated, draft.years = parse_text(text[:MAX_OWN_READ])
    draft.own, draft.clauses = text, add((), keep(stated, 0, 1.0, draft.day), MAX_OWN_CLAUSES)
    draft.memory = b""
    return draft.profile()


Choice = ComparisonInteraction | ClickInteraction | PurchaseInteraction


def _fold_choice(profile: Profile, draft: Draft, event: Choice) -> tuple[float, ...]:
    pairs = event.pairs()
    if not pairs:
        item = event.item if isinstance(event, PurchaseInteraction) else event.clicked  # type: ignore[union-attr]
        draft.name(item)
        _fold_alone(draft, extract_features(item), PURCHASE if isinstance(event, PurchaseInteraction) else CLICK_ALONE)
        return ()
    query = pairs[0].query
    query_words = frozenset(words(query))
    chosen = extract_features(pairs[0].chosen, query_words)
    others = [extract_features(pair.rejected, query_words) for pair in pairs]
    coefficients = weights(profile)
    contrasts, vectors = [contrast(chosen, other) for other in others], embed_items([chosen, *others])
    first, *near = nearness(profile, vectors)
    said, *said_of_others = match(profile, [chosen, *others], vectors, query).totals
    margins = [
        margin(profile, coefficients, chosen, other, difference)
        + nearer(first, closeness, min(chosen.trust, other.trust))
        + said
        - stated
        for other, difference, closeness, stated in zip(others, contrasts, near, said_of_others, strict=True)
    ]
    if not isinstance(event, ComparisonInteraction) or not isinstance(pairs[0].chosen, str):
        draft.name(pairs[0].chosen)
    _learn_choice(draft, chosen, others[:MAX_OTHERS], contrasts[:MAX_OTHERS], ASKED_TERM if query_words else 1.0)
    draft.turn(vectors[0] - vectors[1 : 1 + MAX_PASSED_OVER].mean(axis=0), 1.0)
    return tuple(1 / (1 + exp(-clip(odds, 2 * MAX_SCORE))) for odds in margins)


def _learn_choice(
    draft: Draft,
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
        taken = [name for name in own if name not in common]
        draft.count(table, taken, weight)
        left = [[name for name in names if name not in common] for names in theirs]
        for names in left:
            draft.count(table, names, -weight * share)
        if table is draft.categories:
            draft.speak("topic", "+", taken)
            draft.speak("topic", "-", {name: None for names in left for name in names})
    difference = (
        contrasts[0] if len(contrasts) == 1 else [share * sum(column) for column in zip(*contrasts, strict=True)]
    )
    if any(difference):
        draft.learn_style(difference, 1.0)
    draft.take(chosen, 1.0)


def _fold_alone(draft: Draft, view: ItemFeatures, liking: float) -> None:
    """An item judged by itself: its topics, and its style and price against what was judged before."""
    draft.like(view, liking)
    draft.take(view, liking)
    if liking:
        draft.speak("topic", "+" if liking > 0 else "-", view.categories)
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


def _fold_rating(draft: Draft, rating: RatingInteraction) -> None:
    """A rating counts against the user's own average; having tried the item at all counts a little."""
    tallies = draft.tallies
    rating_value = rating.liking if isfinite(rating.liking) else 0.0
    liking = clip(rating_value - tallies.liking / (tallies.rated + 2), 1.0)
    draft.tallies = tallies._replace(liking=FADE * tallies.liking + rating_value, rated=FADE * tallies.rated + 1)
    view = extract_features(rating.item)
    draft.like(view, TRIED)
    if liking > 0:
        draft.name(rating.item)
    if liking:
        draft.speak("rated", "+" if liking > 0 else "-", view.categories)
    _fold_alone(draft, view, liking)
    if rating.review:
        clauses = read_clauses(rating.review[:MAX_PASSING], statement=False)
        draft.say(map(_without_style, clauses), SAID_IN_REVIEW)


def _without_style(clause: Clause) -> Clause:
    """Of a text that is meant for other readers, or tells of one item, no wish on how to be answered."""
    return clause._replace(style=NO_STYLE)


def _fold_writing(draft: Draft, texts: Sequence[str], *, is_asking: bool = True) -> None:
    """What a person says of their tastes in passing; how they write hints at what they like to read."""
    draft.remember(text[:MAX_PASSING] for text in texts)
    for text in texts:
        clauses = read_clauses(text[:MAX_PASSING], statement=False)
        draft.say(clauses if is_asking else map(_without_style, clauses), SAID_IN_PASSING)
        manner = measure(text, words(text))
        difference = list(ZEROS)
        for position in MIRRORED:
            difference[position] = clip(manner[position] - TYPICAL[position], 1.0)
        if any(difference):
            draft.learn_style(difference, MIRROR)
