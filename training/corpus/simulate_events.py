"""What people of the world do, as front ends send it, with what each event shows of them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    DemographicInteraction,
    DialogueInteraction,
    Interaction,
    Message,
    PostInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from alignx.schemas.items import Item, item_text
from training.corpus.catalogue_items import Source, make_item, sources, topics_at
from training.corpus.lexicon import Pen, Topic, half, spell_out, table
from training.corpus.personas import Persona, other_topic, pole_words
from training.corpus.styled_answers import answer, style_pair

STATED: Final = 3
"""What a user says of themselves counts for so many choices."""
WRITTEN: Final = 2
"""What they write or rate counts for so many."""


@dataclass(frozen=True)
class Sign:
    """What an event shows: of a pole, a topic or a fact, for (above 0) or against it."""

    kind: Literal["style", "topic", "fact"]
    name: str
    weight: int
    text: str = ""
    """The title that shows it, or the user's own words."""


@dataclass(frozen=True)
class Event:
    interaction: Interaction
    signs: tuple[Sign, ...]
    note: str
    """What happened, as reasoning puts it."""

    def triple(self) -> dict[str, str]:
        """The first choice of the event, in the family's common form."""
        pair = self.interaction.pairs()[0]
        return {"query": pair.query, "chosen": item_text(pair.chosen), "rejected": item_text(pair.rejected)}


# --- choices -------------------------------------------------------------------------------------


def style_choice(pen: Pen, person: Persona, *, is_flipped: bool = False) -> Event:
    """Two answers to one question, of which the chosen has more of what the person prefers."""
    topic = other_topic(pen, set())
    query = pen.write("query", "ask", **topic.fill())
    chosen, rejected = style_pair(pen, person.style)
    content = pen.rng.random()
    texts = []
    for style in (chosen, rejected):  # the same words where the styles are alike
        texts.append(answer(replace(pen, rng=random.Random(content)), topic, style))
    if is_flipped:
        texts.reverse()
        chosen, rejected = rejected, chosen
    differing = [name for name in chosen if name in rejected and chosen[name] != rejected[name]]
    took, left = ", ".join(chosen[name] for name in differing), ", ".join(rejected[name] for name in differing)
    return Event(
        ComparisonInteraction(query=query, chosen=texts[0], rejected=texts[1], source="chat"),
        tuple(Sign("style", chosen[name], 1) for name in differing),
        f"took {took} over {left}",
    )


def topic_choice(pen: Pen, person: Persona, *, is_flipped: bool = False) -> Event:
    """An item on a liked topic and one on another, which may be disliked."""
    query, source, items, topics = _offer(pen, person, 1, is_flipped=is_flipped)
    return Event(
        ComparisonInteraction(query=query, chosen=items[0][0], rejected=items[1][0], source=source),
        _chosen_signs(topics, items, 2),
        _chosen_note("took", topics[:2]),
    )


Offered = tuple[str, Source, list[tuple[Item, str]], list[Topic]]
"""A query, a source, items with their titles, and their topics; the chosen one first."""


def _offer(pen: Pen, person: Persona, others: int, *, is_flipped: bool, without: Source | None = None) -> Offered:
    rng = pen.rng
    liked = rng.choice(person.likes)
    source = rng.choice([place for place in sources(liked) if place != without])
    left = list(dict.fromkeys(_other(pen, person, source) for _ in range(others)))
    topics = [left[0], liked, *left[1:]] if is_flipped and left else [liked, *left]
    items = [make_item(pen, topic, source, person.language) for topic in topics]
    return pen.write("query", source), source, items, topics


def _other(pen: Pen, person: Persona, source: Source) -> Topic:
    """A topic that is met there too: a disliked one, or one of another category; of films another genre."""
    met = topics_at(source, pen.split)
    disliked = [topic for topic in person.dislikes if topic in met]
    if disliked and pen.rng.random() < 0.5:
        return pen.rng.choice(disliked)
    near = {topic.category.name for topic in person.likes}
    return pen.rng.choice(
        [t for t in met if t not in person.likes and (source == "films" or t.category.name not in near)]
    )


def _chosen_signs(topics: Sequence[Topic], items: Sequence[tuple[Item, str]], shown: int) -> tuple[Sign, ...]:
    first = Sign("topic", topics[0].name, 1, items[0][1])
    return (first, *(Sign("topic", topic.name, -1) for topic in topics[1:shown]))


