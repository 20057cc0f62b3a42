"""Detects that a user's choices turn against what was known of them (concept drift).

The profile predicts each choice before it learns from it. While it predicts as well as before, its misses are rare;
a run of misses speaks for a user who has changed, or for events that are not the user's. The test is Page's
cumulative sum (CUSUM, Page 1954) of the log-likelihood ratio of "it now predicts as often wrong as it was right"
against "as before". A steady user gives a false alarm in at most one of 300 choices (Lorden 1971).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Final

from services.profile.scoring import interval
from services.storage.prequential import CHANGE, decode_window, hit

_THRESHOLD: Final = log(300)
_MIN_BEFORE: Final = 12
"""Choices that must have been predicted before a change can be told."""
_MIN_ACCURACY, _MAX_ACCURACY = 0.55, 0.9
"""Below the first nothing was known that could change; the second bounds the weight of a single miss."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The latest `comparisons` choices were predicted as before the change no more."""

    comparisons: int
    accuracy_before: float
    accuracy_since: float


def detect_drift(window: str, probabilities: Sequence[float]) -> Drift | None:
    """The change that shows in `probabilities`, the predictions of new choices, after those of `window`
    (storage/prequential.py); None where there is none."""
    if all(probability >= 0.5 for probability in probabilities):
        return None  # without a miss nothing speaks for a change
    earlier = decode_window(window.rpartition(CHANGE)[2])
    hits = [hit(probability) for probability in (*earlier, *probabilities)]
    steady, right, evidence = 0, 0.0, 0.0  # choices that count as steady, and how many of them were predicted
    for index, value in enumerate(hits):
        evidence += _weight_of_miss(right, steady) * (1 - 2 * value)
        if evidence <= 0:
            right += sum(hits[steady : index + 1])
            steady, evidence = index + 1, 0.0
        elif evidence >= _THRESHOLD and index >= len(earlier):
            since = hits[steady:]
            return Drift(len(since), right / steady, sum(since) / len(since))
    return None


def _weight_of_miss(right: float, count: int) -> float:
    """The log-likelihood ratio of one miss where `right` of `count` choices were predicted before; a hit has its
    negative."""
    if count < _MIN_BEFORE:
        return 0.0
    accuracy = min(interval(right / count, count)[0], _MAX_ACCURACY)
    return log(accuracy / (1 - accuracy)) if accuracy > _MIN_ACCURACY else 0.0
