"""Calibration of a router."""

import numpy as np
import pytest

from evaluation.scoring.routing import equal_mass_error, nll_changes, score_routing


def test_the_error_of_bins_of_equal_mass() -> None:
    confidences, hits = [0.9, 0.9, 0.6, 0.6], [1.0, 1.0, 1.0, 0.0]
    assert equal_mass_error(confidences, hits, bins=2) == pytest.approx((0.2 + 0.2) / 4)
    assert equal_mass_error(confidences, hits, bins=1) == pytest.approx(0.0)


def test_scores_of_a_sure_and_of_an_unsure_router() -> None:
    labels = np.array([0, 1, 2, 0])
    sure = score_routing(np.eye(3)[labels], labels)
    assert (sure.accuracy.mean, sure.nll.mean, sure.brier.mean, sure.calibration_error.mean) == (1, 0, 0, 0)
    unsure = score_routing(np.full((4, 3), 1 / 3), labels)
    assert unsure.nll.mean == pytest.approx(np.log(3))
    assert unsure.brier.mean == pytest.approx(2 / 3)
    assert unsure.calibration_error.low <= unsure.calibration_error.mean <= unsure.calibration_error.high


def test_a_change_below_nothing_is_a_gain() -> None:
    labels = np.zeros(50, dtype=np.int64)
    before, after = np.tile([0.5, 0.3, 0.2], (50, 1)), np.tile([0.8, 0.1, 0.1], (50, 1))
    change = nll_changes({"plain": before, "density": after}, "plain", labels)["density"]
    assert change.mean == pytest.approx(np.log(0.5) - np.log(0.8))
    assert change.high < 0
