"""Calibration of a router: accuracy, negative log-likelihood, Brier score, and the expected calibration error."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.results import Estimate, Part
from evaluation.scoring.intervals import LEVEL, difference, estimate

BINS: Final = 15
RESAMPLES: Final = 2_000

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


class RoutingScores(Part):
    """Of probabilities (n, axes) against labels (n)."""

    accuracy: Estimate
    nll: Estimate
    """Mean of -log p of the label, in nats."""
    brier: Estimate
    """Mean over rows of Σ_k (p_k - y_k)², 0 to 2."""
    calibration_error: Estimate
    """Of the likeliest axis, over 15 bins of equal mass (`equal_mass_error`)."""


def equal_mass_error(confidences: Sequence[float] | Matrix, hits: Sequence[float] | Matrix, bins: int = BINS) -> float:
    """Σ_b n_b/n · |mean confidence - share of hits| over `bins` parts of the rows, sorted by confidence, as equal in
    size as their number allows."""
    order = np.argsort(confidences, kind="stable")
    gaps = (np.asarray(confidences) - np.asarray(hits))[order]
    return float(sum(abs(part.sum()) for part in np.array_split(gaps, bins)) / len(gaps))


def score_routing(probabilities: Matrix, labels: Labels, *, seed: int = 0) -> RoutingScores:
    hits = (probabilities.argmax(1) == labels).astype(float)
    truth = np.eye(probabilities.shape[1])[labels]
    return RoutingScores(
        accuracy=estimate(hits.tolist(), seed=seed),
        nll=estimate(_losses(probabilities, labels), seed=seed),
        brier=estimate(((probabilities - truth) ** 2).sum(1).tolist(), seed=seed),
        calibration_error=_error_estimate(probabilities.max(1), hits, seed),
    )


def _losses(probabilities: Matrix, labels: Labels) -> list[float]:
    own: list[float] = (-np.log(probabilities[np.arange(len(labels)), labels].clip(1e-12))).tolist()
    return own


def _error_estimate(confidences: Matrix, hits: Matrix, seed: int) -> Estimate:
    rng, count = np.random.default_rng(seed), len(hits)
    draws: list[Any] = [rng.integers(count, size=count) for _ in range(RESAMPLES)]
    errors = np.array([equal_mass_error(confidences[draw], hits[draw]) for draw in draws])
    mean = equal_mass_error(confidences, hits)
    # A draw repeats rows, which widens the gaps of its bins: the spread counts, not where it lies.
    low, high = np.quantile(errors - errors.mean() + mean, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean=mean, low=max(float(low), 0.0), high=float(high), rows=count)


def nll_changes(variants: Mapping[str, Matrix], before: str, labels: Labels, *, seed: int = 0) -> dict[str, Estimate]:
    """Of each variant's negative log-likelihood less that of `before`, row by row; below 0 is a gain."""
    base = _losses(variants[before], labels)
    return {name: difference(_losses(own, labels), base, seed=seed) for name, own in variants.items() if name != before}
