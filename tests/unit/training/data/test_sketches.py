"""Counters of bounded memory: exact while little has come, close afterwards."""

import random

import pytest

from training.data.sketches import Commonest, Repeats, Spread, fingerprint


def test_quantiles_are_exact_up_to_the_capacity():
    spread = Spread()
    for value in range(1000):
        spread.add(value)
    found = spread.quantiles()
    assert found is not None
    assert (found.least, found.p10, found.median, found.p90, found.most, found.mean) == (0, 100, 500, 900, 999, 499.5)


def test_quantiles_beyond_the_capacity_are_close():
    spread = Spread(capacity=1000)
    for value in range(100_000):
        spread.add(value)
    found = spread.quantiles()
    assert found is not None
    assert (found.least, found.most, found.mean) == (0, 99_999, 49_999.5)
    assert found.median == pytest.approx(50_000, rel=0.1)
    assert len(spread._sample) == 1000


def test_no_values_have_no_quantiles():
    assert Spread().quantiles() is None


def test_fingerprints_tell_where_a_text_ends():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("a", "") != fingerprint("a")
    assert fingerprint("a", "b") == fingerprint("a", "b")
    assert fingerprint("\ud800")


def test_repeats_are_exact_up_to_the_capacity():
    repeats = Repeats()
    for value in (1, 2, 3, 1, 1):
        repeats.add(fingerprint(str(value)))
    assert repeats.share() == pytest.approx(2 / 5)
    assert repeats.exact


def test_repeats_beyond_the_capacity_are_close_and_stay_small():
    repeats = Repeats(capacity=2000)
    rng = random.Random(1)
    values = [fingerprint(str(number)) for number in [*range(30_000), *range(10_000)]]
    rng.shuffle(values)
    for value in values:
        repeats.add(value)
    assert not repeats.exact
    assert len(repeats._counts) <= 2000
    assert repeats.share() == pytest.approx(0.25, abs=0.03)


def test_the_commonest_is_never_overstated_and_little_understated():
    commonest = Commonest(counters=20)
    values = [0] * 3000 + list(range(1, 7001))
    random.Random(1).shuffle(values)
    for value in values:
        commonest.add(value)
    assert 0.3 - 1 / 20 <= commonest.share() <= 0.3
    assert len(commonest._counts) <= 20


def test_nothing_has_no_share():
    assert Repeats().share() == Commonest().share() == 0.0
