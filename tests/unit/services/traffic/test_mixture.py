"""The weights of features: learned where they help, the fixed ones where they do not."""

import random

from services.traffic.mixture import COLD, FIXED, LEAST, Features, Mixture, choose_weights, hit, parse_mixtures


def stream(seed: int, count: int, popularity: float) -> list[Features]:
    """Differences of choices that the profile foresees by its log-odds, and popularity by `popularity` of them."""
    rng = random.Random(seed)
    differences = []
    for _ in range(count):
        signs = [1 if rng.random() < share else -1 for share in (0.75, popularity)]
        differences.append(Features(profile=1.1 * signs[0], popularity=1.5 * signs[1]))
    return differences


def foresee(differences: list[Features]) -> tuple[float, float, Mixture]:
    """Hits by the weights as of each choice, and by the fixed ones; each choice is learned after it is foreseen."""
    mixture, hits, fixed = Mixture(), 0.0, 0.0
    for difference in differences:
        hits += hit(difference.weigh(mixture.current))
        fixed += hit(difference.weigh(FIXED))
        mixture = mixture.learn(difference)
    return hits / len(differences), fixed / len(differences), mixture


def test_a_feature_that_foresees_choices_gets_weight_and_one_that_does_not_none() -> None:
    hits, fixed, mixture = foresee(stream(1, 1_500, 0.8))
    assert hits > fixed + 0.03
    assert mixture.weights.popularity > 0.5
    _, _, idle = foresee(stream(2, 1_500, 0.5))
    assert abs(idle.weights.popularity) < 0.2
    assert mixture.weights.neighbours == idle.weights.neighbours == 0


def test_a_tenant_whose_popularity_misleads_loses_no_point() -> None:
    """Popularity speaks for what is chosen, then as long against it."""
    for seed in range(5):
        turned = [*stream(seed, 500, 0.85), *stream(seed + 10, 1_500, 0.2)]
        hits, fixed, _ = foresee(turned)
        assert hits > fixed - 0.01
        against, fixed, _ = foresee(stream(seed, 1_000, 0.2))
        assert against > fixed - 0.01


def test_weights_that_foresee_less_than_the_fixed_ones_are_left() -> None:
    _, _, mixture = foresee(stream(3, 500, 0.9))
    worse = mixture._replace(gain=-40.0, squares=100.0)
    assert mixture.current != FIXED
    assert worse.current == FIXED
    doubtful = mixture._replace(gain=-10.0, squares=100.0)
    assert doubtful.current == doubtful.weights


def test_weights_are_stored_and_those_of_other_features_do_not_count() -> None:
    _, _, mixture = foresee(stream(4, 50, 0.9))
    again = parse_mixtures({"items": mixture.text(), "texts": "1 2 3"})
    assert set(again) == {"items"}
    assert Mixture.parse(mixture.text()).text() == again["items"].text() == mixture.text()


def test_items_taken_alone_teach_until_choices_have() -> None:
    _, _, alone = foresee(stream(5, 2 * LEAST, 0.9))
    _, _, little = foresee(stream(6, LEAST // 2, 0.1))
    assert choose_weights({}, "items") == FIXED
    assert choose_weights({}, "items", is_cold=True) == COLD
    assert choose_weights({"drawn": alone, "items": little}, "items") == alone.weights
    assert choose_weights({"drawn": alone}, "texts") == FIXED
