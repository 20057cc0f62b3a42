"""The rows of every training and evaluation format, made from the synthetic world.

A function a format; each takes a random generator, so that a row is a pure function of its seed.
Prompts come from services/prompts/build.py, as everywhere.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from alignx.schemas.interactions import ComparisonInteraction
from alignx.schemas.requests import ChatMode
from services.prompts.build import LETTERS, Prompt, chat_prompt, selection_prompt, update_prompt
from services.prompts.templates import SELECTION_PREFILL
from training.corpus import teacher
from training.corpus.lexicon import Split, phrase
from training.corpus.personas import Persona, persona, topic
from training.corpus.simulate_choices import (
    ANSWERING,
    Choice,
    Sign,
    answer,
    any_style,
    choice,
    history,
    sign,
    style_choice,
    topic_choice,
)
from training.corpus.teacher import Findings

Row = dict[str, Any]

PAST_TOKENS: Final = 1024
"""The most of a past summary that a prompt holds, as the services' default."""


@dataclass(frozen=True)
class World:
    """What is adjustable about it."""

    split: Split
    noise: float = 0.05
    """Share of choices that are the wrong way round."""
    recall: float = 1.0
    """Probability that the teacher mentions a finding."""
    signs: float = 0.0
    """Share of events that are no comparisons."""
    drift: float = 0.0
    """Share of people who change midway."""
    usual: float = 0.5
    """Probability that a trait is the usual one of its dimension, and above .5 also that a choice
    between items shows a liked topic beside an indifferent one. In a lopsided world a model finds out
    sooner what to look at; what it depends on comes when the world is even again."""

    def events(self, rng: random.Random, person: Persona, length: int) -> list[Choice | Sign]:
        drift = rng.random() < self.drift
        choices = history(rng, person, self.split, length, noise=self.noise, drift=drift)
        return [sign(rng, person, self.split) if rng.random() < self.signs else choice for choice in choices]


# --- supervised fine-tuning ----------------------------------------------------------------------


def _sft(prompt: Prompt, reply: str) -> Row:
    return {"prompt": list(prompt.messages), "completion": [{"role": "assistant", "content": reply}]}


def inference(rng: random.Random, world: World, length: int, *, past: bool) -> Row:
    """Events, and perhaps a past summary → reasoning and summary."""
    person = persona(rng, world.split)
    before = None
    if past:
        earlier = teacher.infer(world.events(rng, person, rng.randint(1, length))).findings
        before = earlier.sample(rng, world.recall)
    events = world.events(rng, person, length)
    lesson = teacher.infer(events, before)
    sampled = teacher.Lesson(lesson.thinking, lesson.findings.sample(rng, world.recall))
    interactions = [event.interaction() for event in events]
    prompt = update_prompt(before.text() if before else None, interactions, past_tokens=PAST_TOKENS)
    return _sft(prompt, sampled.reply())


def known(rng: random.Random, person: Persona) -> Findings:
    """What a perfect summary of the person would say, sure of some traits and less of others."""
    traits = rng.sample(sorted(person.style.values()), len(person.style))
    sure = rng.randint(0, len(traits))
    liked, disliked = rng.randint(0, len(person.likes)), rng.randint(0, len(person.dislikes))
    return Findings(
        tuple(traits[:sure]),
        tuple(traits[sure:]),
        person.likes[:liked],
        person.likes[liked:],
        person.dislikes[:disliked],
        person.dislikes[disliked:],
    )


def _bearing(rng: random.Random, findings: Findings, target: Choice, extra: int) -> Findings:
    """Only what bears on the target, and at most `extra` other findings."""
    names = {name for pair in target.evidence for name in pair}
    others = [name for group in teacher.GROUPS for name in getattr(findings, group) if name not in names]
    keep = names | set(rng.sample(others, min(extra, len(others))))
    return Findings(*(tuple(n for n in getattr(findings, group) if n in keep) for group in teacher.GROUPS))


def selection(rng: random.Random, world: World, *, length: int, extra: int | None, most_items: int) -> Row:
    """A summary, a query and items → the letter of what the user takes.

    With `extra` the summary is a perfect one cut down to what bears on the target and so many other
    findings; else it is what the teacher would have written after `length` events. One in 25 rows
    has no summary, and any letter is right.
    """
    person = persona(rng, world.split, usual=world.usual)
    target = choice(rng, person, world.split, indifferent=max(0.0, 2 * world.usual - 1))
    if extra is not None:
        summary = _bearing(rng, known(rng, person), target, extra)
    else:
        summary = teacher.infer(world.events(rng, person, length)).findings.sample(rng, max(world.recall, 0.85))
    items = [target.chosen, target.rejected]
    if most_items > 2 and target.kind == "topic":
        for _ in range(rng.randint(1, most_items - 1) - 1):
            while (name := topic(rng, world.split)) in person.likes:
                pass
            items.append(phrase(rng, f"{target.domain} item", world.split, topic=name))
    order = rng.sample(range(len(items)), len(items))
    known_summary = None if rng.random() < 0.04 else summary.text()
    prompt = selection_prompt(target.query, [items[index] for index in order], known_summary)
    request = Prompt(prompt.template, prompt.messages[:-1])
    return _sft(request, f'{SELECTION_PREFILL}{LETTERS[order.index(0)]}"}}')


