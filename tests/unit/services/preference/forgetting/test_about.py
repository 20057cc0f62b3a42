"""Which events are about something."""

import pytest

from alignx.schemas.interactions import INTERACTION
from services.errors import InvalidRequest
from services.preference.forgetting.about import About, read_texts


def test_about_goes_by_whole_words_in_any_script() -> None:
    assert About("Crème  BRÛLÉE").matches("a crème brûlée, please")
    assert not About("tea").matches("a team")
    assert About("日本茶").matches("私は日本茶が好きです")
    purchase = INTERACTION.validate_python({"type": "purchase", "source": "shop", "item": {"id": "7", "title": "Tea"}})
    assert About("7 tea").matches(read_texts(purchase))
    assert not About("purchase").matches(read_texts(purchase))
    assert not About("shop").matches(read_texts(purchase))


@pytest.mark.parametrize(
    ("about", "same", "other"),
    [
        ("दिल्ली", "मैं दिल्ली में रहता हूँ।", "मुझे दाल पसंद है।"),
        ("तमिल", "मुझे तमिल गीत पसंद हैं।", "मुझे तमिलों का खाना पसंद है।"),
        ("क्या", "क्\u200dया बात है", "कौन यहाँ है"),
        ("கல்", "எனக்கு கல் பிடிக்கும்", "எனக்கு கலை பிடிக்கும்"),
        ("ปู", "ฉันชอบกินปูมาก", "ฉันรักปู่"),
        ("กาแฟ", "ฉันชอบกาแฟ", "ฉันชอบชา"),
        ("ကော်ဖီ", "ကျွန်တော်ကော်ဖီကြိုက်တယ်", "ကျွန်တော်ဖီကော"),
        ("كِتَاب", "هذا كِتَاب جديد", "ك ت اب"),
        ("cafe\u0301", "un café noir", "un cafe noir"),
        ("葛\U000e0100城", "葛城が好き", "城が好き"),
        ("tea ☕\ufe0f", "green tea", "coffee ☕\ufe0f"),
    ],
)
def test_a_word_has_its_marks(about: str, same: str, other: str) -> None:
    assert About(about).matches(same)
    assert About(about).matches(about)
    assert not About(about).matches(other)


def test_a_mark_alone_is_no_word() -> None:
    with pytest.raises(InvalidRequest):
        About("☕\ufe0f \u0301")


@pytest.mark.parametrize("name", ["type", "source", "role", "occurred_at"])
def test_a_callers_field_counts_whatever_its_name(name: str) -> None:
    item, own = {"id": "1", "title": "Abbey Road"}, {name: "vinyl"}
    for fields in ({"item": item | own}, {"item": item | {"edition": [own]}}, {"item": item, "metadata": own}):
        event = INTERACTION.validate_python({"type": "purchase", **fields})
        assert About("vinyl").matches(read_texts(event)), fields


def test_the_form_of_an_event_does_not_count() -> None:
    said = {
        "type": "dialogue",
        "source": "shop",
        "occurred_at": "2026-01-02T00:00:00Z",
        "messages": [{"role": "user", "content": "I like tea."}],
    }
    assert read_texts(INTERACTION.validate_python(said)) == "I like tea."
