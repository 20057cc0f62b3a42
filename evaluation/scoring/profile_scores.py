"""The fast profile measured in several ways, none of which calls a language model.

profile             the statistics of the whole history
profile-text        a profile that has read the summary in plain sentences and nothing else
profile-flipped     after a share of the history's choices was turned round
profile-popularity  items carry how often others had taken them, as a caller may supply it
profile-semantic    items are scored by what they mean too, by sentence embeddings
profile-all         items with their popularity, and by what they mean

Folded in parts and stored between, the profile is the same, so there is no setting for that.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from alignx.schemas.items import POPULARITY_FIELD, Item, ItemFields
from evaluation.cases.cases import Case, flipped, has_other_side
from evaluation.conditions import Protocol
from evaluation.scoring.choice_scores import Choice, foreseen, offered, profile_of
from services.profile.fold import apply_own_text
from services.profile.render import render
from services.profile.scoring import probabilities, scores, softmax
from services.profile.statistics import EMPTY, Profile
from services.profile.word_vectors import Vector, lessons, nearness, text_of


def by_profile(cases: Sequence[Case], _: Protocol) -> list[Choice]:
    return list(map(foreseen, cases))


def by_text(cases: Sequence[Case], _: Protocol) -> list[Choice]:
    return [_choice(apply_own_text(EMPTY, render(profile_of(case))), case) for case in cases]


def turned(cases: Sequence[Case], protocol: Protocol) -> list[Choice]:
    return by_profile(flipped(cases, protocol.flip, seed=protocol.seed), protocol)


def with_popularity(cases: Sequence[Case], _: Protocol) -> list[Choice]:
    """Where a row does not tell it, without."""
    return [Choice(tuple(probabilities(profile_of(case), case.target.query, popular(case)))) for case in cases]


MEASURED: Final[Mapping[str, Callable[[Sequence[Case], Protocol], list[Choice]]]] = {
    "profile": by_profile,
    "profile-text": by_text,
    "profile-flipped": turned,
    "profile-popularity": with_popularity,
}


def possible(cases: Sequence[Case]) -> list[str]:
    """Of MEASURED what the rows allow: some have no choice to turn round, some tell no popularity."""
    lacking = set()
    if not any(case.popularity for case in cases):
        lacking.add("profile-popularity")
    if not any(has_other_side(event) for case in cases for event in case.history):
        lacking.add("profile-flipped")
    return [name for name in MEASURED if name not in lacking]


def texts_of(cases: Sequence[Case]) -> list[str]:
    """What `by_meaning` needs the vectors of."""
    found = dict.fromkeys(text_of(item) for case in cases for item in offered(case))
    return list(found | dict.fromkeys(lesson.text for case in cases for lesson in lessons(case.history)))


def by_meaning(cases: Sequence[Case], vectors: Mapping[str, Vector], *, counted: bool = False) -> list[Choice]:
    """As serving scores where it has embeddings; `counted` items carry their popularity."""
    choices = []
    for case in cases:
        taught, texts = lessons(case.history), [text_of(item) for item in offered(case)]
        known = scores(profile_of(case), case.target.query, popular(case) if counted else offered(case))
        learned = [vectors[lesson.text] for lesson in taught]
        near = nearness(taught, learned, texts, [vectors[text] for text in texts])
        choices.append(Choice(tuple(softmax([one + other for one, other in zip(known, near, strict=True)]))))
    return choices


def popular(case: Case) -> list[Item]:
    """What was offered, each item with its count."""
    items = offered(case)
    if case.popularity is None:
        return items
    return [_counted(item, count) for item, count in zip(items, case.popularity, strict=True)]


def _counted(item: Item, count: float) -> Item:
    fields = {"title": item} if isinstance(item, str) else item.model_dump(exclude_none=True)
    return ItemFields.model_validate({**fields, POPULARITY_FIELD: count})


def _choice(profile: Profile, case: Case) -> Choice:
    return Choice(tuple(probabilities(profile, case.target.query, offered(case))))
