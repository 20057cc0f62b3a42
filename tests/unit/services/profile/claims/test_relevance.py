"""What of a summary bears on a request: manner always, the rest where it is near; and in what is chosen as well."""

import pytest

from services.profile.claims.relevance import keep_relevant, read_parts
from tests.unit.services.profile.histories import lead, stated

JAZZ = 'In their own words, newest first: "I love jazz.", "Keep answers short." (May 2026)'
DOGS = 'About them: "I have two spaniels." (May 2026)'
FILMS = "Clearly drawn to Horror films, for example “Alien”. Tends to pick Westerns."
STYLE = "Tends to prefer texts that are formal."
TEXT = "\n".join((JAZZ, DOGS, FILMS, STYLE, "Based on 9 events so far."))


def test_manner_bears_on_every_request() -> None:
    kept = keep_relevant(TEXT, "How do I unclog a kitchen sink?")
    assert kept == f'In their own words: "Keep answers short." (May 2026)\n{STYLE}'


@pytest.mark.parametrize(
    ("request_text", "kept", "left"),
    [
        ("Which film shall we watch on Friday?", "Horror films", "jazz"),
        ("Which jazz album is for beginners?", "I love jazz.", "Horror"),
        ("What food do spaniels need?", "I have two spaniels.", "Horror"),
    ],
)
def test_what_is_near_is_kept(request_text: str, kept: str, left: str) -> None:
    text = keep_relevant(TEXT, request_text)
    assert kept in text
    assert left not in text


@pytest.mark.parametrize("request_text", ["Another one, please.", "", "Welchen Film soll ich morgen anschauen?"])
def test_a_request_without_a_subject_gets_the_whole(request_text: str) -> None:
    assert keep_relevant(TEXT, request_text) == TEXT


def test_what_no_longer_holds_bears_on_nothing() -> None:
    text = 'No longer holds, newest first: "I love jazz." (May 2025)'
    assert keep_relevant(text, "Which jazz album is for beginners?") == ""


def test_a_statement_on_something_else_decides_no_choice() -> None:
    profile = stated("I love gardening, especially roses.")
    assert lead(profile, "Translate 'the meeting is on Monday'.", "Lundi, la réunion", "Roses, la réunion") == 0
    assert lead(profile, "What shall I plant in the garden?", "A bed of roses", "An oak") > 0


@pytest.mark.parametrize("said", ["I am allergic to peanuts.", "I'm vegan.", "I avoid alcohol.", "I am diabetic."])
def test_what_does_harm_when_left_out_bears_on_every_request(said: str) -> None:
    for opening in ("In their own words", "About them"):
        text = f'{opening}: "{said}"'
        assert keep_relevant(text, "Suggest a dinner recipe for my friends") == text


def test_a_line_that_only_begins_like_one_of_quotations_is_a_sentence() -> None:
    text = "About them: loves nuts and desserts."
    assert keep_relevant(text, "Recommend a dessert recipe with nuts") == text


def test_a_title_is_not_cut() -> None:
    text = "Clearly drawn to films, for example “Dr. Strangelove” and “Mr. Bean”."
    assert keep_relevant(text, "Which films shall we watch on Friday?") == text


def test_parts_are_read_one_at_a_step() -> None:
    text = "\n".join([TEXT, "They like jazz. They avoid nuts! They like films."])
    before = keep_relevant(text, "Recommend a dessert recipe with nuts")
    assert len(list(read_parts(text))) == len(list(read_parts(TEXT))) + 3
    assert keep_relevant(text, "Recommend a dessert recipe with nuts") == before
