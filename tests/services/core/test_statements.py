"""Likes and dislikes read from plain sentences."""

import pytest

from services.core.profile import scores
from services.core.schemas import StatementInteraction
from tests.services.core.histories import folded


@pytest.mark.parametrize(
    ("said", "liked", "disliked"),
    [
        ("I love jazz but hate opera", "jazz night", "opera night"),
        ("I prefer tea over coffee", "green tea", "black coffee"),
        ("I don't like golf", "tennis", "golf"),
        ("I can't stand crowds", "quiet beach", "crowds"),
        ("I want less politics", "sport", "politics"),
        ("Dogs are my favourite", "a dog book", "a car book"),
    ],
)
def test_likes_and_dislikes_are_read_from_a_sentence(said: str, liked: str, disliked: str):
    here, there = scores(folded([StatementInteraction(text=said)]), "", (liked, disliked))
    assert here > there
