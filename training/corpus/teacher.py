"""The teacher of the world: a careful reader that sees the events and not the person.

It notes what each event shows and how the counts stand with it, adds up, and writes what it found in sentences that
name the events they rest on. What it writes is what supervised fine-tuning learns.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from training.corpus.lexicon import Pen, half, table, topics
from training.corpus.personas import POLES, STYLES, Persona, opposite, pole_words
from training.corpus.simulate_events import STATED, Event, Sign
from training.data.origin import Claim

Kind = Literal[
    "stated", "told", "refused", "clear", "interest-clear", "changed-style", "changed-to", "changed-from", "tends",
    "interest-tends", "may", "interest-may", "passed", "passed-may", "mixed", "nothing",
]  # fmt: skip
"""Kinds of findings, the surest first; phrases.toml has the sentences of each."""

PAST: Final[dict[str, int]] = {
    "stated": 3, "told": 3, "refused": -3, "clear": 4, "interest-clear": 3, "changed-style": 2, "changed-to": 2,
    "changed-from": -2, "tends": 2, "interest-tends": 2, "may": 1, "interest-may": 1, "passed": -2, "passed-may": -1,
    "mixed": 0, "nothing": 0,
}  # fmt: skip
"""What a finding of the past summary counts for, in choices."""
ORDER: Final = tuple(PAST)
CLEAR, TENDS = 4, 2
"""Choices net of those against it from which a pole is called clear, and likely."""
DRAWN, TURNS = 6, 3
"""The same for all topics of a category."""
CHANGE: Final = 2
"""So many choices for and then against something, or the other way round, are a change."""
REPORTED: Final = 0.4
MAX_SENTENCES, MAX_NAMES, MAX_TITLES, MAX_GUESSES = 12, 4, 3, 2
_NUMBER: Final = re.compile(r"\d+")


@dataclass(frozen=True)
class Finding:
    """One thing that is known of a user."""

    kind: Kind
    names: tuple[str, ...] = ()
    """Poles, topics or a fact."""
    texts: tuple[str, ...] = ()
    """Example titles, or the user's own words."""
    events: tuple[int, ...] = ()
    """Numbers of the events that it rests on; 0 is the past summary."""


@dataclass(frozen=True)
class Lesson:
    """What the teacher thinks and finds."""

    thinking: str
    findings: tuple[Finding, ...]


# --- counting ------------------------------------------------------------------------------------


class Tally:
    """What the events read so far show, by pole, topic and fact, in order of first mention."""

    def __init__(self, first_half: float) -> None:
        self.entries: defaultdict[tuple[str, str], list[tuple[int, Sign]]] = defaultdict(list)
        """Signs of a name with the numbers of their events."""
        self.first_half = first_half
        """What comes behind this number is later, and tells a change."""

    def add(self, number: int, sign: Sign) -> str:
        """Counts, and says where the count now stands."""
        self.entries[sign.kind, sign.name].append((number, sign))
        if sign.kind == "fact":
            return ""
        return f"{sign.name} {self.net(sign.kind, sign.name):+d}"

    def add_past(self, past: Sequence[Finding]) -> str:
        counts = [
            self.add(0, Sign(_sign_kind(name), name, PAST[finding.kind], text))
            for finding in past
            for name, text in _named(finding)
        ]
        return ", ".join(filter(None, counts))

    def net(self, kind: str, name: str, *, later: bool | None = None) -> int:
        """The count of a pole against its opposite, or of a topic; of the earlier or the later half alone."""
        sides = {name: 1, opposite(name): -1} if kind == "style" else {name: 1}
        return sum(
            side * sign.weight
            for name, side in sides.items()
            for number, sign in self._read(kind, name)
            if later in (None, number > self.first_half)
        )

    def support(self, kind: str, name: str, sign: int = 1) -> tuple[int, ...]:
        """The events that speak for it, or with `sign` -1 against it."""
        if kind == "style" and sign < 0:
            return self.support(kind, opposite(name))
        return tuple(dict.fromkeys(number for number, seen in self._read(kind, name) if sign * seen.weight > 0))

    def texts(self, kind: str, name: str) -> list[str]:
        """The latest titles or words first."""
        signs = reversed([sign for _, sign in self._read(kind, name)])
        return list(dict.fromkeys(sign.text for sign in signs if sign.text and sign.weight > 0))

    def is_refused(self, name: str) -> bool:
        return any(sign.weight <= -STATED for _, sign in self._read("topic", name))

    def names(self, kind: str) -> list[str]:
        return [name for found, name in self.entries if found == kind]

    def _read(self, kind: str, name: str) -> list[tuple[int, Sign]]:
        return self.entries.get((kind, name), [])


