"""Writes summaries: from new events and the past summary (streaming), or from the whole history.

A `Writer` turns what is known of a user into a draft. With an engine that is the AlignXplore+ prompt
and the model's reply, streamed while it is written; without one it is the fast profile in words.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from services.core.answers import Completion, Delta
from services.core.engine import Engine
from services.core.judge import judge
from services.core.profile import Profile
from services.core.prompts import update_prompt
from services.core.replies import ReplySplitter, parse_summary
from services.core.schemas import Interaction, Pair, SummaryVersion, TokenCounts, item_text
from services.core.settings import SummarySettings
from services.core.wording import render
from services.preference.queue import Scored

BACKGROUND = 10
"""Priority of an update at the engine; chat runs at 0, and lower goes first."""
_FLUSH_CHARS, _FLUSH_S = 48, 0.05

Publish = Callable[[str], Awaitable[None]]
"""Shows a piece of the summary while it is written."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a summary is written from."""

    tenant: str
    interactions: Sequence[Interaction]
    past: SummaryVersion | None
    """None for a first or a full-history inference."""
    profile: Profile


@dataclass(frozen=True, slots=True)
class Draft:
    """A summary that is not yet a version."""

    text: str
    source: str
    reasoning: str | None = None
    template: str | None = None
    tokens: TokenCounts = field(default_factory=TokenCounts)
    removed: tuple[str, ...] = ()
    """Guard rules that removed something."""


class Writer(Protocol):
    async def write(self, material: Material, publish: Publish) -> Draft:
        """Raises EngineUnavailable, EngineRejected or EngineError."""


class ProfileWriter:
    """The fast profile in words: no engine, no tokens."""

    async def write(self, material: Material, publish: Publish) -> Draft:
        text = render(material.profile)
        await publish(text)
        return Draft(text=text, source="profile")


class EngineWriter:
    """The model's reply to the update prompt."""

    def __init__(self, engine: Engine, settings: SummarySettings) -> None:
        self.engine = engine
        self.settings = settings

    async def write(self, material: Material, publish: Publish) -> Draft:
        past = material.past.text if material.past else None
        prompt = update_prompt(past, material.interactions, past_tokens=self.settings.past_tokens)
        splitter, feed = ReplySplitter(), _Feed(publish)
        pieces: list[str] = []
        completion: Completion | None = None
        stream = self.engine.stream(
            prompt.messages,
            tenant=material.tenant,
            max_tokens=self.settings.max_tokens,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            top_k=self.settings.top_k,
            priority=BACKGROUND,
        )
        async with aclosing(stream) as parts:
            async for part in parts:
                match part:
                    case Delta(text=text):
                        pieces.append(text)
                        await feed.add(splitter.feed(text))
                    case Completion():
                        completion = part
        await feed.add(splitter.close())
        await feed.flush()
        assert completion is not None, "a stream ends with its completion"
        reply = parse_summary("".join(pieces), max_chars=self.settings.max_chars)
        return Draft(
            text=reply.text,
            reasoning=reply.reasoning if self.settings.keep_reasoning else None,
            source=f"llm:{completion.model}",
            template=prompt.template,
            tokens=completion.tokens,
            removed=reply.removed,
        )


class _Feed:
    """Groups tokens, so that a summary of 300 tokens is some 30 writes to Redis and not 300."""

    def __init__(self, publish: Publish) -> None:
        self.publish = publish
        self.held = ""
        self.last = time.monotonic()

    async def add(self, text: str) -> None:
        self.held += text
        if len(self.held) >= _FLUSH_CHARS or (self.held and time.monotonic() - self.last > _FLUSH_S):
            await self.flush()

    async def flush(self) -> None:
        if self.held:
            await self.publish(self.held)
        self.held, self.last = "", time.monotonic()


def sample_pairs(interactions: Sequence[Interaction], count: int) -> list[Pair]:
    """At most `count` of the choices in a batch, at random."""
    pairs = [pair for interaction in interactions for pair in interaction.pairs()]
    return pairs if len(pairs) <= count else random.sample(pairs, count)


async def score_summary(engine: Engine, tenant: str, summary: str, pairs: Sequence[Pair]) -> Scored:
    """How well `summary` predicts choices it has not seen, by the engine's letter probabilities."""
    judgements = [
        await judge(
            engine,
            pair.query,
            [item_text(pair.chosen), item_text(pair.rejected)],
            summary,
            tenant=tenant,
            priority=BACKGROUND,
        )
        for pair in pairs
    ]
    return Scored.of([judgement.probabilities[0] for judgement in judgements])
