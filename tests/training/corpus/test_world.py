"""The synthetic world: halves that share nothing, choices that fit the person, a teacher that adds up."""

import random

import pytest

from training.corpus import teacher
from training.corpus.choices import answer, any_style, choice, flipped_share, history, sign, style_choice
from training.corpus.lexicon import DIRECTED_TOPICS, PHRASES, coined, phrasings, split_of, topics
from training.corpus.personas import STYLE_DIRECTIONS, STYLES, TRAITS, Persona, opposite, persona
from training.corpus.teacher import Findings, Tally, infer, read


def test_the_halves_of_the_world_share_no_topic_and_no_phrasing() -> None:
    assert not set(topics("train")) & set(topics("heldout"))
    assert len(topics("heldout")) > 50
    for kind in PHRASES:
        train, heldout = set(phrasings(kind, "train")), set(phrasings(kind, "heldout"))
        assert heldout, kind
        assert not train & heldout
    rng = random.Random(0)
    assert {split_of(coined(rng, "heldout")) for _ in range(50)} == {"heldout"}


@pytest.mark.parametrize("seed", range(20))
def test_a_person_chooses_what_they_prefer(seed: int) -> None:
    rng = random.Random(seed)
    person = persona(rng, "train")
    for _ in range(30):
        made = choice(rng, person, "train")
        assert made.evidence
        for for_, against in made.evidence:
            if for_ in TRAITS:
                assert against == opposite(for_)
                minded = {trait for dimension, trait in person.style.items() if for_ in STYLES[dimension]}
                assert minded <= {for_}
            else:
                assert for_ not in person.dislikes
                assert against not in person.likes
                assert for_ in made.chosen
                assert against in made.rejected


def test_every_trait_shows_in_an_answer() -> None:
    rng = random.Random(1)
    for _ in range(50):
        style = any_style(rng)
        text = answer(rng, "train", "tennis", style)
        assert ("\n- " in text) == (style["structure"] == "listed")
        sentences = text.count(".")
        assert (sentences >= 3) == (style["length"] == "detailed")
        assert "tennis" in text


def test_directions_follow_the_person() -> None:
    person = Persona({"length": "brief", "level": "plain"}, ("law",), ("music", "brivel"))
    directions = person.directions()
    assert len(directions) == 90
    assert directions[STYLE_DIRECTIONS["brief"][0]] == 1
    assert directions[STYLE_DIRECTIONS["plain"][0]] == 0
    assert directions[DIRECTED_TOPICS["law"]] == 1
    assert directions[DIRECTED_TOPICS["music"]] == 0
    assert sum(value != 0.5 for value in directions) == 4


def test_the_stated_share_of_choices_is_turned_exactly() -> None:
    rng = random.Random(2)
    made = history(rng, persona(rng, "train"), "train", 10)
    turned = flipped_share(rng, made, 0.3)
    assert sum(before.chosen != after.chosen for before, after in zip(made, turned, strict=True)) == 3


def test_drift_changes_the_second_half_alone() -> None:
    rng = random.Random(3)
    person = Persona({"tone": "friendly"}, ("law",), ("music",))
    made = history(rng, person, "train", 400, drift=True)
    early = {for_ for each in made[:200] for for_, _ in each.evidence}
    late = {for_ for each in made[200:] for for_, _ in each.evidence}
    assert ("formal" in late) != ("music" in late and "law" not in late)
    assert "formal" not in early
    assert "music" not in early


def test_the_teacher_adds_up_and_says_the_surest_first() -> None:
    rng = random.Random(4)
    person = Persona({"tone": "formal"}, ("law",), ("music",))
    lesson = infer([style_choice(rng, person, "train") for _ in range(4)])
    assert "formal" in lesson.findings.clear
    assert lesson.thinking.splitlines()[-1].startswith("Sum: ")
    assert "formal 4:0" in lesson.thinking


def test_opposite_traits_are_weighed_against_each_other() -> None:
    tally = Tally()
    for for_, against in (("brief", "detailed"), ("detailed", "brief"), ("detailed", "brief")):
        tally.add_evidence(for_, against, 1)
    assert tally.findings().tends == ("detailed",)
    assert tally.line() == "detailed 2:1"


def test_the_past_summary_counts_and_can_be_outvoted() -> None:
    past = Findings(clear=("brief",), likes=("law",))
    rng = random.Random(5)
    person = Persona({"length": "detailed"}, ("music",), ("law",))
    few = infer([style_choice(rng, person, "train") for _ in range(2)], past)
    many = infer([style_choice(rng, person, "train") for _ in range(5)], past)
    assert "brief" in few.findings.tends
    assert "detailed" in many.findings.tends
    assert few.findings.likes == ("law",)


@pytest.mark.parametrize("seed", range(10))
def test_a_summary_can_be_read_back(seed: int) -> None:
    rng = random.Random(seed)
    person = persona(rng, "train")
    events = [sign(rng, person, "train") if rng.random() < 0.3 else choice(rng, person, "train") for _ in range(8)]
    findings = infer(events).findings
    assert read(findings.text()) == findings
    assert read(teacher.NOTHING) == Findings()


def test_a_forgetful_teacher_still_says_something() -> None:
    findings = Findings(("brief",), ("formal",), ("law",), ("music",))
    said = [findings.kept(random.Random(seed), 0.1) for seed in range(50)]
    counts = [len(each.clear + each.tends + each.likes + each.dislikes) for each in said]
    assert min(counts) == 1
    assert sum(counts) < 100
    assert findings.kept(random.Random(0), 1.0) == findings
