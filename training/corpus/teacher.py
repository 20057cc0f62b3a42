"""The teacher of the synthetic world: a careful reader that sees the choices and not the person.

It notes what each choice speaks for and how the count stands with it, adds up, and says what it found.
What it writes is what supervised fine-tuning learns. Like the large models that write summaries for
real corpora, it does not mention everything it found (`recall`): saying more of what helps a reader
to predict the user is what reinforcement learning is for.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from training.corpus.personas import TRAITS, opposite
from training.corpus.simulate_choices import Choice, Sign

CLEAR: Final = 3
"""From so many choices net of those that speak against it, a trait is called clear."""
SURE: Final = 2
"""From so many, a topic is said to be liked or disliked, and not only perhaps."""
PAST: Final = {"clear": 3, "tends": 1, "likes": 2, "may_like": 1, "dislikes": -2, "may_dislike": -1}
"""What a finding of the past summary counts for, in choices."""
MOST: Final = 9
"""Counts are written with one digit."""
NOTHING: Final = "The user has shown no clear preference yet."


@dataclass(frozen=True)
class Findings:
    """What is known of a user: traits and topics, by how sure it is."""

    clear: tuple[str, ...] = ()
    tends: tuple[str, ...] = ()
    likes: tuple[str, ...] = ()
    may_like: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()
    may_dislike: tuple[str, ...] = ()

    def text(self) -> str:
        """The summary: one sentence for each kind of finding."""
        said = [f"The user {verb} {_join(names)}{noun}." for verb, noun, names in self._sentences() if names]
        return " ".join(said) or NOTHING

    def _sentences(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        return ((verb, noun, getattr(self, group)) for group, (verb, noun) in SENTENCES.items())

    def sample(self, rng: random.Random, recall: float) -> "Findings":
        """Each finding with probability `recall`, but at least one."""
        findings = [(group, name) for group in GROUPS for name in getattr(self, group)]
        if not findings:
            return self
        drawn = [finding for finding in findings if rng.random() < recall] or [rng.choice(findings)]
        return Findings(*(tuple(name for of, name in drawn if of == group) for group in GROUPS))


SENTENCES: Final = {
    "clear": ("clearly prefers", " answers"),
    "tends": ("tends to prefer", " answers"),
    "likes": ("likes", ""),
    "may_like": ("may like", ""),
    "dislikes": ("dislikes", ""),
    "may_dislike": ("may dislike", ""),
}
"""How each kind of finding is said: the verb, and what follows the names."""
GROUPS: Final = tuple(SENTENCES)
_VERBS: Final = {verb: group for group, (verb, _) in SENTENCES.items()}
_SENTENCE: Final = re.compile(rf"The user ({'|'.join(_VERBS)}) (.*?)(?: answers)?\.")


def read(text: str) -> Findings:
    """The findings that a summary of the teacher's form states."""
    findings: dict[str, tuple[str, ...]] = {}
    for verb, names in _SENTENCE.findall(text):
        findings[_VERBS[verb]] = tuple(re.split(r", | and ", names))
    return Findings(**findings)


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


@dataclass
class Tally:
    """How many more choices speak for than against each trait and topic, in order of first mention."""

    nets: dict[str, int] = field(default_factory=dict)
    """Of a pair of opposite traits, only the name that came first is kept."""

    def add(self, name: str, by: int) -> str:
        """Counts, and says where the count now stands."""
        if name in TRAITS and opposite(name) in self.nets:
            name, by = opposite(name), -by
        self.nets[name] = max(-MOST, min(self.nets.get(name, 0) + by, MOST))
        return f"{name} {self.nets[name]:+d}"

    def add_past(self, past: Findings) -> str:
        return ", ".join(self.add(name, PAST[group]) for group in GROUPS for name in getattr(past, group))

    def add_evidence(self, evidence: Iterable[tuple[str, str]], weight: int) -> str:
        """What one event speaks for; of two opposite traits it is enough to count one."""
        counts = []
        for for_, against in evidence:
            if for_:
                counts.append(self.add(for_, weight))
            if against and for_ not in TRAITS:
                counts.append(self.add(against, -weight))
        return ", ".join(counts) or "nothing"

    def positive_traits(self) -> dict[str, int]:
        """The counts, with a trait below zero as its opposite above zero."""
        return {
            opposite(name) if name in TRAITS and net < 0 else name: -net if name in TRAITS and net < 0 else net
            for name, net in self.nets.items()
        }

    def line(self) -> str:
        return ", ".join(f"{name} {net:+d}" for name, net in self.positive_traits().items())

    def findings(self) -> Findings:
        findings: dict[str, list[str]] = {group: [] for group in GROUPS}
        for name, net in self.positive_traits().items():
            if net:
                findings[_group(name, net)].append(name)
        return Findings(*map(tuple, findings.values()))


def _group(name: str, net: int) -> str:
    if name in TRAITS:
        return "clear" if net >= CLEAR else "tends"
    if net > 0:
        return "likes" if net >= SURE else "may_like"
    return "dislikes" if net <= -SURE else "may_dislike"


@dataclass(frozen=True)
class Lesson:
    """What the teacher thinks and writes."""

    thinking: str
    findings: Findings

    def reply(self) -> str:
        return f"<think>\n{self.thinking}\n</think>\n\n{self.findings.text()}"


def infer(events: Sequence[Choice | Sign], past: Findings | None = None) -> Lesson:
    """Counts from the past summary, if there is one, through the events one by one."""
    tally = Tally()
    lines = [f"0 {tally.add_past(past)}"] if past and past != Findings() else []
    for number, event in enumerate(events, start=1):
        lines.append(f"{number} {tally.add_evidence(event.evidence, event.weight)}")
    return Lesson("\n".join([*lines, f"Sum: {tally.line()}"]), tally.findings())
