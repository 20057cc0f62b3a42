"""What counts as giving a held-out choice away."""

import pytest

from alignx.schemas.interactions import ComparisonInteraction
from training.synthesis.leaks import leaks

TARGET = ComparisonInteraction(
    query="What to cook?", chosen="Blade Runner", rejected="A long and winding story of seven brothers & a fox"
)
SHOWN = [ComparisonInteraction(query="What to cook?", chosen="Soup", rejected="Stew")]


@pytest.mark.parametrize(
    "reply",
    [
        "The user would pick blade runner.",
        "They avoid a story of SEVEN brothers, & a fox.",
        "They skip the winding story of seven brothers &amp; a fox.",
        "As the held-out choices show, the user likes brevity.",
        "From <held_out>: brevity.",
    ],
)
def test_a_quotation_or_a_mention_is_a_leak(reply: str) -> None:
    assert leaks(reply, [TARGET], SHOWN, past=None, words=6)


@pytest.mark.parametrize(
    "reply",
    [
        "The user likes short answers.",
        "The user likes runners and blades.",
        "The user avoids a long and winding story.",
        "Asked what to cook, the user takes soup.",
        "The user likes Bladerunner.",
    ],
)
def test_the_users_taste_in_other_words_is_none(reply: str) -> None:
    assert not leaks(reply, [TARGET], SHOWN, past=None, words=6)


def test_what_the_student_reads_may_be_repeated() -> None:
    seen = [ComparisonInteraction(chosen="Blade Runner, again", rejected="Heat")]
    assert not leaks("The user liked Blade Runner.", [TARGET], seen, past=None, words=6)
    assert not leaks("The user liked Blade Runner.", [TARGET], SHOWN, past="Likes Blade Runner.", words=6)


def test_one_word_is_no_quotation() -> None:
    target = ComparisonInteraction(chosen="Jazz", rejected="Opera")
    assert not leaks("The user likes jazz.", [target], SHOWN, past=None, words=6)
