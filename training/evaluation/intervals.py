"""Means with 95 % intervals: the percentile bootstrap over users, seeded.

Users are drawn with replacement, because a figure is a claim about users like these. Two stages
measured on the same users are compared pair by pair (`difference`): what makes a user easy or hard
falls out, and the interval is narrower than that of two means.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from training.evaluation.results import Estimate

RESAMPLES: Final = 10_000
LEVEL: Final = 0.95
_AT_ONCE: Final = 2_000_000
"""Drawn users held in memory at once."""


def estimate(values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of `values` and its interval. Raises ValueError without values."""
    if not values:
        raise ValueError("a mean needs at least one value")
    sample = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    block = max(1, _AT_ONCE // len(sample))
    means = [
        sample[rng.integers(len(sample), size=(min(block, resamples - done), len(sample)))].mean(axis=1)
        for done in range(0, resamples, block)
    ]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Estimate(mean=float(sample.mean()), low=float(low), high=float(high), rows=len(sample))


def difference(one: Sequence[float], other: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean of `one` less that of `other`, both over the same users in the same order."""
    return estimate([first - second for first, second in zip(one, other, strict=True)], seed=seed)


def hits(probabilities: Sequence[float]) -> list[float]:
    """1 for each user whose choice was given more than .5, half for a tie, else 0."""
    return [0.5 if value == 0.5 else float(value > 0.5) for value in probabilities]
