"""The bootstrap against what is known of means."""

import math
import random

import pytest

from evaluation.scoring.intervals import difference, estimate


def coins(count: int, share: float) -> list[float]:
    return [float(place < share * count) for place in range(count)]


@pytest.mark.parametrize(("share", "count"), [(0.5, 500), (0.8, 1_000), (0.95, 2_000)])
def test_the_interval_of_a_share_is_that_of_the_normal_law(share: float, count: int) -> None:
    found = estimate(coins(count, share), seed=1)
    half = 1.96 * math.sqrt(share * (1 - share) / count)
    assert found.mean == pytest.approx(share)
    assert found.low == pytest.approx(share - half, abs=0.1 * half)
    assert found.high == pytest.approx(share + half, abs=0.1 * half)
    assert found.rows == count


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(0)
    held = 0
    for trial in range(300):
        found = estimate([rng.random() ** 2 for _ in range(100)], seed=trial, resamples=1_000)
        held += found.low <= 1 / 3 <= found.high
    assert 0.91 <= held / 300 <= 0.98


def test_the_seed_decides_the_interval_and_not_the_mean() -> None:
    values = [random.Random(2).random() for _ in range(50)] + coins(30, 0.3)
    assert estimate(values, seed=3) == estimate(values, seed=3)
    one, other = estimate(values, seed=3), estimate(values, seed=4)
    assert one.mean == other.mean
    assert one.low != other.low


def test_equal_values_leave_no_doubt_and_none_are_refused() -> None:
    found = estimate([0.5] * 20)
    assert (found.low, found.high) == (0.5, 0.5)
    with pytest.raises(ValueError, match="at least one"):
        estimate([])


def test_pairs_are_compared_more_sharply_than_two_means() -> None:
    rng = random.Random(5)
    hard = [rng.random() for _ in range(400)]
    better = [value + 0.03 + 0.01 * rng.random() for value in hard]
    found = difference(better, hard)
    assert found.mean == pytest.approx(0.035, abs=0.001)
    assert found.low > 0.03
    assert estimate(better).low < estimate(hard).high, "unpaired, the difference is not clear"
    with pytest.raises(ValueError, match="argument"):
        difference([1.0], [1.0, 0.0])


def test_whole_clusters_are_drawn_so_copies_of_a_row_add_no_certainty() -> None:
    rng = random.Random(6)
    for values in (coins(40, 0.5), [rng.random() for _ in range(40)]):
        copied = [value for value in values for _ in range(5)]
        owners = [place // 5 for place in range(len(copied))]
        once, together = estimate(values, seed=1), estimate(copied, seed=1, clusters=owners)
        assert together.mean == pytest.approx(once.mean)
        assert together.rows == 200
        assert together.high - together.low == pytest.approx(once.high - once.low, rel=0.1)
        assert estimate(copied, seed=1).high < together.high
    assert estimate(values, seed=1, clusters=list(range(40))) == estimate(values, seed=1), "each row its own"
