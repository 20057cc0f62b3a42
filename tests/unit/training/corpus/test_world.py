"""The synthetic world: halves that share nothing, choices that fit the person, a teacher that adds up."""

import random

import pytest

from training.corpus import teacher
from training.corpus.ceiling import accuracies, score
from training.corpus.lexicon import DIRECTED_TOPICS, PHRASES, coin_word, phrasings, split_of, topics
from training.corpus.personas import STYLE_DIRECTIONS, STYLES, TRAITS, Persona, opposite, persona
from training.corpus.simulate_choices import answer, any_style, choice, history, sign, style_choice
from training.corpus.teacher import Findings, Tally, infer, read


def test_the_halves_of_the_world_share_no_topic_and_no_phrasing() -> None:
    assert not set(topics("train")) & set(topics("heldout"))
    assert len(topics("heldout")) > 50
    for kind in PHRASES:
        train, heldout = set(phrasings(kind, "train")), set(phrasings(kind, "heldout"))
        assert heldout, kind
        assert not train & heldout
    rng = random.Random(0)
    assert {split_of(coin_word(rng, "heldout")) for _ in range(50)} == {"heldout"}


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


def test_drift_changes_the_second_half_alone() -> None:
    rng = random.Random(3)
    person = Persona({"tone": "friendly"}, ("law",), ("music",))
    made = history(rng, person, "train", 400, drift=True)
    early = {for_ for each in made[:200] for for_, _ in each.evidence}
    late = {for_ for each in made[200:] for for_, _ in each.evidence}
    assert ("formal" in late) != ("music" in late and "law" not in late)
    assert "formal" not in early
    assert "music" not in early


def test_the_teacher_counts_event_by_event_and_adds_up() -> None:
    rng = random.Random(4)
    person = Persona({"tone": "formal"}, ("law",), ("music",))
    lesson = infer([style_choice(rng, person, "train") for _ in range(4)])
    assert "formal" in lesson.findings.clear
    lines = lesson.thinking.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4", "Sum:"]
    for count, line in enumerate(lines[:4], start=1):
        assert f"formal +{count}" in line
    assert "formal +4" in lines[-1]


def test_the_teacher_is_less_sure_of_what_it_saw_once() -> None:
    tally = Tally()
    tally.add_evidence([("law", "music")], 1)
    tally.add_evidence([("law", "chess")], 1)
    assert tally.line() == "law +2, music -1, chess -1"
    assert tally.findings().text() == "The user likes law. The user may dislike music and chess."
    assert tally.add_evidence([], 1) == "nothing"


def test_opposite_traits_are_weighed_against_each_other() -> None:
    tally = Tally()
    for for_, against in (("brief", "detailed"), ("detailed", "brief"), ("detailed", "brief")):
        tally.add_evidence([(for_, against)], 1)
    assert tally.findings().tends == ("detailed",)
    assert tally.line() == "detailed +1"


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
    findings = Findings(clear=("brief",), tends=("formal",), likes=("law",), may_dislike=("music",))
    said = [findings.sample(random.Random(seed), 0.1) for seed in range(50)]
    counts = [sum(len(getattr(each, group)) for group in teacher.GROUPS) for each in said]
    assert min(counts) == 1
    assert sum(counts) < 100
    assert findings.sample(random.Random(0), 1.0) == findings


def test_a_reader_who_counts_foresees_what_the_findings_speak_for() -> None:
    target = choice(random.Random(6), Persona({"tone": "formal"}, ("law",), ("music",)), "train")
    (for_, against), *_ = target.evidence
    known = Findings(clear=(for_,)) if for_ in TRAITS else Findings(likes=(for_,))
    wrong = Findings(clear=(against,)) if against in TRAITS else Findings(likes=(against,))
    assert score(known, target) == 1
    assert score(wrong, target) == 0
    assert score(Findings(), target) == 0.5


def test_the_ceiling_rises_with_the_history_and_falls_with_flips() -> None:
    short, long = (accuracies(random.Random(0), length, 300) for length in (6, 24))
    assert short["full"] < long["full"] > long["flipped"] > short["flipped"]
    assert long["streaming"] > 0.95
