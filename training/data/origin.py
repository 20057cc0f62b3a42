"""What a made row says of its origin, and what that is worth over a whole file: which sentences rest on events, and
what two files share that should share nothing.
"""

from collections import Counter
from typing import Final

from pydantic import BaseModel, ConfigDict

SHARES: Final = ("topics", "titles", "phrasings")
"""What rows of two halves should not share."""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Claim(Record):
    """A sentence of the summary, and the numbers of the events that it rests on; 0 is the past summary."""

    text: str
    kind: str
    events: tuple[int, ...]


class Origin(Record):
    """Where a row comes from."""

    task: str
    events: tuple[str, ...] = ()
    """Kinds of the events in the prompt."""
    claims: tuple[Claim, ...] = ()
    topics: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    phrasings: tuple[str, ...] = ()


class OriginFigures(Record):
    tasks: dict[str, int]
    events: dict[str, int]
    """By kind of interaction."""
    claims: dict[str, int]
    """By kind of finding."""
    backed: float | None
    """Share of sentences in summaries that rest on an event that is there, or on the past summary."""
    topics: int
    titles: int


class OriginCount:
    """Counts the origins of a file."""

    def __init__(self) -> None:
        self.tasks: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.claims: Counter[str] = Counter()
        self.seen: dict[str, set[str]] = {share: set() for share in SHARES}
        self._backed = 0

    def add(self, origin: Origin, prompt: str, reply: str) -> None:
        self.tasks[origin.task] += 1
        self.events.update(origin.events)
        self.claims.update(claim.kind for claim in origin.claims)
        self._backed += sum(is_backed(claim, origin, prompt, reply) for claim in origin.claims)
        for share in SHARES:
            self.seen[share].update(getattr(origin, share))

    def figures(self) -> OriginFigures | None:
        if not self.tasks:
            return None
        return OriginFigures(
            tasks=dict(self.tasks.most_common()),
            events=dict(self.events.most_common()),
            claims=dict(self.claims.most_common()),
            backed=self._backed / self.claims.total() if self.claims else None,
            topics=len(self.seen["topics"]),
            titles=len(self.seen["titles"]),
        )

    def leaks(self, other: "OriginCount") -> dict[str, int]:
        """How many topics, titles and phrasings both files have."""
        return {share: len(self.seen[share] & other.seen[share]) for share in SHARES}


def is_backed(claim: Claim, origin: Origin, prompt: str, reply: str) -> bool:
    """Whether the sentence stands in the reply, rests on events that the prompt shows, and quotes only its words."""
    first = 0 if "<past_summary>" in prompt else 1
    numbers = claim.events and all(first <= number <= len(origin.events) for number in claim.events)
    return bool(numbers) and claim.text in reply and all(quote in prompt for quote in claim.text.split('"')[1::2])