def _sign_kind(name: str) -> Literal["style", "topic", "fact"]:
    return "style" if name in POLES else "topic" if name in topics() else "fact"


def _named(finding: Finding) -> Iterable[tuple[str, str]]:
    """The names of a past finding that count, each with its text."""
    names = finding.names[:1] if finding.kind in ("changed-style", "mixed") else finding.names
    texts = (*finding.texts, *[""] * len(names))
    return zip(names, texts, strict=False) if PAST[finding.kind] else ()


def infer(events: Sequence[Event], past: Sequence[Finding] = ()) -> Lesson:
    """Counts from the past findings, if there are any, through the events one by one."""
    tally = Tally(0 if past else len(events) / 2)
    lines = [f"0: before: {counts}"] if past and (counts := tally.add_past(past)) else []
    for number, event in enumerate(events, start=1):
        counts = ", ".join(filter(None, (tally.add(number, sign) for sign in event.signs)))
        lines.append(f"{number}: {event.note}" + (f" → {counts}" if counts else ""))
    found = [*_facts(tally), *_styles(tally), *_topics(tally)]
    ranked = sorted(found, key=lambda finding: ORDER.index(finding.kind))[:MAX_SENTENCES]
    return Lesson("\n".join(lines), tuple(ranked))


# --- finding -------------------------------------------------------------------------------------


def _facts(tally: Tally) -> Iterable[Finding]:
    for name in tally.names("fact"):
        words = tuple(tally.texts("fact", name)[:1])
        yield Finding("stated" if " " in "".join(words) else "told", (name,), words, tally.support("fact", name))


def _has_turned(tally: Tally, kind: str, name: str, sign: int = 1) -> bool:
    """Whether what came earlier spoke against it, and what came later speaks for it and weighs more than half of
    that; with `sign` -1 the other way round."""
    before, after = (sign * tally.net(kind, name, later=later) for later in (False, True))
    return before <= -CHANGE and after >= CHANGE and 2 * after > -before


def _styles(tally: Tally) -> Iterable[Finding]:
    groups: dict[Kind, list[str]] = {"clear": [], "tends": [], "may": []}
    for first, second in STYLES.values():
        net = tally.net("style", first)
        pole = first if net > 0 else second
        turned = next((p for p in (first, second) if _has_turned(tally, "style", p)), None)
        if turned:
            both = (*tally.support("style", opposite(turned)), *tally.support("style", turned))
            yield Finding("changed-style", (turned, opposite(turned)), events=tuple(sorted(set(both))))
        elif abs(net) >= TENDS:
            groups["clear" if abs(net) >= CLEAR else "tends"].append(pole)
        elif min(len(tally.support("style", first)), len(tally.support("style", second))) >= CHANGE:
            both = (*tally.support("style", first), *tally.support("style", second))
            yield Finding("mixed", (first, second), events=tuple(sorted(set(both))))
        elif net:
            groups["may"].append(pole)
    groups["may"] = sorted(groups["may"], key=lambda pole: -max(tally.support("style", pole)))[:MAX_GUESSES]
    for kind, poles in groups.items():
        if poles:
            support = sorted({number for pole in poles for number in tally.support("style", pole)})
            yield Finding(kind, tuple(poles), events=tuple(support))


def _topics(tally: Tally) -> Iterable[Finding]:
    liked: defaultdict[str, list[str]] = defaultdict(list)
    groups: dict[Kind, list[str]] = {
        kind: [] for kind in ("changed-to", "changed-from", "refused", "passed", "passed-may")
    }
    for name in tally.names("topic"):
        net = tally.net("topic", name)
        if _has_turned(tally, "topic", name):
            groups["changed-to"].append(name)
        elif _has_turned(tally, "topic", name, -1):
            groups["changed-from"].append(name)
        elif net > 0:
            liked[topics()[name].category.name].append(name)
        elif net <= -TENDS:
            is_single = len(tally.support("topic", name, -1)) == 1
            groups["refused" if tally.is_refused(name) else "passed-may" if is_single else "passed"].append(name)
    for kind, names in groups.items():
        names = sorted(names, key=lambda name: tally.net("topic", name))[:MAX_NAMES]
        for part in [names] if not kind.startswith("changed") else [[name] for name in names]:
            if part:
                sides = (1, -1) if kind.startswith("changed") else (-1,)
                support = {number for name in part for side in sides for number in tally.support("topic", name, side)}
                yield Finding(kind, tuple(part), events=tuple(sorted(support)))
    yield from _interests(tally, liked.values())


