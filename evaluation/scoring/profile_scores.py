"""The fast profile in several variants, none of which calls a language model.

profile             the statistics of the whole history
profile-text        a profile that has read its own text and nothing else
profile-flipped     with a share of the history's choices reversed
profile-popularity  with the popularity of the items, as a caller may supply it
profile-semantic    with sentence embeddings of the items
profile-all         with popularity and sentence embeddings

Streaming updates give the same profile as one pass over the history, so there is no setting for them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from alignx.schemas.items import POPULARITY_FIELD, Item, ItemFields
from evaluation.cases.cases import Case
from evaluation.cases.perturbations import flip_choices, is_reversible
from evaluation.conditions import Protocol
from evaluation.scoring.choice_scores import Choice, build_profile, choose_by_profile
from services.profile.fold import apply_own_text
from services.profile.render import render
from services.profile.scoring import probabilities, scores, softmax
from services.profile.statistics import EMPTY
from services.profile.word_vectors import Vector, lessons, nearness, text_of


def choose_by_statistics(cases: Sequence[Case], _: Protocol) -> list[Choice]:
    return list(map(choose_by_profile, cases))


def choose_by_text(cases: Sequence[Case], _: Protocol) -> list[Choice]:
    profiles = [apply_own_text(EMPTY, render(build_profile(case))) for case in cases]
    return [
        Choice(tuple(probabilities(profile, case.target.query, case.options)))
        for profile, case in zip(profiles, cases, strict=True)
    ]


def choose_flipped(cases: Sequence[Case], protocol: Protocol) -> list[Choice]:
    return choose_by_statistics(flip_choices(cases, protocol.flip, seed=protocol.seed), protocol)


def choose_with_popularity(cases: Sequence[Case], _: Protocol) -> list[Choice]:
    """Rows without popularity are scored without it."""
    return [
        Choice(tuple(probabilities(build_profile(case), case.target.query, add_popularity(case)))) for case in cases
    ]


VARIANTS: Final[Mapping[str, Callable[[Sequence[Case], Protocol], list[Choice]]]] = {
    "profile": choose_by_statistics,
    "profile-text": choose_by_text,
    "profile-flipped": choose_flipped,
    "profile-popularity": choose_with_popularity,
}
"""Those that need no embeddings."""


def list_variants(cases: Sequence[Case]) -> list[str]:
    """Those of `VARIANTS` that the rows allow: some rows have no reversible choice, some no popularity."""
    impossible = set()
    if not any(case.popularity for case in cases):
        impossible.add("profile-popularity")
    if not any(is_reversible(event) for case in cases for event in case.history):
        impossible.add("profile-flipped")
    return [name for name in VARIANTS if name not in impossible]


def collect_texts(cases: Sequence[Case]) -> list[str]:
    """The texts whose vectors `choose_by_embeddings` needs."""
    texts = dict.fromkeys(text_of(item) for case in cases for item in case.options)
    return list(texts | dict.fromkeys(lesson.text for case in cases for lesson in lessons(case.history)))


def choose_by_embeddings(
    cases: Sequence[Case], vectors: Mapping[str, Vector], *, with_popularity: bool = False
) -> list[Choice]:
    """As serving scores where it has embeddings."""
    choices = []
    for case in cases:
        items = add_popularity(case) if with_popularity else case.options
        history, texts = lessons(case.history), [text_of(item) for item in case.options]
        by_profile = scores(build_profile(case), case.target.query, items)
        by_vectors = nearness(
            history, [vectors[lesson.text] for lesson in history], texts, [vectors[text] for text in texts]
        )
        sums = [first + second for first, second in zip(by_profile, by_vectors, strict=True)]
        choices.append(Choice(tuple(softmax(sums))))
    return choices


def add_popularity(case: Case) -> list[Item]:
    """The options, each with its popularity where the row has it."""
    if case.popularity is None:
        return case.options
    return [_with_popularity(item, count) for item, count in zip(case.options, case.popularity, strict=True)]


def _with_popularity(item: Item, count: float) -> Item:
    fields = {"title": item} if isinstance(item, str) else item.model_dump(exclude_none=True)
    return ItemFields.model_validate({**fields, POPULARITY_FIELD: count})