def _chosen_note(verb: str, topics: Sequence[Topic]) -> str:
    left = ", ".join(topic.name for topic in topics[1:])
    return f"{verb} {topics[0].name} ({topics[0].category.name})" + (f", left {left}" if left else "")


def _click(pen: Pen, person: Persona, *, is_flipped: bool) -> Event:
    query, source, items, topics = _offer(pen, person, pen.rng.choice((0, 1, 2, 3, 4)), is_flipped=is_flipped)
    shown = pen.rng.sample([item for item, _ in items], len(items)) if len(items) > 1 else ()
    click = ClickInteraction(
        query=query if pen.rng.random() < 0.6 else None, clicked=items[0][0], shown=tuple(shown), source=source
    )
    return Event(click, _chosen_signs(topics, items, len(items)), _chosen_note("clicked", topics))


def _purchase(pen: Pen, person: Persona, *, is_flipped: bool) -> Event:
    others = pen.rng.choice((0, 1, 1, 2))
    _, source, items, topics = _offer(pen, person, others, is_flipped=is_flipped, without="news")
    bought = PurchaseInteraction(item=items[0][0], considered=tuple(item for item, _ in items[1:]), source=source)
    return Event(bought, _chosen_signs(topics, items, len(items)), _chosen_note("bought", topics))


def _rating(pen: Pen, person: Persona, *, is_flipped: bool) -> Event:
    rng = pen.rng
    is_liked = not person.dislikes or rng.random() < 0.6
    topic = rng.choice(person.likes if is_liked else person.dislikes)
    source = rng.choice(sources(topic))
    item, title = make_item(pen, topic, source, person.language)
    is_high = is_liked != is_flipped
    low, high = scale = rng.choice(((1.0, 5.0), (1.0, 5.0), (0.5, 5.0), (1.0, 10.0), (0.0, 1.0)))
    value = high if is_high else low
    if high > 1 and rng.random() < 0.5:
        value += -1 if is_high else 1
    review = pen.write("said", "high" if is_high else "low") if rng.random() < 0.4 else None
    rating = RatingInteraction(item=item, value=value, scale=scale, review=review, source=source)
    sign = Sign("topic", topic.name, WRITTEN if is_high else -WRITTEN, title if is_high else "")
    return Event(rating, (sign,), f"rated {topic.name} ({topic.category.name}) {'high' if is_high else 'low'}")


# --- words ---------------------------------------------------------------------------------------


def _says(pen: Pen, person: Persona, topic: Topic, kind: str) -> str:
    """The person's words for or against a topic, sometimes in their other language."""
    foreign = table("languages").get(person.language or "", {})
    pen.topics.add(topic.name)
    if topic.name not in foreign.get("topics", {}):
        return pen.write("said", kind, **topic.fill())
    name = foreign["topics"][topic.name]
    words = half(foreign["love" if kind in ("love", "more") else "avoid"], pen.split)
    return pen.draw(words).format(t=name, T=name[0].upper() + name[1:])


def _any_side(pen: Pen, person: Persona) -> tuple[Topic, bool]:
    is_liked = not person.dislikes or pen.rng.random() < 0.65
    return pen.rng.choice(person.likes if is_liked else person.dislikes), is_liked


def _post(pen: Pen, person: Persona) -> Event:
    topic, is_liked = _any_side(pen, person)
    post = PostInteraction(text=_says(pen, person, topic, "love" if is_liked else "avoid"), source="forum")
    sign = Sign("topic", topic.name, WRITTEN if is_liked else -WRITTEN)
    return Event(post, (sign,), f"wrote {'for' if is_liked else 'against'} {topic.name} ({topic.category.name})")


def _dialogue(pen: Pen, person: Persona) -> Event:
    """A question on a topic, an answer, and what the user makes of it."""
    topic = pen.rng.choice(person.likes)
    style, _ = style_pair(pen, {})
    turns = [("user", pen.write("query", "ask", **topic.fill())), ("assistant", answer(pen, topic, style))]
    signs, note = [Sign("topic", topic.name, 1)], f"asked about {topic.name} ({topic.category.name})"
    if person.style and pen.rng.random() < 0.5:
        words, sign = _wish(pen, person)
        signs.append(sign)
        note += f", asked for {sign.name}"
    else:
        words = pen.write("said", "go-on", **topic.fill())
    turns.append(("user", words))
    messages = tuple(Message(role=role, content=text) for role, text in turns)
    return Event(DialogueInteraction(messages=messages, source="chat"), tuple(signs), note)


