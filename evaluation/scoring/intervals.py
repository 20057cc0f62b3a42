"""Means with 95 % intervals: the percentile bootstrap over clusters of rows, seeded.

Clusters are drawn with replacement: all rows of one user, or of one question where many users are asked the same
(`cases.find_clusters`); without clusters each row is its own. Two stages on the same users are compared pair by
pair (`difference`): a user's difficulty cancels, and the interval is narrower than that of two means.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np

from evaluation.cases.cases import User, cluster_ids
from evaluation.cases.halves import HALVES
from evaluation.results import Estimate

RESAMPLES: Final = 10_000
LEVEL: Final = 0.95
TIE: Final = 1e-6
"""Distance from one half below which only float32 arithmetic decided."""
_AT_ONCE: Final = 2_000_000
"""Drawn rows held in memory at once."""
_FEW_LEVELS: Final = 16


Clusters = Sequence[Hashable] | None
"""The cluster of each row; None where all rows are independent."""


def estimate(
    values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES, clusters: Clusters = None
) -> Estimate:
    """The mean of `values` and its interval. Raises ValueError without values."""
    if not values:
        raise ValueError("a mean needs at least one value")
    sample = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    tail = (1 - LEVEL) / 2
    if clusters is None or len(owners := number_clusters(clusters)) == owners.max() + 1:
        means = _resample(sample, rng, resamples)
    else:
        means = _resample_clusters(sample, owners, rng, resamples)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(mean=float(sample.mean()), low=float(low), high=float(high), rows=len(sample))


def _resample(sample: Any, rng: Any, resamples: int) -> Any:
    """Means of samples drawn from `sample` with replacement, each as large as itself."""
    size = len(sample)
    levels, counts = np.unique(sample, return_counts=True)
    if len(levels) <= _FEW_LEVELS:  # of hits and misses it is enough to draw how many there are
        return rng.multinomial(size, counts / size, size=resamples) @ levels / size
    block = max(1, _AT_ONCE // size)
    blocks = (rng.integers(size, size=(min(block, resamples - done), size)) for done in range(0, resamples, block))
    return np.concatenate([sample[indices].mean(axis=1) for indices in blocks])


def number_clusters(clusters: Sequence[Hashable]) -> Any:
    """The cluster of each row by its number, from 0."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])


def _resample_clusters(sample: Any, owners: Any, rng: Any, resamples: int) -> Any:
    """Means of samples of as many whole clusters, each drawn with replacement."""
    sums, sizes = np.bincount(owners, weights=sample), np.bincount(owners)
    kinds, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    count = len(sums)
    if kinds.shape[1] <= _FEW_LEVELS:  # it is enough to draw how many of each kind there are
        draws = rng.multinomial(count, counts / count, size=resamples)
        return draws @ kinds[0] / (draws @ kinds[1])
    block = max(1, _AT_ONCE // count)
    blocks = (rng.integers(count, size=(min(block, resamples - done), count)) for done in range(0, resamples, block))
    return np.concatenate([sums[indices].sum(axis=1) / sizes[indices].sum(axis=1) for indices in blocks])


def estimate_over(values: Sequence[float | None], users: Sequence[User], *, seed: int = 0) -> Estimate:
    """The mean over the users with a value, and over each half of them. Raises ValueError where no user has one."""
    clusters = cluster_ids(users)

    def over(rows: Sequence[int]) -> Estimate:
        own = [clusters[row] for row in rows] if clusters else None
        return estimate([values[row] or 0.0 for row in rows], seed=seed, clusters=own)

    rows = [row for row, value in enumerate(values) if value is not None]
    halves = {half: [row for row in rows if users[row].half == half] for half in HALVES}
    return over(rows).model_copy(update={"halves": {half: over(own) for half, own in halves.items() if own}})


def difference(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean of `first` less that of `second`, both over the same independent rows in the same order."""
    return estimate([value - other for value, other in zip(first, second, strict=True)], seed=seed)
