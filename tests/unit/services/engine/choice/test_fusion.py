"""The weights of a fused selection: what scorers that are good, blind, misleading or changing earn."""

import random
from collections.abc import Sequence
from math import log, sqrt
from statistics import NormalDist, fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.choice.fusion import (
    PROFILE_ALONE,
    Comparison,
    LogOdds,
    Weights,
    _learn,
    add,
    additions,
    compare,
    fuse,
    kind_of,
    learned_weights,
)
from services.profile.scoring import softmax

SEEDS = 30
PROFILE = 0.79
"""Share of choices that the profile foresees; as of P-Soups Style."""
Stretch = tuple[int, float, float]
"""Comparisons, and the shares of them that text and contrast foresee."""


def draw(source: random.Random, profile: float, text: float, contrast: float) -> LogOdds:
    """Log-odds of three scorers who err alike now and then, the engine's with a wide tail."""
    shared, odds = source.gauss(), []
    for accuracy, scale in ((profile, 1.0), (text, 0.7), (contrast, 1.5)):
        tail = 1.0 if accuracy == profile else source.expovariate(1.0) + 0.2
        noise = sqrt(0.2) * shared + sqrt(0.8) * source.gauss()
        odds.append(scale * tail * (noise + NormalDist().inv_cdf(accuracy)))
    return LogOdds(*odds)


def gains(stretches: Sequence[Stretch], profile: float = PROFILE) -> list[tuple[float, float]]:
    """For each stretch the gain over the profile alone in points, as the 95 % interval of its mean over seeds.
    Each choice is predicted before it is learned from."""
    by_seed = []
    for seed in range(SEEDS):
        source, sums, gained = random.Random(seed), dict[str, float](), []
        for count, text, contrast in stretches:
            right = 0.0
            for _ in range(count):
                odds = draw(source, profile, text, contrast)
                right += (odds.weigh(learned_weights(sums, "texts")) > 0) - (odds.profile > 0)
                sums = add(sums, additions(sums, Comparison("texts", odds)))
            gained.append(100 * right / count)
        by_seed.append(gained)
    return [
        (fmean(column) - (half := 1.96 * stdev(column) / sqrt(SEEDS)), fmean(column) + half)
        for column in zip(*by_seed, strict=True)
    ]


@pytest.mark.parametrize(("text", "contrast"), [(0.5, 0.5), (0.35, 0.4), (0.2, 0.5)])
def test_an_engine_that_is_blind_or_misleads_costs_less_than_a_point(text: float, contrast: float) -> None:
    ((low, _),) = gains([(400, text, contrast)])
    assert low > -1


def test_a_good_engine_gains() -> None:
    (first, _), (then, _) = gains([(100, 0.74, 0.78), (300, 0.74, 0.78)])
    assert first > 1
    assert then > 3
    ((alone, _),) = gains([(200, 0.8, 0.5)], profile=0.5)
    assert alone > 15


def test_a_scorer_that_says_what_the_profile_says_is_no_gain_and_no_loss() -> None:
    sums: dict[str, float] = {}
    source = random.Random(1)
    for _ in range(300):
        odds = draw(source, PROFILE, 0.5, 0.5)
        sums = add(sums, additions(sums, Comparison("texts", LogOdds(odds.profile, odds.profile))))
    weights = learned_weights(sums, "texts")
    assert weights.profile + weights.text > 0
    assert weights.contrast == 0


@pytest.mark.parametrize(("text", "contrast"), [(0.5, 0.5), (0.3, 0.3)])
def test_an_engine_that_turns_bad_is_left_within_a_few_choices(text: float, contrast: float) -> None:
    before, after, later = gains([(400, 0.74, 0.78), (300, text, contrast), (300, text, contrast)])
    assert before[0] > 3
    assert after[0] > -3  # 9 of 300
    assert later[0] > -1


def test_an_engine_that_turns_good_earns_its_weight() -> None:
    before, _, later = gains([(400, 0.4, 0.4), (300, 0.74, 0.78), (300, 0.74, 0.78)])
    assert before[0] > -1
    assert later[0] > 3


