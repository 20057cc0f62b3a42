"""Metrics over users: hits, the area under the ROC curve, and calibration.

A row holds the scores of one user's options, the chosen one first.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from evaluation.results import Estimate
from evaluation.scoring.intervals import LEVEL, TIE, Clusters, number_clusters

AUC_RESAMPLES: Final = 1_000
BINS: Final = 10
_DIGITS: Final = 6
"""Scores equal to this many digits tie: further digits are noise of float32."""

Rows = Sequence[Sequence[float]]


def hit(scores: Sequence[float]) -> float:
    """1 where the first score is the highest, 1/k where it ties with k - 1 others, else 0."""
    best = max(scores)
    if best - scores[0] >= 2 * TIE:
        return 0.0
    return 1 / sum(best - score < 2 * TIE for score in scores)


def auc_estimate(rows: Rows, *, seed: int = 0, resamples: int = AUC_RESAMPLES, clusters: Clusters = None) -> Estimate:
    """Area under the ROC curve, pooled over rows: how often the chosen option of one user scores higher
    than an option left by the same or another user, a tie counting half. Within each row alone that would be pairwise
    accuracy; pooled it also asks that the scores of different users can be compared.

    With its 95 % percentile bootstrap interval: clusters are drawn, rows with all their options. Raises ValueError
    without rows.
    """
    pool, rng, count = _Pool(rows), np.random.default_rng(seed), len(rows)
    owners = number_clusters(clusters if clusters is not None else range(count))
    clusters_count = int(owners.max()) + 1
    draws = (
        np.bincount(rng.integers(clusters_count, size=clusters_count), minlength=clusters_count)[owners]
        for _ in range(resamples)
    )
    tail = (1 - LEVEL) / 2
    low, high = np.quantile([pool.auc(times) for times in draws], [tail, 1 - tail])
    return Estimate(mean=pool.auc(np.ones(count)), low=float(low), high=float(high), rows=count)


class _Pool:
    """The scores of all rows as ranks: equal scores share a rank."""

    def __init__(self, rows: Rows) -> None:
        if not rows:
            raise ValueError("an area under the curve needs at least one row")
        flat = np.round([score for row in rows for score in row], _DIGITS)
        unique, levels = np.unique(flat, return_inverse=True)
        sizes = np.array([len(row) for row in rows])
        owner = np.repeat(np.arange(len(rows)), sizes)
        first = np.zeros(len(flat), dtype=bool)
        first[np.concatenate([[0], np.cumsum(sizes)[:-1]])] = True
        self._levels = len(unique)
        self._chosen = levels[first]  # one a row, in their order
        self._left, self._left_by = levels[~first], owner[~first]

    def auc(self, times: Any) -> float:
        """With row i counted `times[i]` times."""
        chosen = np.bincount(self._chosen, weights=times, minlength=self._levels)
        left = np.bincount(self._left, weights=times[self._left_by], minlength=self._levels)
        below = np.cumsum(left) - left
        return float(chosen @ (below + left / 2) / (chosen.sum() * left.sum()))


def calibration_error(rows: Rows, *, bins: int = BINS) -> float:
    """Expected calibration error of probabilities: each option's against whether it was chosen, in
    `bins` equal parts of 0 to 1, each closed above and the lowest also below; the mean distance between
    a bin's mean probability and its share of chosen options, weighted by how many options it holds.

    Guo et al. 2017, On Calibration of Modern Neural Networks, with every option as a case.
    """
    probabilities = np.array([value for row in rows for value in row])
    chosen = np.array([index == 0 for row in rows for index in range(len(row))])
    bin_of = np.clip(np.ceil(probabilities * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(bin_of, weights=probabilities - chosen)).sum() / len(bin_of))
