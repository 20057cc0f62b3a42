"""The 90 dimensions, and what becomes of a user's vectors at the edges of each rule."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignx.schemas.interactions import PREFERENCE_DIMENSIONS
from services.prompts.directions import (
    DIMENSIONS,
    Dimension,
    average_vectors,
    describe_vectors,
    quantize,
    render_labels,
)

CONCISE, SCIENCE, LAW = 16, 47, 57


def vector(places: dict[int, float] | None = None, rest: float = 0.5) -> tuple[float, ...]:
    """A vector with these values at these places."""
    return tuple((places or {}).get(index, rest) for index in range(PREFERENCE_DIMENSIONS))


values = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)
vectors = st.lists(values, min_size=PREFERENCE_DIMENSIONS, max_size=PREFERENCE_DIMENSIONS)


# --- the dimensions ----------------------------------------------------------------------------


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


# --- the mean ----------------------------------------------------------------------------------


def test_each_dimension_is_averaged_by_itself() -> None:
    mean = average_vectors([vector({SCIENCE: 1.0, LAW: 0.0}), vector({SCIENCE: 1.0}), vector({LAW: 0.0})])
    assert mean == vector({SCIENCE: 2.5 / 3, LAW: 0.5 / 3})


def test_without_vectors_there_is_no_mean_also_after_another_user() -> None:
    assert average_vectors([vector(rest=1.0)]) == vector(rest=1.0)
    assert average_vectors([]) is None
    assert describe_vectors([]) == ""


def test_vectors_may_come_one_by_one() -> None:
    assert average_vectors(iter([vector(rest=1.0), vector(rest=0.0)])) == vector()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(vectors, min_size=1, max_size=6))
def test_the_order_of_the_choices_does_not_matter(rows: list[list[float]]) -> None:
    assert average_vectors(rows) == average_vectors(rows[::-1])


@pytest.mark.parametrize("size", [0, 89, 91])
def test_a_vector_of_another_length_is_named(size: int) -> None:
    with pytest.raises(ValueError, match=f"vector 1 has {size} values; one for each of 90"):
        average_vectors([vector(), (0.5,) * size])


@pytest.mark.parametrize("step", [quantize, render_labels])
def test_later_steps_refuse_another_length_too(step: Callable[[tuple[float, ...]], object]) -> None:
    with pytest.raises(ValueError, match="has 3 values"):
        step((0.5, 0.5, 0.5))


# --- settling ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "value"),
    [(1.0, 1.0), (0.6, 1.0), (0.5999, 0.5), (0.5, 0.5), (0.4001, 0.5), (0.4, 0.5), (0.3999, 0.0), (0.0, 0.0)],
)
def test_a_mean_settles_at_its_bounds(mean: float, value: float) -> None:
    assert quantize(vector({SCIENCE: mean, LAW: 1.0})) == vector({SCIENCE: value, LAW: 1.0})


@pytest.mark.parametrize(("step", "value"), [(1.0, 1.0), (0.0, 0.5)])
def test_one_in_five_is_just_enough_above_and_not_below(step: float, value: float) -> None:
    """As in AlignX, whose means are float32."""
    mean = average_vectors([vector({SCIENCE: step})] + [vector()] * 4)
    assert mean is not None
    assert mean[SCIENCE] in (0.6, 0.4)
    assert quantize((*mean[:-1], 1.0)) == (*vector({SCIENCE: value})[:-1], 1.0)


def test_bounds_can_be_others() -> None:
    mean = vector({SCIENCE: 0.7, LAW: 0.2})
    assert quantize(mean, high=0.8, low=0.21) == vector({LAW: 0.0})
    assert quantize(mean, high=0.7, low=0.1) == vector({SCIENCE: 1.0})


@pytest.mark.parametrize(
    ("places", "kept"),
    [
        ({SCIENCE: 0.55, LAW: 0.52}, {SCIENCE: 1.0}),
        ({SCIENCE: 0.52, LAW: 0.42}, {LAW: 0.0}),
        ({SCIENCE: 0.55, LAW: 0.45}, {LAW: 0.0}),
        ({SCIENCE: 0.55, CONCISE: 0.55, LAW: 0.46}, {SCIENCE: 1.0, CONCISE: 1.0}),
        ({SCIENCE: 0.45, CONCISE: 0.45, LAW: 0.55}, {SCIENCE: 0.0, CONCISE: 0.0}),
        ({CONCISE: 0.45, SCIENCE: 0.55}, {CONCISE: 0.0}),
        ({89: 0.5001}, {89: 1.0}),
        ({0: 0.4999}, {0: 0.0}),
    ],
)
def test_of_neutral_means_all_that_tie_at_the_extreme_are_kept(
    places: dict[int, float], kept: dict[int, float]
) -> None:
    assert quantize(vector(places)) == vector(kept)


def test_beside_a_settled_dimension_no_neutral_one_is_kept() -> None:
    assert quantize(vector({SCIENCE: 0.59, LAW: 0.3})) == vector({LAW: 0.0})


def test_exact_neutrality_stays() -> None:
    assert quantize(vector()) == vector()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(vectors)
def test_something_is_kept_unless_nothing_leans(mean: list[float]) -> None:
    settled_mean = quantize(mean)
    assert set(settled_mean) <= {0.0, 0.5, 1.0}
    if any(abs(value - 0.5) > 1e-6 for value in mean):
        assert set(settled_mean) != {0.5}
    assert quantize(settled_mean) == settled_mean


# --- words -------------------------------------------------------------------------------------


def test_labels_stand_in_the_order_of_the_dimensions() -> None:
    directions = vector({LAW: 0.0, SCIENCE: 1.0, CONCISE: 1.0})
    assert render_labels(directions) == "Concise communication style, Likes science, Dislikes law"


def test_neutral_dimensions_are_not_named() -> None:
    assert render_labels(vector()) == ""
    assert render_labels(vector(rest=1.0)) == ", ".join(dimension.positive for dimension in DIMENSIONS)


def test_choices_are_named_in_one_go() -> None:
    likes, dislikes = vector({SCIENCE: 1.0, LAW: 1.0}), vector({SCIENCE: 1.0, LAW: 0.0})
    assert describe_vectors([likes, dislikes]) == "Likes science"
    assert describe_vectors([vector({LAW: 1.0}), vector({LAW: 0.0})]) == ""
    assert describe_vectors([vector({LAW: 0.0}), *[vector()] * 9]) == "Dislikes law"
