"""What a user pinned, and what is denied, in texts of an engine."""

import pytest

from alignx.schemas.interactions import StatementInteraction
from services.errors import UnusableReply
from services.preference.updates.user_rules import UserRules, normalise_sentence, read_styles
from services.profile.fold import apply_own_text, fold
from services.profile.stated.sensitive import DEFAULT, Policy
from services.profile.statistics import EMPTY
from tests.unit.services.preference.updates.test_support import load_rows

OWN = "I like horror films but no seafood. Short answers please."


def pinning(own: str) -> UserRules:
    return UserRules(apply_own_text(EMPTY, own))


def stating(*texts: str, policy: Policy = DEFAULT) -> UserRules:
    profile = EMPTY
    for text in texts:
        profile, _ = fold(profile, StatementInteraction(text=text))
    return UserRules(profile, policy)


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (OWN, "The user dislikes horror films."),
        (OWN, "The user likes jazz. The user likes prawns."),
        (OWN, "The user prefers long, detailed answers."),
        ("Kurze Antworten bitte. Ich mag keine Horrorfilme.", "Der Nutzer mag Horrorfilme."),
        ("Kurze Antworten bitte.", "Der Nutzer bevorzugt lange, ausführliche Antworten."),
        ("Je préfère les réponses courtes.", "L'utilisateur préfère des réponses longues et détaillées."),
        ("我不喜欢恐怖片。回答要简短。", "用户喜欢恐怖片。"),
        ("我不喜欢恐怖片。回答要简短。", "用户喜欢详细的长篇回答。"),
        ("Clearly drawn to horror.", "The user avoids horror."),
    ],
)
def test_what_turns_the_pinned_text_round_is_refused(own: str, text: str) -> None:
    with pytest.raises(UnusableReply) as refusal:
        pinning(own).check_pin(text)
    assert refusal.value.reason == "pin"
    UserRules(EMPTY).check_pin(text)  # without a pin it passes


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (OWN, "The user enjoys horror films and prefers short, direct answers."),
        (OWN, "For code, the user prefers long answers."),
        (OWN, "The user dislikes French cinema and likes jazz."),
        ("I don't like horror films.", "The user likes films."),
        ("Kurze Antworten bitte.", "Der Nutzer mag Jazz."),
    ],
)
def test_what_says_more_than_the_pinned_text_passes(own: str, text: str) -> None:
    pinning(own).check_pin(text)


def test_a_pinned_summary_never_contradicts_itself() -> None:
    for text, _ in load_rows("support", "keep"):
        pinning(text).check_pin(f"{text} The user reads a lot.")
    own = "The user is drawn to fish. The user shows little interest in sweets."
    pinning(own).check_pin("The user shows little interest in sweets and is drawn to fish.")


def test_the_pinned_text_stands_first_word_by_word_and_once() -> None:
    rules = pinning("I like tea.\nNo <horror>!")
    text = rules.pin("The user enjoys jazz. I like tea. They read.")
    assert text == "I like tea.\nNo <horror>!\nThe user enjoys jazz. They read."
    assert rules.pin(text) == text
    assert rules.pin("i like TEA") == rules.own
    assert UserRules(EMPTY).pin("The user enjoys jazz.") == "The user enjoys jazz."
    trailing = pinning("I like tea. \n\n")
    assert trailing.pin("I like tea.") == trailing.own == "I like tea."


def test_a_sentence_on_a_denied_subject_is_dropped() -> None:
    text = "The user enjoys jazz. They are probably Catholic. They like short answers."
    assert stating().drop_denied(text) == "The user enjoys jazz. They like short answers."
    assert stating(policy=Policy(sensitive=False)).drop_denied(text) == text
    own_topic = stating(policy=Policy(sensitive=False, denied=frozenset({"jazz"})))
    assert own_topic.drop_denied(text) == "They are probably Catholic. They like short answers."


def test_nothing_left_is_no_summary() -> None:
    with pytest.raises(UnusableReply) as refusal:
        stating().drop_denied("The user is a Muslim. The user follows politics.")
    assert refusal.value.reason == "sensitive"


def test_what_the_user_said_of_a_subject_stays() -> None:
    text = "The user is Catholic. The user enjoys jazz."
    assert stating("I am a Catholic.").drop_denied(text) == text
    assert stating("I am a Muslim.").drop_denied(text) == "The user enjoys jazz."
    assert stating("Catholic, 34").drop_denied(text) == text
    assert stating("Are Catholics allowed to eat meat?").drop_denied(text) == "The user enjoys jazz."
    assert pinning("Catholic, and proud.").drop_denied(text) == text
    assert stating("I love poker.", policy=Policy(False, frozenset({"poker"}))).drop_denied("They play poker.")


@pytest.mark.parametrize(
    ("said", "is_dropped"),
    [
        (("I am gay.",), False),
        (("I am gay.", "Forget that I like jazz."), False),
        (("Forget everything I told you.", "I am gay."), False),
        (("Forget that I am gay.",), True),
        (("Please never mention that I am gay.",), True),
        (("I am gay.", "Please forget that I'm gay."), True),
        (("I'm gay.", "Forget everything I told you."), True),
        (("Vergiss, dass ich schwul bin.",), True),
        (("My husband is gay.",), True),
    ],
)
def test_a_request_to_forget_a_subject_and_what_is_told_of_others_unlock_nothing(
    said: tuple[str, ...], is_dropped: bool
) -> None:
    text = "The user likes opera a lot. The user is gay."
    kept = stating("I love opera.", *said).drop_denied(text)
    assert kept == ("The user likes opera a lot." if is_dropped else text)


def test_styles_of_a_sentence() -> None:
    assert read_styles("The user prefers short answers.") == {"length": -1.0}
    assert read_styles("Der Nutzer bevorzugt lange Antworten.") == {"length": 1.0}
    assert read_styles("On weekdays the user prefers short answers.") == {}
    assert read_styles("The user likes jazz.") == {}


@pytest.mark.parametrize(
    ("sentence", "other"),
    [
        ("मुझे खीर पसंद है।", "मुझे खीरा पसंद है।"),
        ("எனக்கு கல் பிடிக்கும்", "எனக்கு கலை பிடிக்கும்"),
        ("ฉันชอบปู", "ฉันชอบปู่"),
    ],
)
def test_marks_tell_sentences_apart(sentence: str, other: str) -> None:
    assert normalise_sentence(sentence) == normalise_sentence(f" {sentence}! ")
    assert normalise_sentence(sentence) != normalise_sentence(other)


def test_a_sentence_without_marks_is_its_letters_and_digits() -> None:
    """Ids of stored claims are hashes of it."""
    assert normalise_sentence("I like snake_case, 2 te\xadas & CAFE\u0301 ☕\ufe0f!") == "i like snake case 2 teas café"
    assert normalise_sentence("私は日本茶が好き。") == "私は日本茶が好き"
