"""Nearness in meaning, on vectors made by hand."""

import pytest

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from services.profile.word_vectors import MAX_EVENTS, MAX_MEANING, MAX_PRODUCTS, NEAREST, Lesson, lessons, nearness

LONG = "a text of some length, in which a few things are said one after the other"
TAKEN = [Lesson("taken", 1.0), Lesson("left", -1.0)]
EAST, NORTH = (1.0, 0.0), (0.0, 1.0)


def test_a_choice_points_from_what_was_left_to_what_was_taken() -> None:
    here, there = nearness(TAKEN, [EAST, NORTH], [LONG, LONG], [EAST, NORTH])
    assert here == -there > 0


def test_more_choices_tell_more_and_stay_bounded() -> None:
    found = [nearness(TAKEN * count, [EAST, NORTH] * count, [LONG, LONG], [EAST, NORTH])[0] for count in (1, 2, 500)]
    assert found == sorted(found)
    assert found[-1] <= MAX_MEANING


def test_the_length_of_a_vector_tells_nothing() -> None:
    assert nearness(TAKEN, [(7.0, 0.0), NORTH], [LONG, LONG], [EAST, (0.0, 3.0)]) == pytest.approx(
        nearness(TAKEN, [EAST, NORTH], [LONG, LONG], [EAST, NORTH])
    )


def test_of_a_name_the_meaning_counts_less() -> None:
    text, name = (nearness(TAKEN, [EAST, NORTH], [said, said], [EAST, NORTH])[0] for said in (LONG, "Heat"))
    assert 0 < name < text


def test_nothing_is_near_without_lessons() -> None:
    assert nearness([], [], [LONG, LONG], [EAST, NORTH]) == [0.0, 0.0]
    assert nearness(TAKEN, [EAST, NORTH], [], []) == []


@pytest.mark.parametrize("wrong", [(1.0,), (float("inf"), 0.0), (float("nan"), 0.0)])
def test_vectors_that_cannot_be_are_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="embeddings"):
        nearness(TAKEN, [EAST, wrong], [LONG], [EAST])


def test_each_kind_of_choice_teaches() -> None:
    history = [
        StatementInteraction(text="I love tea"),
        ComparisonInteraction(chosen="tea", rejected="coffee"),
        RatingInteraction(item="cocoa", value=5),
        RatingInteraction(item="water", value=3),
        RatingInteraction(item="soda", value=1),
        ClickInteraction(clicked="milk"),
        PurchaseInteraction(item="juice", considered=("beer", "wine")),
    ]
    found = {lesson.text: lesson.weight for lesson in lessons(history)}
    assert set(found) == {"tea", "coffee", "cocoa", "milk", "juice", "beer", "wine"}
    assert {text for text, weight in found.items() if weight < 0} == {"coffee", "beer", "wine"}
    assert found["juice"] > found["tea"]
    assert found["beer"] == -found["juice"] / 2
    assert {lesson.text for lesson in lessons(history) if lesson.alone} == {"cocoa", "milk"}


def test_an_item_is_as_near_as_the_nearest_of_several_sorts() -> None:
    """The mean of both sorts is as near to what lies between them."""
    between = (1.0, 1.0)
    taken = [Lesson(f"{place}", 1.0, alone=True) for place in range(12)]
    here, there = nearness(taken, [EAST, NORTH] * 6, [LONG, LONG], [EAST, between])
    assert here > 0 > there


def test_where_vectors_are_long_only_the_newest_taken_alone_are_compared() -> None:
    """Work is bounded: 24 texts against 64 items of 4096 numbers would hold up all other calls."""
    width = MAX_PRODUCTS // (NEAREST * 2)
    taken = [Lesson("newest", 1.0, alone=True)] * NEAREST + [Lesson("older", 1.0, alone=True)]
    east, north = ([1.0, 0.0] + [0.0] * (width - 2), [0.0, 1.0] + [0.0] * (width - 2))
    newest = nearness(taken[:NEAREST], [east] * NEAREST, [LONG, LONG], [east, north])
    both = nearness(taken, [*[east] * NEAREST, north], [LONG, LONG], [east, north])
    assert both == newest


def test_only_the_latest_events_are_read() -> None:
    assert len(lessons([PurchaseInteraction(item=f"item {n}") for n in range(100)])) == MAX_EVENTS
