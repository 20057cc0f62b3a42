"""The rows of every training and evaluation format, made from the world.

A function a format; each draws with a pen, so that a row is a pure function of its seed. Prompts come from
services/prompts/build.py, as everywhere. A row of format sft says where it comes from (training/data/origin.py): the
events that each sentence rests on, and the topics, titles and phrasings in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from alignx.schemas.interactions import ComparisonInteraction
from alignx.schemas.items import item_text
from alignx.schemas.requests import ChatMode
from services.prompts.build import LETTERS, Prompt, chat_prompt, selection_prompt, update_prompt
from services.prompts.templates import SELECTION_PREFILL
from training.corpus import teacher
from training.corpus.catalogue_items import make_item
from training.corpus.lexicon import Pen, table
from training.corpus.personas import Persona, other_topic, persona
from training.corpus.simulate_events import (
    Event,
    Habit,
    any_event,
    choice,
    fact_choice,
    history,
    style_choice,
    topic_choice,
)
from training.corpus.styled_answers import answer, any_style
from training.corpus.teacher import Finding
from training.data.origin import Claim, Origin

Row = dict[str, Any]

PAST_TOKENS: Final = 1024
"""The most of a past summary that a prompt holds, as the services' default."""


@dataclass(frozen=True)
class World:
    """What is adjustable about it."""

    noise: float = 0.05
    """The largest share of a person's choices that are the wrong way round; each person has a share up to it."""
    recall: float = 1.0
    """Probability that the teacher mentions a finding."""
    drift: float = 0.0
    """Share of people who change midway."""
    foreign: float = 0.0
    """Share of people who write in another language now and then."""

    def habit(self, pen: Pen) -> Habit:
        return Habit(pen.rng.uniform(0, self.noise), self.drift)

    def person(self, pen: Pen, *, styled: bool = False) -> Persona:
        return persona(pen, foreign=self.foreign, styled=styled)

    def events(self, pen: Pen, person: Persona, length: int) -> list[Event]:
        return history(pen, person, length, self.habit(pen), any_event)

    def choices(self, pen: Pen, person: Persona, length: int) -> list[Event]:
        return history(pen, person, length, self.habit(pen), choice)


# --- supervised fine-tuning ----------------------------------------------------------------------


def _sft(
    pen: Pen, task: str, prompt: Prompt, reply: str, shown: Sequence[Event] = (), claims: Sequence[Claim] = ()
) -> Row:
    origin = Origin(
        task=task,
        events=tuple(event.interaction.type for event in shown),
        claims=tuple(claims),
        topics=tuple(sorted(pen.topics)),
        titles=tuple(sorted(pen.titles)),
        phrasings=tuple(sorted(pen.phrasings)),
    )
    return {
        "prompt": list(prompt.messages),
        "completion": [{"role": "assistant", "content": reply}],
        "origin": origin.model_dump(mode="json"),
    }


def inference(pen: Pen, world: World, length: int, *, past: bool) -> Row:
    """Events, and perhaps a past summary → reasoning and summary."""
    person = world.person(pen)
    before: tuple[Finding, ...] = ()
    if past:
        earlier = world.events(pen, person, pen.rng.randint(1, length))
        before = teacher.sample(pen, teacher.infer(earlier).findings, world.recall)
    shown = world.events(pen, person, length)
    lesson = teacher.infer(shown, before)
    claims = teacher.say(pen, teacher.sample(pen, lesson.findings, world.recall), len(shown))
    known = teacher.text_of(teacher.say(pen, before)) if before else None
    prompt = update_prompt(known, [event.interaction for event in shown], past_tokens=PAST_TOKENS)
    reply = f"<think>\n{lesson.thinking}\n</think>\n\n{teacher.text_of(claims)}"
    return _sft(pen, "update" if past else "infer", prompt, reply, shown, claims)


def summary_of(pen: Pen, world: World, shown: Sequence[Event]) -> str:
    """What the teacher writes after these events."""
    return teacher.text_of(teacher.say(pen, teacher.sample(pen, teacher.infer(shown).findings, world.recall)))


