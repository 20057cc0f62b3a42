"""What single sentences claim, and that the rest claims nothing."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.statements.attitudes import Clause
from services.statements.clauses import MAX_QUOTE, read_clauses
from services.statements.cue_lexicon import LANGUAGES, load_lexicon


def claims(text: str, *, statement: bool = True) -> dict[str, int]:
    """The sign of each target."""
    read = read_clauses(text, statement=statement)
    return {clause.target: 1 if clause.polarity > 0 else -1 for clause in read if clause.polarity}


def style(text: str) -> dict[str, float]:
    return {name: value for clause in read_clauses(text) for name, value in clause.style.items()}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("I'm vegan: no leather, no down, no wool", {"vegan": 1, "leather": -1, "down": -1, "wool": -1}),
        ("I can't get enough of horror films", {"horror films": 1}),
        ("I love horror films.", {"horror films": 1}),
        ("I hate car chases", {"car chases": -1}),
        ("anything but romance", {"romance": -1}),
        ("I love jazz but hate opera", {"jazz": 1, "opera": -1}),
        ("I prefer tea to coffee", {"tea": 1, "coffee": -1}),
        ("I'd rather read than watch TV", {"read": 1, "watch TV": -1}),
        ("mountains over beaches", {"mountains": 1, "beaches": -1}),
        ("I love all fruit except bananas", {"fruit": 1, "bananas": -1}),
        ("I love these: jazz, blues and funk", {"jazz": 1, "blues": 1, "funk": 1}),
        ("Horror, gore and war movies bore me", {"Horror": -1, "gore": -1, "war movies": -1}),
        ("My favourite author is Le Guin", {"Le Guin": 1}),
        ("I want a sofa without leather", {"sofa": 1, "leather": -1}),
        ("Horror films? Not my cup of tea.", {"Horror films": -1}),
        ("I like neither cats nor dogs.", {"cats": -1, "dogs": -1}),
        ("I want neither meat nor fish", {"meat": -1, "fish": -1}),
        ("I like cats but neither dogs nor birds", {"cats": 1, "dogs": -1, "birds": -1}),
        ("I don't just like jazz, I adore it.", {"jazz": 1}),
        ("I only like jazz", {"jazz": 1}),
        ("I just don't like jazz", {"jazz": -1}),
        ("I want to stop eating meat", {"meat": -1}),
        ("Je n'aime que le jazz.", {"jazz": 1}),
        ("No me gusta el jazz.", {"jazz": -1}),
        ("Mi piace solo il jazz.", {"jazz": 1}),
        ("我只喜欢爵士乐。", {"爵士乐": 1}),
        ("I tried golf once and hated it", {"golf": -1}),
        ("I've gone off sushi", {"sushi": -1}),
        ("I no longer eat meat", {"meat": -1}),
        ("My sister adores horror, but I prefer comedies", {"comedies": 1}),
        ("Me gusta el jazz pero no me gusta el rock.", {"jazz": 1, "rock": -1}),
        ("Ich esse kein Fleisch und liebe Pasta.", {"Fleisch": -1, "Pasta": 1}),
        ("Horrorfilme kann ich nicht ausstehen", {"Horrorfilme": -1}),
        ("Я люблю фантастику и не люблю ужасы.", {"фантастику": 1, "ужасы": -1}),
        ("SF小説が好きで、ホラー小説は嫌いです。", {"SF小説": 1, "ホラー小説": -1}),
        ("我喜欢科幻小说，不喜欢恐怖小说。", {"科幻小说": 1, "恐怖小说": -1}),
        ("我喜歡科幻小說，不喜歡恐怖小說。", {"科幻小說": 1, "恐怖小說": -1}),
        ("أحب الخيال العلمي ولا أحب أفلام الرعب", {"الخيال العلمي": 1, "أفلام الرعب": -1}),
        ("मुझे जैज़ पसंद है लेकिन रॉक पसंद नहीं है", {"जैज़": 1, "रॉक": -1}),
        ("J'adore le jazz mais je déteste le rock", {"jazz": 1, "rock": -1}),
        ("Adoro jazz, mas odeio rock", {"jazz": 1, "rock": -1}),
        ("Adoro il jazz ma odio il rock", {"jazz": 1, "rock": -1}),
        ("Ik hou van jazz maar haat rock", {"jazz": 1, "rock": -1}),
    ],
)
def test_a_sentence_claims(text: str, right: dict[str, int]) -> None:
    assert claims(text) == right
    assert claims(unicodedata.normalize("NFD", text)) == right


@pytest.mark.parametrize(
    "text",
    [
        "you need not explain what an API is",
        "Do people really like jazz?",
        "If I liked jazz, I'd go to the festival",
        'He said "I love jazz"',
        "he said 'I love jazz' again",
        "My sister adores horror",
        "My dog loves peanut butter",
        "Oh great, another romcom, just what I needed.",
        "I don't mind spicy food",
        "I don't want to stop eating meat.",
        "I do not want to stop eating meat.",
        "I'll never stop drinking coffee.",
        "I don't only like jazz.",
        "I don't just read novels.",
        "Everyone but me loves football.",
        "Everybody except me hates jazz.",
        "Je n'aime pas que le jazz.",
        "No me gusta solo el jazz.",
        "No solo me gusta el jazz.",
        "Non mi piace solo il jazz.",
        "我不只喜欢爵士乐。",
        "Alle außer mir lieben Fußball.",
        "Tout le monde sauf moi aime le foot.",
        "I never disliked opera",
        "I used to love heavy metal",
        "I live in Bonn and work as a nurse",
        "We have two kids and no car",
        "Jag älskar jazz men hatar opera",
        "Uwielbiam jazz, ale nienawidzę opery",
        "Seviyorum caz ama rock sevmiyorum",
        "Я люблю джаз, але не люблю оперу, і це моє",
        "मला जॅझ आवडते पण रॉक आवडत नाही आहे",
    ],
)
def test_what_is_no_taste_of_the_persons_now_claims_nothing(text: str) -> None:
    read = read_clauses(text)
    assert not any(clause.polarity for clause in read)
    assert " ".join(clause.quote for clause in read).startswith(text[:4])


def test_past_tastes_say_so() -> None:
    said = "I used to love heavy metal, now it's folk"
    assert read_clauses(said) == [
        Clause(said, "heavy metal", 0.0, "like", past=True),
        Clause(said, "folk", 0.8, "like"),
    ]


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        ("Numbered steps, no apologies, no small talk", {"lists": 1, "warmth": -1}),
        ("Keep answers short, please.", {"length": -1}),
        ("I hate when answers are too long", {"length": -1}),
        ("Fass dich kurz, keine Emojis", {"length": -1, "emoji": -1}),
        ("Respuestas cortas y sin emojis, por favor", {"length": -1, "emoji": -1}),
    ],
)
def test_wishes_about_writing_are_style_and_no_target(text: str, wishes: dict[str, float]) -> None:
    assert style(text) == wishes
    assert claims(text) == {}


def test_the_kind_of_answer_is_not_kindness() -> None:
    assert style("the kind of answer I want is short") == {"length": -1}


def test_posts_tell_only_what_persons_say_of_themselves() -> None:
    assert claims("I usually prefer trains. What time is it?", statement=False) == {"trains": 1}
    assert read_clauses("The committee wants shorter meetings. She hates opera.", statement=False) == []
    assert [clause.kind for clause in read_clauses("I moved to Leeds in March.", statement=False)] == ["fact"]


PIECES = [
    "I",
    "not",
    "love",
    ",",
    ".",
    "jazz",
    "but",
    "no",
    "if",
    "?",
    "'",
    '"',
    "我",
    "不",
    "喜欢",
    "ich",
    "mag",
    "als",
    "kein",
]


@settings(max_examples=200, deadline=None)
@given(st.text() | st.lists(st.sampled_from(PIECES)).map(" ".join))
def test_any_text_can_be_read(text: str) -> None:
    for clause in read_clauses(text):
        assert -1 <= clause.polarity <= 1
        assert len(clause.quote) <= MAX_QUOTE
        assert unicodedata.is_normalized("NFC", clause.quote + clause.target)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_phrase_says_both(language: str) -> None:
    signs: dict[tuple[str, ...], set[bool]] = {}
    for cue in load_lexicon(language).cues:
        if cue.role == "attitude" and cue.polarity and cue.where != "end":
            signs.setdefault(cue.keys, set()).add(cue.polarity > 0)
    assert [keys for keys, found in signs.items() if len(found) > 1] == []
