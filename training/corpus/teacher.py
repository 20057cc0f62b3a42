"""The teacher of the synthetic world: a careful reader that sees the choices and not the person.

It notes what each choice speaks for, adds up, and says what it found, the surest first. What it
writes is what supervised fine-tuning learns. Like the large models that write summaries for real
corpora, it does not mention everything it found (`recall`): saying more of what helps a reader to
predict the user is what reinforcement learning is for.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from training.corpus.choices import Choice, Sign
from training.corpus.personas import TRAITS, opposite

CLEAR: Final = 3
"""From so many choices net of those that speak against it, a trait is called clear."""
PAST_CLEAR: Final = 3
PAST_TENDENCY: Final = 1
PAST_TOPIC: Final = 2
"""What a statement of the past summary counts for, in choices."""
MOST: Final = 9
"""Counts are written with one digit."""
NOTHING: Final = "The user has shown no clear preference yet."


@dataclass(frozen=True)
class Findings:
    """What is known of a user, the surest first."""

    clear: tuple[str, ...] = ()
    tends: tuple[str, ...] = ()
    likes: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()

    def text(self) -> str:
        """The summary: one sentence for each kind of finding."""
        parts = (
            ("clearly prefers", self.clear, " answers"),
            ("tends to prefer", self.tends, " answers"),
            ("likes", self.likes, ""),
            ("dislikes", self.dislikes, ""),
        )
        said = [f"The user {verb} {_joined(names)}{noun}." for verb, names, noun in parts if names]
        return " ".join(said) or NOTHING

    def kept(self, rng: random.Random, recall: float) -> "Findings":
        """The same with every finding mentioned with probability `recall`, but one at least."""
        every = [(name, each) for name in ("clear", "tends", "likes", "dislikes") for each in getattr(self, name)]
        if not every:
            return self
        said = [one for one in every if rng.random() < recall] or [rng.choice(every)]
        return Findings(*(tuple(each for name, each in said if name == group) for group in GROUPS))


GROUPS: Final = ("clear", "tends", "likes", "dislikes")
_SENTENCE: Final = re.compile(r"The user (clearly prefers|tends to prefer|likes|dislikes) (.*?)(?: answers)?\.")
_VERBS: Final = {"clearly prefers": "clear", "tends to prefer": "tends", "likes": "likes", "dislikes": "dislikes"}


def read(text: str) -> Findings:
    """The findings that a summary of the teacher's form states."""
    found: dict[str, tuple[str, ...]] = {}
    for verb, names in _SENTENCE.findall(text):
        found[_VERBS[verb]] = tuple(re.split(r", | and ", names))
    return Findings(**found)


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


@dataclass
class Tally:
    """How many choices speak for and against each trait and topic."""

    votes: dict[str, list[int]] = field(default_factory=dict)
    """Name to counts for and against; of a pair of opposite traits, only one name is kept."""

    def add(self, name: str, *, against: bool = False, weight: int = 1) -> None:
        if name in TRAITS and opposite(name) in self.votes:
            name, against = opposite(name), not against
        counts = self.votes.setdefault(name, [0, 0])
        counts[against] += weight

    def add_past(self, past: Findings) -> None:
        for name in past.clear:
            self.add(name, weight=PAST_CLEAR)
        for name in past.tends:
            self.add(name, weight=PAST_TENDENCY)
        for name in past.likes:
            self.add(name, weight=PAST_TOPIC)
        for name in past.dislikes:
            self.add(name, against=True, weight=PAST_TOPIC)

    def add_evidence(self, for_: str, against: str, weight: int) -> None:
        if for_:
            self.add(for_, weight=weight)
        if against and for_ not in TRAITS:
            self.add(against, against=True, weight=weight)

    def nets(self) -> dict[str, tuple[int, int]]:
        """The winning name with its counts; a trait that lost stands as its opposite."""
        nets = {}
        for name, (pro, con) in self.votes.items():
            if name in TRAITS and con > pro:
                name, pro, con = opposite(name), con, pro
            nets[name] = (pro, con)
        return nets

    def line(self) -> str:
        said = [f"{name} {min(pro, MOST)}:{min(con, MOST)}" for name, (pro, con) in self.nets().items()]
        return ", ".join(said)

    def findings(self, most_topics: int = 6) -> Findings:
        nets = {name: pro - con for name, (pro, con) in self.nets().items()}
        strongest = sorted(nets, key=lambda name: -abs(nets[name]))
        traits = [name for name in strongest if name in TRAITS and nets[name] > 0]
        topics = [name for name in strongest if name not in TRAITS and nets[name]][:most_topics]
        return Findings(
            tuple(name for name in traits if nets[name] >= CLEAR),
            tuple(name for name in traits if nets[name] < CLEAR),
            tuple(name for name in topics if nets[name] > 0),
            tuple(name for name in topics if nets[name] < 0),
        )


def noted(evidence: Iterable[tuple[str, str]]) -> str:
    """What one event speaks for, in a few words."""
    return ", ".join(map(_noted, evidence)) or "nothing"


def _noted(pair: tuple[str, str]) -> str:
    match pair:
        case (for_, ""):
            return f"for {for_}"
        case ("", against):
            return f"against {against}"
        case (for_, against):
            return f"{for_} over {against}"


@dataclass(frozen=True)
class Lesson:
    """What the teacher thinks and writes."""

    thinking: str
    findings: Findings

    def reply(self) -> str:
        return f"<think>\n{self.thinking}\n</think>\n\n{self.findings.text()}"


def infer(events: Sequence[Choice | Sign], past: Findings | None = None) -> Lesson:
    """Reads the events one by one, after the past summary if there is one, and adds up."""
    tally = Tally()
    if past is not None:
        tally.add_past(past)
    lines = []
    for place, each in enumerate(events):
        lines.append(f"{(place + 1) % 10} {noted(each.evidence)}")
        for for_, against in each.evidence:
            tally.add_evidence(for_, against, each.weight)
    return Lesson("\n".join([*lines, f"Sum: {tally.line()}"]), tally.findings())