def selection(pen: Pen, world: World, length: int, *, most_items: int = 2) -> Row:
    """A summary, a query and items → the letter of what the user takes. The summary is a perfect reader's, or what the
    teacher writes after `length` events. One in 25 rows has no summary, and any letter is right."""
    person = world.person(pen)
    query, items = _target(pen, person, most_items)
    if pen.rng.random() < 0.5:
        summary = teacher.text_of(teacher.say(pen, teacher.know(person, pen)))
    else:
        summary = summary_of(pen, world, world.events(pen, person, length))
    order = pen.rng.sample(range(len(items)), len(items))
    prompt = selection_prompt(query, [items[index] for index in order], None if pen.rng.random() < 0.04 else summary)
    request = Prompt(prompt.template, prompt.messages[:-1])
    return _sft(pen, "select", request, f'{SELECTION_PREFILL}{LETTERS[order.index(0)]}"}}')


def _target(pen: Pen, person: Persona, most_items: int) -> tuple[str, list[str]]:
    """A query and items, the person's choice first: by a fact, a style or a topic."""
    if pen.rng.random() < 0.3 and (decided := fact_choice(pen, person)):
        return decided[0], list(decided[1:])
    target = choice(pen, person).triple()
    items = [target["chosen"], target["rejected"]]
    if most_items > 2:
        near = {topic.category.name for topic in person.likes}
        for _ in range(pen.rng.randint(1, most_items - 1) - 1):
            items.append(item_text(make_item(pen, other_topic(pen, near), "news")[0]))
    return target["query"], list(dict.fromkeys(items))


def reply(pen: Pen, world: World, length: int, *, mode: ChatMode) -> Row:
    """A question → an answer in the style the user prefers, as far as the mode lets it be known."""
    person = world.person(pen, styled=True)
    about = other_topic(pen, set())
    question = pen.write("query", "ask", **about.fill())
    shown = world.choices(pen, person, length)
    summary = summary_of(pen, world, shown) if mode == "summary" else None
    directions = person.directions() if mode == "pba" else None
    examples = () if mode in ("none", "summary") else _triples(shown)
    events = [ComparisonInteraction(**triple, directions=directions) for triple in examples]
    prompt = chat_prompt([{"role": "user", "content": question}], mode=mode, summary=summary, history=events)
    style = any_style(pen.rng) | (dict(person.style) if mode != "none" else {})
    return _sft(pen, mode, prompt, answer(pen, about, style))


# --- the family's own formats --------------------------------------------------------------------


def alignx(pen: Pen, world: World, length: int) -> Row:
    """A row of AlignX: the target pair, the persona's directions, and the four kinds of evidence."""
    person = world.person(pen, styled=True)
    target = style_choice(pen, person).triple()
    directions = list(person.directions())
    feedback = [
        {"prompt": query, "chosen": chosen, "rejected": rejected, "Preference Direction": directions}
        for query, chosen, rejected in (pair.values() for pair in _triples(world.choices(pen, person, length)))
    ]
    posts = [{"prompt": "", "comment": pen.write("said", "love", **topic.fill())} for topic in person.likes]
    about = [f"They {table('facts')[name]['about'][0]}.".format(n=number) for name, number in person.facts.items()]
    return {
        "prompt": target["query"],
        "chosen": target["chosen"],
        "rejected": target["rejected"],
        "Preference Direction": directions,
        "Demographic Information": " ".join(about),
        "User-Generated Content": posts,
        "Pair-wise Comparative Feedback": feedback,
    }


def _triples(made: Sequence[Event]) -> list[dict[str, str]]:
    return [event.triple() for event in made]


def alignxplore(pen: Pen, world: World, length: int) -> Row:
    """A row of AlignXplore: the history, and the task with its two responses."""
    person = world.person(pen)
    target = choice(pen, person).triple()
    earlier = _triples(world.choices(pen, person, length))
    return {"task": target["query"], "chosen": target["chosen"], "rejected": target["rejected"], "history": earlier}


def streaming(pen: Pen, world: World, length: int, uid: str) -> Row:
    """A row of AlignXplore+ RL: `length` choices for either stage and a target after each."""
    person = world.person(pen)
    made = world.choices(pen, person, 2 * length)
    # The first target is part of the second stage's history: it was seen by then.
    return {"uid": uid, "history": _triples([*made, choice(pen, person)]), "mid_position": length}


def upi(pen: Pen, world: World, length: int, uid: str) -> Row:
    """A row of the family's common form, with what a perfect summary would say beside it."""
    person = world.person(pen)
    is_style = bool(person.style) and pen.rng.random() < 0.5
    target = (style_choice if is_style else topic_choice)(pen, person)
    return {
        "userid": uid,
        "history": _triples(world.choices(pen, person, length)),
        "target": target.triple(),
        "kind": "style" if is_style else "topic",
        "summary": teacher.text_of(teacher.say(pen, teacher.know(person, pen))),
    }
