"""Likes and dislikes read from plain sentences."""

import pytest

from alignx.schemas.interactions import PostInteraction, StatementInteraction
from services.profile.parse_text import parse_statement
from services.profile.scoring import scores
from tests.unit.services.profile.histories import folded


@pytest.mark.parametrize(
    ("said", "liked", "disliked"),
    [
        ("I love jazz but hate opera", "jazz night", "opera night"),
        ("I prefer tea over coffee", "green tea", "black coffee"),
        ("I don't like golf", "tennis", "golf"),
        ("I can't stand crowds", "quiet beach", "crowds"),
        ("I want less politics", "sport", "politics"),
        ("Dogs are my favourite", "a dog book", "a car book"),
        ("I dislike group projects and prefer reading alone", "a reading list", "a group project"),
        ("I prefer to stay away from fantasy worlds", "space", "fantasy"),
        ("I prefer not to attend crowded events", "a quiet evening", "a crowded expo"),
        ("I avoid cats because I'm allergic to them", "a dog", "a pair of cats"),
        ("I don't wear wool as I'm a vegan", "a vegan coat", "a wool coat"),
        ("I have a phobia of birds", "a hamster", "a singing bird"),
        ("I do not like jogging", "swimming laps", "a daily jog"),
        ("I am allergic to sugar", "a sugar-free drink", "a drink with sugar"),
        ("I love sugar", "a drink with sugar", "a sugar-free drink"),
        ("I only want story-based games", "a story", "a puzzle"),
        ("I dislike drinks like cola", "tea", "cola"),
    ],
)
def test_likes_and_dislikes_are_read_from_a_sentence(said: str, liked: str, disliked: str):
    here, there = scores(folded([StatementInteraction(text=said)]), "", (liked, disliked))
    assert here > there


@pytest.mark.parametrize(
    ("said", "liked", "disliked"),
    [
        ("I'll go with the nature hike, thanks.", "a hike", "a concert"),
        ("The nature hike sounds perfect.", "a hike", "a concert"),
        ("The options with crowds don't really appeal to me.", "a quiet place", "crowds"),
        ("I usually prefer trains. What time is it?", "a train", "a plane"),
        ("I tend to avoid floral prints when I shop.", "a plain dress", "a floral dress"),
    ],
)
def test_choices_and_habits_are_read_from_writing(said: str, liked: str, disliked: str):
    here, there = scores(folded([PostInteraction(text=said)]), "", (liked, disliked))
    assert here > there


def test_what_is_told_of_others_is_no_liking():
    said = PostInteraction(text="The committee wants shorter meetings. She hates opera.")
    here, there = scores(folded([said]), "", ("a night at the opera", "a night at the theatre"))
    assert here >= there


@pytest.mark.parametrize(
    "said",
    [
        "I can't wait for the opera next week",
        "I didn't know that the opera was built so long ago",
        "I need to go past the opera on my way home",
    ],
)
def test_what_is_told_in_passing_is_no_taste(said: str):
    assert parse_statement(said, statement=False) == ({}, {})


def test_not_only_is_no_dislike():
    said = PostInteraction(text="I love to explore not just the opera itself but its history")
    here, there = scores(folded([said]), "", ("a night at the opera", "a night at home"))
    assert here > there


def test_a_remark_on_a_liking_is_no_part_of_it():
    said = "I didn't enjoy cooking, which is odd as I had looked forward to it"
    assert parse_statement(said, statement=False).terms == {"cooking": -0.7}