def _wish(pen: Pen, person: Persona) -> tuple[str, Sign]:
    pole = person.style[pen.rng.choice(sorted(person.style))]
    foreign = table("languages").get(person.language or "", {})
    if pole in foreign.get("wishes", {}) and pen.rng.random() < 0.7:
        return foreign["wishes"][pole], Sign("style", pole, STATED)
    patterns = tuple(text for pattern in pole_words(pole)["wish"] for text in spell_out(pattern))
    return pen.draw(half(patterns, pen.split)), Sign("style", pole, STATED)


def _statement(pen: Pen, person: Persona) -> Event:
    ways = ["topic", *(["style"] * 2 if person.style else ()), *(["fact"] * 2 if person.facts else ())]
    match pen.rng.choice(ways):
        case "style":
            words, sign = _wish(pen, person)
            return Event(StatementInteraction(text=words), (sign,), f"asked for {sign.name}")
        case "fact":
            words, sign = state_fact(pen, person)
            return Event(StatementInteraction(text=words), (sign,), f"said of themselves: {sign.name}")
    topic, is_liked = _any_side(pen, person)
    words = _says(pen, person, topic, "more" if is_liked else "less")
    sign = Sign("topic", topic.name, STATED if is_liked else -STATED)
    note = f"asked for {'more' if is_liked else 'nothing'} on {topic.name} ({topic.category.name})"
    return Event(StatementInteraction(text=words), (sign,), note)


def _demographic(pen: Pen, person: Persona) -> Event:
    words, sign = state_fact(pen, person)
    return Event(DemographicInteraction(text=words), (sign,), f"said of themselves: {sign.name}")


def state_fact(pen: Pen, person: Persona) -> tuple[str, Sign]:
    """The person's words for one of their facts."""
    name = pen.rng.choice(sorted(person.facts))
    foreign = table("languages").get(person.language or "", {}).get("facts", {})
    if name in foreign and pen.rng.random() < 0.8:
        return foreign[name], Sign("fact", name, STATED)
    patterns = (text for pattern in table("facts")[name]["says"] for text in spell_out(pattern))
    words = pen.draw(half(patterns, pen.split)).format(n=person.facts[name])
    return words, Sign("fact", name, STATED, words)


# --- histories -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Habit:
    """How people of a file behave."""

    noise: float = 0.05
    """Share of choices and ratings that are the wrong way round."""
    drift: float = 0.0
    """Share of people who change midway."""


def choice(pen: Pen, person: Persona, *, is_flipped: bool = False) -> Event:
    """A comparison of two answers or of two items."""
    make = style_choice if person.style and pen.rng.random() < 0.5 else topic_choice
    return make(pen, person, is_flipped=is_flipped)


def any_event(pen: Pen, person: Persona, *, is_flipped: bool = False) -> Event:
    """An event of any of the eight kinds."""
    kinds: list[tuple[float, Callable[[], Event]]] = [
        (0.34 if person.style else 0.0, lambda: style_choice(pen, person, is_flipped=is_flipped)),
        (0.12, lambda: topic_choice(pen, person, is_flipped=is_flipped)),
        (0.14, lambda: _click(pen, person, is_flipped=is_flipped)),
        (0.08, lambda: _purchase(pen, person, is_flipped=is_flipped)),
        (0.08, lambda: _rating(pen, person, is_flipped=is_flipped)),
        (0.06, lambda: _post(pen, person)),
        (0.07, lambda: _dialogue(pen, person)),
        (0.08, lambda: _statement(pen, person)),
        (0.05 if person.facts else 0.0, lambda: _demographic(pen, person)),
    ]
    weights, makers = zip(*kinds, strict=True)
    make: Callable[[], Event] = pen.rng.choices(makers, weights)[0]
    return make()


def history(pen: Pen, person: Persona, length: int, habit: Habit, make: Callable[..., Event]) -> list[Event]:
    """`length` events that `make` makes, such as `choice` or `any_event`, oldest first."""
    later = person.drifted(pen.rng) if pen.rng.random() < habit.drift else person
    return [
        make(pen, later if 2 * index >= length else person, is_flipped=pen.rng.random() < habit.noise)
        for index in range(length)
    ]


def fact_choice(pen: Pen, person: Persona) -> tuple[str, str, str] | None:
    """A query, what a fact of the person allows, and what it rules out; none where no fact decides anything."""
    deciding = [table("facts")[name] for name in person.facts if "query" in table("facts")[name]]
    if not deciding:
        return None
    fact = pen.rng.choice(deciding)
    return fact["query"], pen.rng.choice(fact["fits"]), pen.rng.choice(fact["breaks"])
