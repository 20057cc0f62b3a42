"""Each figure against a formula written another way, on any rows."""

import itertools
import math
from collections import defaultdict
from statistics import fmean

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.scoring.calibration import auc_estimate, calibration_error, hit

CALM = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])

scores = st.integers(0, 20).map(lambda tick: tick / 20) | st.floats(0, 1)
rows = st.lists(st.lists(scores, min_size=2, max_size=4), min_size=1, max_size=8)
chances = st.lists(scores.map(lambda p: (p, 1 - p)), min_size=1, max_size=20)


# --- who is right ------------------------------------------------------------------------------


def test_a_probability_within_float32s_noise_of_one_half_is_half_a_hit() -> None:
    assert [hit([p, 1 - p]) for p in (0.5, 0.50001, 0.49999, 1.0, 0.5 - 1e-8)] == [0.5, 1.0, 0.0, 1.0, 0.5]


@CALM
@given(st.lists(st.integers(0, 3), min_size=2, max_size=6))
def test_ties_share_one_hit(values: list[int]) -> None:
    """Whoever stands first: over all of them exactly one is right."""
    total = sum(hit([value, *values[:place], *values[place + 1 :]]) for place, value in enumerate(values))
    assert total == pytest.approx(1)


# --- the area under the curve ------------------------------------------------------------------


def by_counting(rows: list[list[float]]) -> float:
    """Mann-Whitney: every chosen option against every option that was left."""
    chosen = [round(row[0], 6) for row in rows]
    left = [round(score, 6) for row in rows for score in row[1:]]
    wins = sum((c > r) + 0.5 * (c == r) for c, r in itertools.product(chosen, left))
    return wins / (len(chosen) * len(left))


def test_pooling_asks_more_than_pairwise_accuracy() -> None:
    """Each user is foreseen, but what one leaves scores above what another chooses."""
    rows = [(0.9, 0.8), (0.2, 0.1)]
    assert [hit(row) for row in rows] == [1, 1]
    assert auc_estimate(rows).mean == 0.75


def test_noise_of_float32_is_no_order() -> None:
    assert auc_estimate([(0.5 + 1e-8, 0.5 - 1e-8)] * 9).mean == 0.5


@CALM
@given(rows, st.integers(0, 9))
def test_the_area_is_the_share_of_won_comparisons_and_its_interval_that_of_redrawn_users(
    rows: list[list[float]], seed: int
) -> None:
    found = auc_estimate(rows, seed=seed, resamples=50)
    rng, count = np.random.default_rng(seed), len(rows)
    redrawn = [by_counting([rows[place] for place in rng.integers(count, size=count)]) for _ in range(50)]
    assert found.mean == pytest.approx(by_counting(rows))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(redrawn, [2.5, 97.5])))
    assert found.rows == count


def test_no_rows_have_no_area() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        auc_estimate([])


# --- calibration -------------------------------------------------------------------------------


def by_hand(rows: list[tuple[float, float]]) -> float:
    """Bins (0, .1], (.1, .2] … as dictionaries."""
    bins: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for chosen, left in rows:
        for value, was in ((chosen, 1), (left, 0)):
            bins[max(0, math.ceil(value * 10) - 1)].append((value, was))
    gaps = [len(each) * abs(fmean(p for p, _ in each) - fmean(w for _, w in each)) for each in bins.values()]
    return sum(gaps) / (2 * len(rows))


@CALM
@given(chances)
def test_the_calibration_error_is_that_of_the_definition(rows: list[tuple[float, float]]) -> None:
    error = calibration_error(rows)
    assert error == pytest.approx(by_hand(rows), abs=1e-9)
    assert 0 <= error <= 1 + 1e-9


def test_who_is_right_as_often_as_sure_is_calibrated() -> None:
    rows = [(0.8, 0.2)] * 8 + [(0.2, 0.8)] * 2
    assert calibration_error(rows) == pytest.approx(0)
    assert calibration_error([(0.0, 1.0)] * 5) == 1
    assert calibration_error([(1.0, 0.0)] * 5) == 0
    assert calibration_error([(0.75, 0.25)] * 4) == 0.25
