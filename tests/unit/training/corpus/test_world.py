"""The made-up world: halves that share nothing, events that fit the person, sentences that rest on events."""

import random
from collections import Counter

import pytest

from alignx.schemas.interactions import INTERACTION, INTERACTION_TYPES
from alignx.schemas.items import Item, item_text
from services.errors import EngineError
from services.prompts.build import plain_history
from services.prompts.replies.parse_summary import parse_summary
from training.corpus import teacher
from training.corpus.catalogue_items import make_item, sources
from training.corpus.lexicon import Pen, Split, half, phrasings, spell_out, split_of, table, topics, topics_by_category
from training.corpus.personas import POLES, STYLES, Persona, opposite, persona, pole_words
from training.corpus.simulate_events import Event, Habit, Sign, any_event, choice, history, style_choice, topic_choice
from training.corpus.styled_answers import answer, any_style
from training.corpus.teacher import Finding, infer, say

OWLS, TAXES, JAZZ = (topics()[name] for name in ("owls", "taxes", "jazz"))


def pen(seed: int = 0, split: Split = "train") -> Pen:
    return Pen(random.Random(seed), split)


def reader(**fields: object) -> Persona:
    known = {"style": {}, "likes": (OWLS,), "dislikes": (TAXES,)}
    return Persona(**known | fields)  # type: ignore[arg-type]


def names(split: Split) -> set[str]:
    return {topic.name for group in topics_by_category(split).values() for topic in group}


# --- words ---------------------------------------------------------------------------------------


def test_the_world_is_wide_and_its_halves_share_no_topic() -> None:
    assert len(topics()) >= 600
    assert len(topics_by_category("train")) >= 16
    train, held = names("train"), names("heldout")
    assert not train & held
    assert train | held == set(topics())
    assert len(held) > 100
    assert all(topics_by_category("heldout").values())


@pytest.mark.parametrize("group", ["query", "said", "summary"])
def test_the_halves_share_no_phrasing(group: str) -> None:
    for kind in table("phrases")[group]:
        train, held = (set(phrasings("phrases", group, kind, split)) for split in ("train", "heldout"))
        assert train, kind
        assert held, kind
        assert not train & held


def test_patterns_are_spelt_out_in_all_ways() -> None:
    assert spell_out("[a|b] c[.|!]") == ["a c.", "a c!", "b c.", "b c!"]
    assert half(["x", "y"], "train") != half(["x", "y"], "heldout")


def test_tables_name_what_there_is() -> None:
    for language in table("languages").values():
        assert language["topics"].keys() <= topics().keys()
        assert language["facts"].keys() <= table("facts").keys()
        assert language["wishes"].keys() <= POLES.keys()
    assert table("openings").keys() <= topics().keys()
    for pole in POLES:
        assert len(pole_words(pole)["that"]) > 1
        assert len({text for pattern in pole_words(pole)["wish"] for text in spell_out(pattern)}) > 4
    for fact in table("facts").values():
        assert len(fact["about"]) > 1


# --- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_text_of_every_item_names_its_topic(split: Split) -> None:
    for seed, topic in enumerate(topic for group in topics_by_category(split).values() for topic in group):
        for source in set(sources(topic)):
            drawn = pen(seed, split)
            item, title = make_item(drawn, topic, source)
            assert title in item_text(item)
            name = topic.name.removesuffix(" films").lower()
            assert name in item_text(item).lower()
            assert title in drawn.titles
            if topic.category.form == "film":
                assert split_of(title.rpartition(" (")[0]) == split


@pytest.mark.parametrize("pole", sorted(POLES))
def test_every_pole_shows_in_an_answer(pole: str) -> None:
    for seed in range(20):
        style = {**any_style(random.Random(seed)), POLES[pole]: pole}
        other = style | {POLES[pole]: opposite(pole)}
        texts = [answer(pen(seed), JAZZ, each) for each in (style, other)]
        assert texts[0] != texts[1]
    assert ("\n- " in answer(pen(), JAZZ, style | {"structure": "lists"})) is True
    assert "🎵" in answer(pen(), JAZZ, style | {"emoji": "emoji"})


def test_an_answer_keeps_the_capitals_of_names() -> None:
    style = {**any_style(random.Random(0)), "hedging": "careful", "directness": "direct"}
    for seed in range(50):
        text = answer(pen(seed), topics()["Iceland"], style)
        assert "iceland" not in text
        assert ": i " not in text


