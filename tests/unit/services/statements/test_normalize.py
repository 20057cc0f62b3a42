"""Spellings that Unicode tells apart and people do not."""

import unicodedata

import pytest

from alignx.schemas.interactions import ClickInteraction
from services.profile.render import render
from services.profile.style_features import words
from tests.unit.services.profile.histories import folded


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("नया मोबाइल फोन लॉन्च", ["नया", "मोबाइल", "फोन", "लॉन्च"]),
        ("புதிய தொலைபேசி", ["புதிய", "தொலைபேசி"]),
        ("โทรศัพท์ ใหม่", ["โทรศัพท์", "ใหม่"]),
        ("Ｊａｚｚ １２", ["jazz", "12"]),
        ("IĞDIR ığdır Iğdır", ["iğdir"] * 3),
        ("don’t", ["don't"]),
    ],
)
def test_words_keep_their_marks(text: str, right: list[str]) -> None:
    assert words(text) == right
    assert words(unicodedata.normalize("NFD", text)) == right


def test_a_profile_shows_whole_words() -> None:
    clicks = [
        ("नया मोबाइल फोन लॉन्च", "क्रिकेट मैच का परिणाम"),
        ("सस्ता मोबाइल फोन", "आज का क्रिकेट मैच"),
        ("मोबाइल फोन समीक्षा", "क्रिकेट टीम घोषित"),
    ]
    text = render(folded([ClickInteraction(clicked=clicked, shown=(clicked, skipped)) for clicked, skipped in clicks]))
    assert "मोबाइल" in text
    assert "फोन" in text
