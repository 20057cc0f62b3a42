"""The fast profile in several variants, none of which calls a language model.

profile             the statistics of the whole history
profile-text        a profile that has read its own text and nothing else
profile-flipped     with a share of the history's choices reversed
profile-popularity  with the popularity of the items, as a caller may supply it
without-<part>      with one of `PARTS` emptied before it scores: what the part is worth

Streaming updates give the same profile as one pass over the history, so there is no setting for them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from alignx.schemas.items import POPULARITY_FIELD, Item, ItemFields
from evaluation.cases.cases import Case
from evaluation.cases.perturbations import flip_choices, is_reversible
from evaluation.conditions import Protocol
from evaluation.scoring.choice_scores import Choice, choose_by_profile
from services.profile.fold import apply_own_text
from services.profile.render import render
from services.profile.scoring import probabilities
from services.profile.statistics import EMPTY, NO_CONTRASTS, Profile

Variant = Callable[[Sequence[Case], Protocol], list[Choice]]
PARTS: Final[Mapping[str, Callable[[Profile], Profile]]] = {
    "clauses": lambda profile: replace(profile, clauses=()),
    "memory": lambda profile: replace(profile, memory=b""),
    "meaning": lambda profile: replace(profile, direction=b""),
    "words": lambda profile: replace(profile, terms={}),
    "categories": lambda profile: replace(profile, categories={}),
    "style": lambda profile: replace(
        profile,
        contrasts=NO_CONTRASTS,
        clauses=tuple(clause._replace(style=()) for clause in profile.clauses),
    ),
    "years": lambda profile: replace(profile, tallies=profile.tallies._replace(dated=0.0, year=0.0, year_spread=0.0)),
}
"""What is switched off in a profile, by name."""


def choose_by(change: Callable[[Profile], Profile]) -> Variant:
    """By the changed profiles."""
    return lambda cases, _: [
        Choice(tuple(probabilities(change(case.profile), case.target.query, case.options))) for case in cases
    ]


def choose_flipped(cases: Sequence[Case], protocol: Protocol) -> list[Choice]:
    return list(map(choose_by_profile, flip_choices(cases, protocol.flip, seed=protocol.seed)))


def choose_with_popularity(cases: Sequence[Case], _: Protocol) -> list[Choice]:
    return [Choice(tuple(probabilities(case.profile, case.target.query, add_popularity(case)))) for case in cases]


VARIANTS: Final[Mapping[str, Variant]] = {
    "profile": lambda cases, _: list(map(choose_by_profile, cases)),
    "profile-text": choose_by(lambda profile: apply_own_text(EMPTY, render(profile))),
    "profile-flipped": choose_flipped,
    "profile-popularity": choose_with_popularity,
    **{f"without-{part}": choose_by(empty) for part, empty in PARTS.items()},
}


def list_variants(cases: Sequence[Case]) -> list[str]:
    """Those of `VARIANTS` that the rows allow: some rows have no reversible choice, some no popularity, some nothing
    that a part would read."""
    impossible = {
        f"without-{part}" for part, empty in PARTS.items() if all(empty(case.profile) == case.profile for case in cases)
    }
    if not any(case.popularity for case in cases):
        impossible.add("profile-popularity")
    if not any(is_reversible(event) for case in cases for event in case.history):
        impossible.add("profile-flipped")
    return [name for name in VARIANTS if name not in impossible]


def add_popularity(case: Case) -> list[Item]:
    """The options, each with its popularity where the row has it."""
    if case.popularity is None:
        return case.options
    return [_with_popularity(item, count) for item, count in zip(case.options, case.popularity, strict=True)]


def _with_popularity(item: Item, count: float) -> Item:
    fields = {"title": item} if isinstance(item, str) else item.model_dump(exclude_none=True)
    return ItemFields.model_validate({**fields, POPULARITY_FIELD: count})