# --- people and events ---------------------------------------------------------------------------


def shown_texts(event: Event) -> str:
    return plain_history([event.interaction])


@pytest.mark.parametrize("seed", range(30))
def test_people_choose_what_they_prefer(seed: int) -> None:
    drawn = pen(seed)
    person = persona(drawn)
    likes, dislikes = ({topic.name for topic in group} for group in (person.likes, person.dislikes))
    for event in [any_event(drawn, person) for _ in range(30)]:
        assert event.signs
        for sign in event.signs:
            if sign.kind == "style":
                assert person.style.get(POLES[sign.name], sign.name) == sign.name
            elif sign.kind == "topic":
                assert sign.name not in (dislikes if sign.weight > 0 else likes)
                assert sign.text in shown_texts(event)
            else:
                assert sign.name in person.facts


def test_all_eight_kinds_of_events_are_valid() -> None:
    drawn = pen()
    found = Counter[str]()
    for seed in range(60):
        for event in history(drawn, persona(pen(seed), foreign=0.5), 20, Habit(noise=0.4, drift=0.3), any_event):
            INTERACTION.validate_python(event.interaction.model_dump(mode="json"))
            found[event.interaction.type] += 1
    assert found.keys() == INTERACTION_TYPES
    assert min(found.values()) > 20


def test_items_are_those_of_catalogues() -> None:
    fields: set[str] = set()
    for seed in range(400):
        drawn = pen(seed)
        for offered in _items(any_event(drawn, persona(drawn))):
            fields |= set() if isinstance(offered, str) else offered.model_dump(exclude_none=True).keys()
    assert {"title", "category", "price", "brand", "author", "year", "genres"} <= fields


def _items(event: Event) -> list[Item]:
    return [item for pair in event.interaction.pairs() for item in (pair.chosen, pair.rejected)]


def test_noise_turns_choices_round() -> None:
    person = reader(style={"length": "short"})
    made = history(pen(1), person, 400, Habit(noise=0.4), choice)
    wrong = {("style", "detailed", True), ("topic", "taxes", True), ("topic", "owls", False)}
    against = sum(any((sign.kind, sign.name, sign.weight > 0) in wrong for sign in event.signs) for event in made)
    assert 0.3 < against / 400 < 0.5


def test_drift_changes_the_second_half_alone() -> None:
    person = reader(style={"length": "short"}, dislikes=())
    made = history(pen(3), person, 400, Habit(noise=0, drift=1), choice)
    early, late = ({s.name for e in part for s in e.signs if s.weight > 0} for part in (made[:200], made[200:]))
    assert "detailed" in late
    assert "detailed" not in early


def test_directions_follow_the_person() -> None:
    directions = reader(style={"length": "short", "expertise": "plain"}, likes=(JAZZ,)).directions()
    assert len(directions) == 90
    assert (directions[16], directions[46], directions[74], directions[69]) == (1, 0, 1, 0)


# --- the teacher ---------------------------------------------------------------------------------


def read(event_signs: list[tuple[Sign, ...]], past: tuple[Finding, ...] = ()) -> dict[str, Finding]:
    event = style_choice(pen(), reader(style={"length": "short"}))
    made = [Event(event.interaction, signs, "saw") for signs in event_signs]
    return {finding.kind: finding for finding in infer(made, past).findings}


def style(pole: str, weight: int = 1) -> tuple[Sign, ...]:
    return (Sign("style", pole, weight),)


def likes(name: str, weight: int = 1, title: str = "") -> tuple[Sign, ...]:
    return (Sign("topic", name, weight, title),)


def test_the_teacher_is_surer_of_what_it_saw_often() -> None:
    found = read([style("short")] * 4 + [style("lists")] * 2 + [style("warm")])
    assert (found["clear"].names, found["clear"].events) == (("short",), (1, 2, 3, 4))
    assert (found["tends"].names, found["tends"].events) == (("lists",), (5, 6))
    assert found["may"].names == ("warm",)


def test_opposite_poles_are_weighed_and_a_draw_is_said_to_be_one() -> None:
    found = read([style("short"), style("detailed")] * 3)
    assert found["mixed"].events == (1, 2, 3, 4, 5, 6)
    assert "clear" not in found