def _interests(tally: Tally, groups: Iterable[list[str]]) -> Iterable[Finding]:
    guesses = 0
    ranked = sorted(groups, key=lambda names: -sum(tally.net("topic", name) for name in names))
    for names in ranked:
        total = sum(tally.net("topic", name) for name in names)
        kind: Kind = "interest-clear" if total >= DRAWN else "interest-tends" if total >= TURNS else "interest-may"
        guesses += kind == "interest-may"
        if guesses > MAX_GUESSES:
            return
        best = sorted(names, key=lambda name: -tally.net("topic", name))[:MAX_NAMES]
        titles = [title for name in best for title in tally.texts("topic", name)[:2]][:MAX_TITLES]
        support = sorted({number for name in best for number in tally.support("topic", name)})
        yield Finding(kind, tuple(best), tuple(titles), tuple(support))


def know(person: Persona, pen: Pen) -> tuple[Finding, ...]:
    """What a perfect reader would know of the person, sure of some and less of others."""
    poles = pen.rng.sample(sorted(person.style.values()), len(person.style))
    sure = pen.rng.randint(0, len(poles))
    groups: dict[str, list[str]] = {}
    for topic in person.likes:
        groups.setdefault(topic.category.name, []).append(topic.name)
    found = [Finding("told", (name,), (str(number),) if number else ()) for name, number in person.facts.items()]
    styles: tuple[tuple[Kind, list[str]], ...] = (("clear", poles[:sure]), ("tends", poles[sure:]))
    found += [Finding(kind, tuple(part)) for kind, part in styles if part]
    levels: tuple[Kind, ...] = ("interest-clear", "interest-tends")
    found += [Finding(pen.rng.choice(levels), tuple(names)) for names in groups.values()]
    if person.dislikes:
        found.append(Finding("passed", tuple(topic.name for topic in person.dislikes)))
    return tuple(found)


def sample(pen: Pen, findings: Sequence[Finding], recall: float) -> tuple[Finding, ...]:
    """Each finding with probability `recall`, but at least one. Two of five quotations become reports, and the words
    are forgotten but for their number."""
    kept = [finding for finding in findings if pen.rng.random() < recall] or findings[:1]
    return tuple(
        replace(finding, kind="told", texts=tuple(_NUMBER.findall(finding.texts[0])[:1]))
        if finding.kind == "stated" and pen.rng.random() < REPORTED
        else finding
        for finding in kept
    )


# --- saying --------------------------------------------------------------------------------------


def say(pen: Pen, findings: Sequence[Finding], length: int = 0) -> tuple[Claim, ...]:
    """The sentences of a summary of so many events."""
    if not findings:
        return (Claim(text=pen.write("summary", "none"), kind="nothing", events=tuple(range(1, length + 1))),)
    texts: list[str] = []
    for finding in findings:
        drawn = [_say(pen, finding) for _ in range(4)]  # of which one begins as few others do
        texts.append(min(drawn, key=lambda text: sum(text.split()[:3] == other.split()[:3] for other in texts)))
    return tuple(
        Claim(text=text, kind=finding.kind, events=finding.events)
        for text, finding in zip(texts, findings, strict=True)
    )


def text_of(claims: Sequence[Claim]) -> str:
    return " ".join(claim.text for claim in claims)


def _say(pen: Pen, finding: Finding) -> str:
    names, kind = finding.names, finding.kind
    quoted = [f'"{text}"' for text in finding.texts]
    if kind.startswith("interest"):
        sentence = pen.write("summary", kind, c=topics()[names[0]].category.name, x=_join(names))
        return sentence[:-1] + pen.write("summary", "titles", q=_join(quoted)) if quoted else sentence
    if kind == "stated":
        return pen.write("summary", kind, q=quoted[0])
    if kind == "told":
        about = pen.draw(half(table("facts")[names[0]]["about"], pen.split))
        return pen.write("summary", kind, x=about.format(n="".join(finding.texts)))
    if names[0] in POLES:
        said = [pen.draw(half(pole_words(name)["that"], pen.split)) for name in names]
        if kind in ("changed-style", "mixed"):
            return pen.write("summary", kind, x=said[0], y=said[1])
        return pen.write("summary", kind, x=_join(said))
    return pen.write("summary", kind, x=_join(names))


def _join(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
