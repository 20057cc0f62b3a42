"""Which sentences ask to forget something, and which only begin alike: requests to remember, and plain wishes."""

import pytest

from services.profile.stated.withheld import asks_to_forget
from tests.unit.services.profile.histories import told

REMEMBER = (
    "Vergiss nicht, dass ich gegen Nüsse allergisch bin.",
    "Vergessen Sie bitte nie, dass ich gegen Nüsse allergisch bin.",
    "Vergiss meine Nussallergie nicht.",
    "Merk dir, dass ich keine Nüsse esse.",
    "Merk dir dass ich keine Nüsse esse.",
    "Merke dir bitte: Ich esse keine Nüsse.",
    "Speichere bitte, dass ich keinen Alkohol trinke.",
    "Erwähne, dass ich keine Nüsse esse.",
    "Vergeet niet dat ik allergisch ben voor noten.",
    "Vergeet mijn notenallergie alsjeblieft niet.",
    "Vergeet dat niet: ik ben allergisch.",
    "Onthoud dat ik geen noten eet.",
    "Onthoud: ik eet geen noten.",
    "मत भूल जाओ कि मुझे मूंगफली से एलर्जी है।",
    "मेरी एलर्जी न भूल जाओ।",
    "मेरी एलर्जी मत हटा दो।",
    "把我对花生过敏这件事记住，不要忘记。",
)
FORGET_WITH_NEGATION = (
    "Vergiss, dass ich keine Nüsse esse.",
    "Vergiss alles, was ich nicht mag.",
    "Vergiss meine Ex und erwähne sie nie wieder.",
    "Erwähne meine Ex, Marta, nie wieder.",
    "Merke dir nicht, dass ich krank war.",
    "Speichere nichts über mich.",
    "Vergeet dat ik geen noten eet.",
    "Vergeet mijn ex en noem haar nooit meer.",
    "Onthoud niet dat ik ziek was.",
    "Noem mijn ex, Marta, nooit meer.",
    "मेरा मकान भूल जाओ।",
    "मेरा खाना भूल जाओ।",
    "把我和别人的事忘掉。",
)
WISHES = (
    "Don't keep repeating yourself.",
    "Don't keep answers too short.",
    "Never keep it too short.",
    "Don't save money on food, I want quality food.",
    "Never save a seat for me.",
    "Remove the sugar from my recipes.",
    "Delete the last line of my text.",
    "Sprich nicht so förmlich mit mir.",
    "Sprich nicht so von oben herab.",
    "Ne me parle pas si formellement.",
    "Ne me parle pas de façon formelle.",
    "No hables tan formal.",
    "No me hables de usted.",
    "No hables de forma tan formal.",
    "No guardo rencor.",
    "No recuerdo su nombre.",
    "Não fale tão formal.",
    "Não fale de forma tão formal.",
    "Não lembro o nome.",
    "Non parlare in modo formale, preferisco il tu.",
    "Noem me niet meneer.",
    "इतनी औपचारिक बात मत करो।",
    "हिंदी में बात मत करो।",
)
ALIKE = (
    "Don't keep my data.",
    "Don't keep a record of my divorce.",
    "Don't save it.",
    "Do not save that I smoke.",
    "Never store the fact that I smoke.",
    "Don't save our chats.",
    "Remove my address.",
    "Delete the name of my ex.",
    "Remove the allergy from my profile.",
    "Sprich nicht mehr von meiner Ex.",
    "Sprich mich nie auf meine Ex an.",
    "Ne m'en parle pas.",
    "Ne parlez plus du divorce.",
    "No me hables de mi ex.",
    "No hables nunca más sobre el divorcio.",
    "No vuelvas a hablarme de mi ex.",
    "No guardes mis datos.",
    "No recuerdes que fumo.",
    "Não fale da minha ex.",
    "Não me fale mais do divórcio.",
    "Não guarde meus dados.",
    "Não lembre que eu fumo.",
    "Non parlare dei miei genitori.",
    "Non parlarmi più di lui.",
    "Non parlarmene più.",
    "Noem mijn ex niet.",
    "मेरी पूर्व पत्नी की बात मत करना।",
)
"""Requests to forget that begin as `WISHES` do."""


@pytest.mark.parametrize("text", REMEMBER)
def test_a_request_to_remember_is_none_to_forget(text: str) -> None:
    assert not asks_to_forget(text)
    assert text in told("I love tea.", text)


@pytest.mark.parametrize("text", [*FORGET_WITH_NEGATION, *ALIKE])
def test_what_begins_alike_is_a_request_to_forget(text: str) -> None:
    assert asks_to_forget(text)


@pytest.mark.parametrize(
    ("said", "request_"),
    [
        ("Ich bin allergisch gegen Nüsse.", "Merk dir, dass ich keine Nüsse esse."),
        ("Ik ben allergisch voor noten.", "Onthoud dat ik geen noten eet."),
    ],
)
def test_what_is_to_be_remembered_hides_nothing_said_before(said: str, request_: str) -> None:
    assert said in told(said, request_)


@pytest.mark.parametrize("text", WISHES)
def test_a_plain_wish_is_no_request_to_forget(text: str) -> None:
    assert not asks_to_forget(text)
    assert text in told(text)


@pytest.mark.parametrize(
    ("said", "wish"),
    [
        ("I love good food.", "Don't save money on food, I want quality food."),
        ("I love recipes with rice.", "Remove the sugar from my recipes."),
    ],
)
def test_a_plain_wish_hides_nothing_said_before(said: str, wish: str) -> None:
    assert said in told(said, wish)


def test_what_is_to_go_from_the_profile_is_not_quoted() -> None:
    assert "No clear preference" in told("I have a nut allergy.", "Remove the allergy from my profile.")
