"""What a newer statement takes back without a word in common, and what it leaves alone."""

import pytest

from tests.unit.services.profile.histories import told

REVERSED = (
    ("I'm vegetarian.", "I eat meat again."),
    ("I am vegan.", "I've started eating cheese again."),
    ("I'm vegetarian.", "I love steak."),
    ("I don't drink alcohol.", "I drink wine again."),
    ("I love steak.", "I'm vegan now."),
    ("I'm allergic to nuts.", "I eat almonds again."),
    ("Ich bin Vegetarier.", "Ich esse wieder Fleisch."),
    ("Je suis végétarienne.", "Je remange de la viande."),
    ("Soy vegetariana.", "Vuelvo a comer carne."),
    ("我吃素。", "我又开始吃肉了。"),
    ("I'm a night owl.", "I'm a morning person now."),
    ("I'm single.", "I got married in May."),
    ("I am a student.", "I graduated last week."),
    ("Ich wohne zur Miete.", "Wir haben ein Haus gekauft."),
)
UNRELATED = (
    ("I'm vegetarian.", "I love jazz."),
    ("I'm vegetarian.", "I love cheese."),
    ("I'm vegetarian.", "I play football again."),
    ("I'm vegetarian.", "I don't eat meat."),
    ("I'm vegetarian.", "Do you eat meat again?"),
    ("I'm vegetarian.", "My brother is a butcher."),
    ("I don't drink alcohol.", "I drink coffee again."),
    ("I don't like horror films.", "I read a lot again."),
    ("I'm vegan.", "I like vegan leather."),
    ("I'm a night owl.", "I live in Leeds."),
    ("I'm single.", "I like single malt."),
    ("I love single malt whisky.", "I got married in May."),
    ("Amo il whisky single malt.", "Mi sono sposata a maggio."),
    ("I rent movies on Fridays.", "We bought a house."),
    ("I like films with no car chases.", "I bought a car."),
    ("I love to sleep in a tent.", "I get up early."),
    ("I study maps for fun.", "I graduated in May."),
    ("I am a student.", "I teach students."),
    ("We rent a flat.", "I bought a lamp."),
    ("I love steak.", "I love fishing."),
    ("I avoid sugar.", "I run again."),
    ("I'm allergic to nuts.", "I collect stamps again."),
    ("I work at night.", "I like early music."),
    ("Ich bin Vegetarier.", "Ich spiele wieder Klavier."),
    ("Je suis végétarienne.", "Je lis de nouveau des romans."),
    ("我吃素。", "我又开始跑步了。"),
)


@pytest.mark.parametrize(("older", "newer"), REVERSED)
def test_the_older_is_struck(older: str, newer: str) -> None:
    text = told(older, newer)
    assert f'No longer holds: "{older}"' in text
    assert f'"{newer}"' in text


@pytest.mark.parametrize(("older", "newer"), UNRELATED)
def test_what_is_unrelated_stands(older: str, newer: str) -> None:
    assert "No longer holds" not in told(older, newer)
    assert "No longer holds" not in told(newer, older)