def test_a_profile_that_is_always_wrong_takes_no_weight_from_the_text() -> None:
    source, sums = random.Random(0), dict[str, float]()
    for _ in range(300):
        sums = add(sums, additions(sums, Comparison("texts", LogOdds(profile=-1.0, text=source.gauss(1.0, 1.0)))))
    weights = learned_weights(sums, "texts")
    assert (weights.profile, weights.contrast) == (0.0, 0.0)
    assert weights.text > 1


def test_a_few_choices_do_not_silence_a_profile_that_was_wrong_once() -> None:
    sums: dict[str, float] = {}
    for profile in (-13.0, 0.5, 0.5, 0.5):
        sums = add(sums, additions(sums, Comparison("items", LogOdds(profile, -1.0, 0.3))))
    weights = _learn(sums, "items")
    assert weights.profile > 0.3
    assert weights.text == 0
    assert learned_weights(sums, "items", ("text",)).profile > 0.3, "a contrast that comes too late"


def test_weights_are_earned_for_each_kind_alone() -> None:
    source, sums = random.Random(3), dict[str, float]()
    assert learned_weights(sums, "texts") == PROFILE_ALONE
    for _ in range(200):
        sums = add(sums, additions(sums, Comparison("texts", draw(source, PROFILE, 0.8, 0.5))))
        sums = add(sums, additions(sums, Comparison("items", draw(source, PROFILE, 0.5, 0.5))))
    assert learned_weights(sums, "texts").text > 0
    assert learned_weights(sums, "items") == PROFILE_ALONE
    assert (kind_of(["a", "b"]), len(sums)) == ("texts", 2 * 14)


def test_an_engine_that_is_always_right_has_finite_weights() -> None:
    sums: dict[str, float] = {}
    for _ in range(500):
        sums = add(sums, additions(sums, Comparison("texts", LogOdds(0.0, 1.0, 20.0))))
    assert 0 < learned_weights(sums, "texts").contrast < 10


DISTRIBUTIONS = st.lists(st.tuples(st.floats(0.001, 1), st.floats(0, 1), st.floats(-50, 50)), min_size=2, max_size=26)
WEIGHTS = st.builds(Weights, *[st.floats(0, 5)] * 3)


@given(DISTRIBUTIONS, WEIGHTS)
def test_a_fusion_is_a_distribution_whose_odds_are_those_that_are_learned_from(
    rows: list[tuple[float, float, float]], weights: Weights
) -> None:
    profile, text, contrast = (list(column) for column in zip(*rows, strict=True))
    profile = [value / sum(profile) for value in profile]
    fused = fuse(weights, profile, text, contrast)
    assert sum(fused) == pytest.approx(1)
    assert fuse(PROFILE_ALONE, profile, text, contrast) == pytest.approx(profile)
    odds = compare(profile, text, contrast, chosen=0, rejected=1).weigh(weights)
    assert abs(odds) < 1e-9 or (odds > 0) == (fused[0] > fused[1]) or fused[0] == fused[1]


def test_choices_that_were_all_foreseen_make_nobody_sure() -> None:
    """Of n right predictions the rule of succession expects the next with odds of n + 1 to one, and no more."""
    source, sums, learned_from = random.Random(1), dict[str, float](), 300
    for _ in range(learned_from):
        odds = LogOdds(profile=0.8, text=0.3 + source.random())
        sums = add(sums, additions(sums, Comparison("texts", odds)))
    assert 3 < LogOdds(profile=0.8, text=0.8).weigh(learned_weights(sums, "texts")) < log(learned_from + 1)


def test_weights_of_small_differences_make_no_item_impossible() -> None:
    """Where a text's few odds have always been right its weight is large, and many items differ more than they did."""
    shares = fuse(Weights(profile=1.0, text=500.0), [1 / 26] * 26, softmax([number / 100 for number in range(26)]))
    assert min(shares) > 1e-4
    assert sorted(shares) == shares
