"""Tells whether a text predicts choices worse than the text it replaces, without an engine.

The fast profile reads each text alone and predicts choices. The evidence is a product of bets against "the new text
predicts no worse": each factor is 1 + (old hit - new hit) / 2. While that is true, the product ever passes 1/a with
a probability of at most a (Ville 1939), however often one looks, so a test may run on from update to update.

A user's versions are tested on new choices, which neither text has read (`review`). Ten choices of one user show
little, so a new model or prompt template is tested over all users of a tenant (trials.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean
from typing import Final

from alignx.schemas.interactions import Pair
from alignx.schemas.summaries import RegressionTest, StoredInteraction, SummaryVersion
from services.errors import VersionUnknown
from services.profile.fold import apply_own_text
from services.profile.scoring import scores
from services.profile.statistics import EMPTY, Profile
from services.storage.users import Store

_BET: Final = 0.5
"""Share of the evidence that is staked on a choice."""
_LIMIT: Final = log(20)
"""A version is held back in error with a probability of at most 1 in 20 a test."""
_TEST_CHOICES: Final = 50
"""Choices after which a version counts as no worse; later ones are then tested against it."""
_MAX_CHOICES, _MAX_PAIRS = 24, 4
"""Latest choices of an update, and pairs of one choice, that are predicted."""

Choice = Sequence[Pair]
"""One choice as its pairs: the chosen item against each that was passed over."""


def latest_choices(events: Sequence[StoredInteraction], most: int = _MAX_CHOICES) -> list[Choice]:
    choices: list[Choice] = [pairs[:_MAX_PAIRS] for event in events if (pairs := event.interaction.pairs())]
    return choices[-most:]


def predict_choices(text: str, choices: Sequence[Choice]) -> list[float]:
    """How well `text` alone predicts each choice, on [0, 1]; a half where it says nothing of it."""
    profile = apply_own_text(EMPTY, text)
    return [fmean(_predict_pair(profile, pair) for pair in choice) for choice in choices]


def _predict_pair(profile: Profile, pair: Pair) -> float:
    """1 where the profile scores the chosen item higher, a half for a tie, else 0."""
    chosen, rejected = scores(profile, pair.query, [pair.chosen, pair.rejected])
    return 0.5 if chosen == rejected else float(chosen > rejected)


def bet(old: float, new: float) -> float:
    """What one comparison adds to the logarithm of the evidence that the new text predicts worse."""
    return log(1 + _BET * (old - new))


@dataclass(frozen=True, slots=True)
class Review:
    """What the next version is made from, and the test that it continues."""

    past: SummaryVersion
    test: RegressionTest
    held_back: SummaryVersion | None = None
    """The current version, where it predicts worse than the one that `past` goes back to."""


async def review(
    store: Store, tenant: str, user: str, current: SummaryVersion, events: Sequence[StoredInteraction]
) -> Review:
    """Tests the current version on the choices of `events`, which it has not read, against an earlier one."""
    fresh = Review(current, RegressionTest(against=current.version))
    test, choices = current.regression, latest_choices(events)
    if test is None or test.against == current.version:
        return fresh
    try:
        anchor = await store.version(tenant, user, test.against)
    except VersionUnknown:  # no longer kept
        return fresh
    old, new = await asyncio.to_thread(
        lambda: [predict_choices(version.text, choices) for version in (anchor, current)]
    )
    evidence = test.evidence + sum(map(bet, old, new))
    if evidence >= _LIMIT:
        return Review(anchor, RegressionTest(against=anchor.version), held_back=current)
    if test.choices + len(choices) >= _TEST_CHOICES:
        return fresh
    continued = RegressionTest(against=test.against, choices=test.choices + len(choices), evidence=round(evidence, 4))
    return Review(current, continued)
