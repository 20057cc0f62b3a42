"""The 90 dimensions, and what becomes of a user's vectors at the edges of each rule."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignx.schemas.interactions import PREFERENCE_DIMENSIONS
from services.prompts.directions import DIMENSIONS, Dimension, describe_vectors

CONCISE, SCIENCE, LAW = 16, 47, 57


def vector(places: dict[int, float] | None = None, rest: float = 0.5) -> tuple[float, ...]:
    """A vector with these values at these places."""
    return tuple((places or {}).get(index, rest) for index in range(PREFERENCE_DIMENSIONS))


values = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)
vectors = st.lists(values, min_size=PREFERENCE_DIMENSIONS, max_size=PREFERENCE_DIMENSIONS)


def test_there_is_a_pair_of_labels_for_each_value() -> None:
    assert len(DIMENSIONS) == PREFERENCE_DIMENSIONS
    labels = [label for dimension in DIMENSIONS for label in dimension]
    assert len(set(labels)) == 2 * PREFERENCE_DIMENSIONS
    assert all(label and label == label.strip() for label in labels)


@pytest.mark.parametrize(
    ("index", "dimension"),
    [
        (0, ("Young", "Older")),
        (7, ("Likes a certain food", "Dislikes a certain food")),
        (CONCISE, ("Concise communication style", "Detailed communication style")),
        (40, ("Concerned about harmlessness", "Indifferent about harmlessness")),
        (SCIENCE, ("Likes science", "Dislikes science")),
        (LAW, ("Likes law", "Dislikes law")),
        (89, ("Likes fashion", "Dislikes fashion")),
    ],
)
def test_a_dimension_stands_at_its_place_in_the_data_set(index: int, dimension: tuple[str, str]) -> None:
    assert DIMENSIONS[index] == Dimension(*dimension)


def test_no_label_can_open_a_tag_or_be_taken_for_two() -> None:
    assert not [label for dimension in DIMENSIONS for label in dimension if set(label) & set("<>;\n")]


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ([], ""),
        ([{SCIENCE: 1.0, LAW: 1.0}, {SCIENCE: 1.0, LAW: 0.0}], "Likes science"),
        ([{LAW: 1.0}, {LAW: 0.0}], ""),
        ([{LAW: 0.0}, *[{}] * 9], "Dislikes law"),
        ([{LAW: 0.0, SCIENCE: 1.0, CONCISE: 1.0}], "Concise communication style, Likes science, Dislikes law"),
    ],
)
def test_the_vectors_of_choices_are_averaged_and_named(choices: list[dict[int, float]], words: str) -> None:
    assert describe_vectors(map(vector, choices)) == words


def test_every_dimension_can_be_named() -> None:
    assert describe_vectors([vector(rest=1.0)]) == ", ".join(dimension.positive for dimension in DIMENSIONS)
    assert describe_vectors([vector()]) == ""


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(vectors, min_size=1, max_size=6))
def test_the_order_of_the_choices_does_not_matter(rows: list[list[float]]) -> None:
    assert describe_vectors(rows) == describe_vectors(rows[::-1])


@pytest.mark.parametrize(
    ("mean", "words"),
    [
        (1.0, "Likes science, "),
        (0.6, "Likes science, "),
        (0.5999, ""),
        (0.5, ""),
        (0.4001, ""),
        (0.4, ""),
        (0.3999, "Dislikes science, "),
        (0.0, "Dislikes science, "),
    ],
)
def test_a_mean_counts_from_its_bounds_on(mean: float, words: str) -> None:
    assert describe_vectors([vector({SCIENCE: mean, LAW: 1.0})]) == f"{words}Likes law"


@pytest.mark.parametrize(("step", "words"), [(1.0, "Likes science, "), (0.0, "")])
def test_one_in_five_is_just_enough_above_and_not_below(step: float, words: str) -> None:
    """As in AlignX, whose means are float32."""
    assert describe_vectors([vector({SCIENCE: step, LAW: 1.0}), *[vector({LAW: 1.0})] * 4]) == f"{words}Likes law"


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({SCIENCE: 0.55, LAW: 0.52}, "Likes science"),
        ({SCIENCE: 0.52, LAW: 0.42}, "Dislikes law"),
        ({SCIENCE: 0.55, LAW: 0.45}, "Dislikes law"),
        ({SCIENCE: 0.55, CONCISE: 0.55, LAW: 0.46}, "Concise communication style, Likes science"),
        ({SCIENCE: 0.45, CONCISE: 0.45, LAW: 0.55}, "Detailed communication style, Dislikes science"),
        ({89: 0.5001}, "Likes fashion"),
        ({0: 0.4999}, "Older"),
        ({SCIENCE: 0.59, LAW: 0.3}, "Dislikes law"),
    ],
)
def test_of_neutral_means_all_that_tie_at_the_extreme_are_kept(places: dict[int, float], words: str) -> None:
    """Unless another dimension leans enough."""
    assert describe_vectors([vector(places)]) == words


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(vectors)
def test_something_is_named_unless_nothing_leans(mean: list[float]) -> None:
    assert describe_vectors([mean]) or all(abs(value - 0.5) <= 1e-6 for value in mean)