def reply(rng: random.Random, world: World, mode: ChatMode, *, length: int) -> Row:
    """A question → an answer in the style the user prefers, as far as the mode lets it be known."""
    person = persona(rng, world.split)
    about = topic(rng, world.split)
    question = phrase(rng, rng.choice(ANSWERING), world.split, topic=about)
    choices = history(rng, person, world.split, length, noise=world.noise)
    summary = teacher.infer(choices).findings.sample(rng, world.recall).text() if mode == "summary" else None
    prompt = chat_prompt(
        [{"role": "user", "content": question}],
        mode=mode,
        summary=summary,
        history=_shown(choices, person, mode),
    )
    style = any_style(rng) | (dict(person.style) if mode != "none" else {})
    return _sft(prompt, answer(rng, world.split, about, style))


def _shown(choices: Sequence[Choice], person: Persona, mode: ChatMode) -> list[ComparisonInteraction]:
    if mode in ("none", "summary"):
        return []
    directions = person.directions() if mode == "pba" else None
    return [
        ComparisonInteraction(query=choice.query, chosen=choice.chosen, rejected=choice.rejected, directions=directions)
        for choice in choices
    ]


# --- the family's own formats --------------------------------------------------------------------


def alignx(rng: random.Random, world: World, length: int) -> Row:
    """A row of AlignX: the target pair, the persona's directions, and the four kinds of evidence."""
    person = persona(rng, world.split, directed=0.5)
    target = style_choice(rng, person, world.split)
    directions = list(person.directions())
    feedback = [
        {
            "prompt": choice.query,
            "chosen": choice.chosen,
            "rejected": choice.rejected,
            "Preference Direction": directions,
        }
        for choice in history(rng, person, world.split, length, noise=world.noise)
    ]
    posts = [{"prompt": "", "comment": phrase(rng, "love", world.split, topic=name)} for name in person.likes]
    return {
        "prompt": target.query,
        "chosen": target.chosen,
        "rejected": target.rejected,
        "Preference Direction": directions,
        "Demographic Information": f"A person who minds {len(person.style)} things about an answer.",
        "User-Generated Content": posts,
        "Pair-wise Comparative Feedback": feedback,
    }


def _pairs(choices: Sequence[Choice]) -> list[dict[str, str]]:
    return [choice.triple() for choice in choices]


def alignxplore(rng: random.Random, world: World, length: int) -> Row:
    """A row of AlignXplore: the history, and the task with its two responses."""
    person = persona(rng, world.split)
    target = choice(rng, person, world.split)
    before = history(rng, person, world.split, length, noise=world.noise)
    return {"task": target.query, "chosen": target.chosen, "rejected": target.rejected, "history": _pairs(before)}


def streaming(rng: random.Random, world: World, length: int, uid: str) -> Row:
    """A row of AlignXplore+ RL: `length` choices for either stage and a target after each."""
    person = persona(rng, world.split)
    choices = history(rng, person, world.split, 2 * length, noise=world.noise)
    target = choice(rng, person, world.split)
    # The first target is part of the second stage's history: it was seen by then.
    return {"uid": uid, "history": _pairs([*choices, target]), "mid_position": length}


def upi(rng: random.Random, world: World, length: int, uid: str) -> Row:
    """A row of the family's common form, with what a perfect summary would say beside it."""
    person = persona(rng, world.split)
    target = choice(rng, person, world.split)
    before = history(rng, person, world.split, length, noise=world.noise)
    return {
        "userid": uid,
        "history": _pairs(before),
        "target": target.triple(),
        "kind": target.kind,
        "summary": Findings(clear=tuple(person.style.values()), likes=person.likes, dislikes=person.dislikes).text(),
    }


# --- ranking and answering, downstream -----------------------------------------------------------


def ranking(rng: random.Random, world: World, length: int, uid: str, candidates: int = 10) -> Row:
    """Downstream selection among several: a history and candidates of which the user likes one."""
    person = persona(rng, world.split)
    target = topic_choice(rng, person, world.split)
    items = [phrase(rng, f"{target.domain} item", world.split, topic=person.likes[0])]
    while len(items) < candidates:
        if (name := topic(rng, world.split)) not in (*person.likes, *person.dislikes):
            items.append(phrase(rng, f"{target.domain} item", world.split, topic=name))
    order = rng.sample(range(candidates), candidates)
    return {
        "userid": uid,
        "history": _pairs(history(rng, person, world.split, length, noise=world.noise)),
        "query": target.query,
        "candidates": [items[index] for index in order],
        "answer": order.index(0),
    }


def personalized(rng: random.Random, world: World, length: int, uid: str) -> Row:
    """Response generation: a history, a question, and a reference answer in the user's style."""
    person = persona(rng, world.split)
    about = topic(rng, world.split)
    return {
        "userid": uid,
        "history": _pairs(history(rng, person, world.split, length, noise=world.noise)),
        "query": phrase(rng, rng.choice(ANSWERING), world.split, topic=about),
        "reference": answer(rng, world.split, about, any_style(rng) | dict(person.style)),
        "traits": sorted(person.style.values()),
    }
