"""Answers on a topic in any style: one text, of which ten dimensions can be turned."""

import random
import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from training.corpus.lexicon import Pen, Topic, table, topics
from training.corpus.personas import STYLES, Style, opposite

UNMARKED: Final[Style] = {
    "structure": "prose", "tone": "matter-of-fact", "examples": "bare", "humour": "serious", "emoji": "no-emoji",
}  # fmt: skip
"""Poles that an answer has where nothing else is asked for. Of the dimensions that are not here, length and expertise
have one of both, and the others neither."""
_CONTRACTED: Final = {"It is": "It's", "it is": "it's", "There is": "There's", "do not": "don't", "is not": "isn't"}


def any_style(rng: random.Random) -> dict[str, str]:
    """A style nobody has asked for: mostly unmarked."""
    style = {**UNMARKED, "length": rng.choice(STYLES["length"]), "expertise": rng.choice(STYLES["expertise"])}
    return style | {name: rng.choice(STYLES[name]) for name in rng.sample(sorted(STYLES), rng.choice((0, 0, 1)))}


def answer(pen: Pen, topic: Topic, style: Style) -> str:
    """An answer on a topic with a pole on every dimension that `style` names."""
    sentences = _body(pen, topic, style)
    sentences[0] = _weigh(pen, sentences[0], style)
    if style.get("directness") == "direct":
        sentences[0] = _join(_word(pen, "direct"), sentences[0])
    if style.get("formality") == "casual":
        sentences = [_contract(sentence) for sentence in sentences]
    lines = [f"- {sentence}" for sentence in sentences] if style["structure"] == "lists" else [" ".join(sentences)]
    before = [_greeting(pen, style)]
    if style.get("directness") == "background":
        before.append(_word(pen, "background", **topic.fill()))
    after = [_word(pen, "humour", **topic.fill())] if style["humour"] == "humour" else []
    if style.get("directness") == "direct" and style.get("formality"):
        after.append(_word(pen, f"{style['formality']}-end"))
    if style["tone"] == "warm":
        after.append(_word(pen, "warm-end"))
    if style["emoji"] == "emoji":
        (after if after else lines)[-1] += f" {topic.category.emoji}"
    break_ = "\n" if style["structure"] == "lists" else " "
    return break_.join(filter(None, [" ".join(filter(None, before)), "\n".join(lines), " ".join(after)]))


def _body(pen: Pen, topic: Topic, style: Style) -> list[str]:
    """The sentences that say something: what the topic is, where that is known, and what holds of its category. They
    are of either half: a held-out topic makes other sentences of them."""
    level, rng = style["expertise"], pen.rng
    pen.topics.add(topic.name)
    count = 5 if style["length"] == "detailed" else 2 if style["structure"] == "lists" else 1
    known = table("openings").get(topic.name, {}).get(level, ())
    general = list(topic.category.sentences[level])
    rng.shuffle(general)
    sentences = [*rng.sample(known, min(len(known), 1)), *(text.format(**topic.fill()) for text in general)][:count]
    if style["examples"] == "examples":
        sentences.append(pen.say(topic, "example"))
    return sentences


def _greeting(pen: Pen, style: Style) -> str:
    """The first words; an answer that comes to the point has none."""
    formality, is_warm = style.get("formality"), style["tone"] == "warm"
    if style.get("directness") == "direct" or not (formality or is_warm):
        return ""
    if is_warm:
        return _word(pen, "warm-formal" if formality == "formal" else "warm-casual")
    return _word(pen, formality or "casual")


def _weigh(pen: Pen, sentence: str, style: Style) -> str:
    hedging: str | None = style.get("hedging")
    return _join(_word(pen, hedging), sentence) if hedging else sentence


def _word(pen: Pen, kind: str, **fill: str) -> str:
    return pen.write("words", kind, name="styles", **fill)


def _join(before: str, sentence: str) -> str:
    """Continues `before`: the first word loses its capital unless it is a name."""
    word = sentence.split()[0]
    is_name = word == "I" or word[1:] != word[1:].lower() or word in _names()
    return before + (sentence if is_name else sentence[0].lower() + sentence[1:])


@cache
def _names() -> frozenset[str]:
    """First words of topics that are names, such as Iceland."""
    return frozenset(name.split()[0] for name in topics() if name[0].isupper())


def _contract(text: str) -> str:
    for long, short in _CONTRACTED.items():
        text = re.sub(rf"\b{long}\b", short, text)
    return text


def style_pair(pen: Pen, style: Style) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Two styles, of which the first has the poles of `style` in one to three dimensions where the other has their
    opposites; elsewhere they are mostly alike."""
    chosen = any_style(pen.rng)
    rejected = dict(chosen)
    wanted = pen.rng.sample(sorted(style), min(len(style), pen.rng.choice((1, 1, 2, 2, 3))))
    for name in wanted:
        chosen[name], rejected[name] = style[name], opposite(style[name])
    for name in sorted(style.keys() - set(wanted)):
        chosen[name] = rejected[name] = style[name] if pen.rng.random() < 0.3 else chosen.get(name, style[name])
    return chosen, rejected