def test_interests_are_told_by_category_with_titles() -> None:
    found = read(
        [likes("owls", 3, "Owls in town"), likes("bats", 2), likes("owls", 2, "Night of owls"), likes("taxes", 1)]
    )
    assert found["interest-clear"].names == ("owls", "bats")
    text = say(pen(), [found["interest-clear"]])[0].text
    assert "animals and wildlife" in text
    assert '"Night of owls" and "Owls in town"' in text
    assert found["interest-may"].names == ("taxes",)


def test_a_change_is_told_and_ends_what_was_before() -> None:
    found = read(
        [
            likes("owls", 3),
            style("short", 3),
            style("short"),
            likes("owls", -2),
            style("detailed", 3),
            likes("owls", -2),
        ]
    )
    assert found["changed-from"].names == ("owls",)
    assert found["changed-style"].names == ("detailed", "short")
    assert not found.keys() & {"clear", "tends", "interest-may"}


def test_what_is_refused_in_words_differs_from_what_was_passed_over() -> None:
    found = read([likes("owls", -3), likes("taxes", -1), likes("taxes", -1), likes("jazz", -2)])
    assert [found[kind].names for kind in ("refused", "passed", "passed-may")] == [("owls",), ("taxes",), ("jazz",)]


def test_facts_are_quoted_and_the_latest_words_count() -> None:
    signs = [
        (Sign("fact", "budget", 3, words),)
        for words in ("I can spend at most 60 euros.", "My budget is 60 euros a month.")
    ]
    found = read(signs)
    assert say(pen(), [found["stated"]])[0].text.endswith('"My budget is 60 euros a month."')
    sampled = [teacher.sample(pen(seed), [found["stated"]], 1.0)[0] for seed in range(20)]
    assert {finding.kind for finding in sampled} == {"stated", "told"}
    assert all("60 euros" in say(pen(), [finding])[0].text for finding in sampled)


def test_the_past_counts_and_can_be_outvoted() -> None:
    past = (Finding("tends", ("short",)), Finding("interest-tends", ("owls",), ("Owls in town",)))
    kept = read([style("warm")], past)
    assert kept["tends"].events == (0,)
    assert kept["interest-may"].texts == ("Owls in town",)
    turned = read([style("detailed")] * 4, past)
    assert turned["changed-style"].names == ("detailed", "short")


def test_where_nothing_shows_one_sentence_rests_on_all_events() -> None:
    [claim] = say(pen(), [], 3)
    assert claim.events == (1, 2, 3)


@pytest.mark.parametrize("seed", range(40))
def test_every_sentence_of_a_summary_rests_on_events_and_passes_as_a_summary(seed: int) -> None:
    drawn = pen(seed, "heldout" if seed % 4 == 0 else "train")
    person = persona(drawn, foreign=0.3)
    made = history(drawn, person, drawn.rng.randint(3, 24), Habit(noise=0.4, drift=0.5), any_event)
    lesson = infer(made)
    claims = say(drawn, lesson.findings, len(made))
    assert len(claims) <= teacher.MAX_SENTENCES
    for claim in claims:
        assert claim.events
        assert set(claim.events) <= set(range(1, len(made) + 1))
        shown = plain_history([made[number - 1].interaction for number in claim.events])
        assert all(quote in shown for quote in claim.text.split('"')[1::2]), claim
    text = teacher.text_of(claims)
    assert "{" not in text
    try:
        assert parse_summary(f"<think>\n{lesson.thinking}\n</think>\n\n{text}", max_chars=4000).text == text
    except EngineError as error:
        pytest.fail(f"{error}: {text}")


def test_what_was_left_is_met_in_the_same_place() -> None:
    for seed in range(60):
        person = reader(likes=(OWLS,) if seed % 2 else (topics()["horror films"],), dislikes=())
        event = topic_choice(pen(seed), person)
        left = topics()[event.signs[1].name]
        assert event.interaction.source in sources(left)
        assert (left.category.form == "film") == (event.interaction.source == "films")
        assert left not in person.likes


def test_a_persona_has_poles_of_ten_dimensions() -> None:
    assert len(STYLES) == 10
    seen = {name for seed in range(200) for name in persona(pen(seed)).style}
    assert seen == STYLES.keys()
    for seed in range(50):
        directions = persona(pen(seed), styled=True).directions()
        assert any(directions[index] != 0.5 for index in (14, 15, 16, 23, 39, 46))
