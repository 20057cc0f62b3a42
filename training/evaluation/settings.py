"""The settings of an evaluation: what the judge reads about each user before it chooses.

    none       nothing: the control, which must stay near one half
    full       a summary inferred from the whole history at once
    streaming  a summary updated part by part, each time from the past summary and the new part
    flipped    full, after a share of the history's choices was turned round: robustness
    other      another user's full summary: whether the judge reads it at all
    truth      the summary that the row itself carries: the judge's upper bound
    wording    the fast profile's text, written without a model
    profile    no judge: the fast profile scores the two items itself

A summary passes services.core.replies.parse_summary, as in serving: a reply that serving would refuse
leaves the summary as it was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.core.folding import fold
from services.core.judge import Judgement, judge
from services.core.profile import EMPTY, Profile, probabilities
from services.core.prompts import fit_interactions, update_prompt
from services.core.schemas import Interaction, item_text
from services.core.wording import render
from training.evaluation.cases import Case, flipped, parts
from training.evaluation.models import Model, Sampling, Tick
from training.rewards import TENANT, answer_of, well_formed

Summary = str | None
Histories = Sequence[Sequence[Interaction]]


@dataclass(frozen=True)
class Protocol:
    """What is fixed over all settings of a run."""

    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    updates: int = 2
    """Of streaming."""
    flip: float = 0.3
    """Share of choices turned round in `flipped`."""
    history_tokens: int = 4_096
    """Estimated tokens of the events in one prompt; past them the oldest are left out."""
    past_tokens: int = 1_024
    max_chars: int = 8_000
    """Longest summary kept."""
    batch: int = 64
    """Users judged at once."""


@dataclass
class Inference:
    """Writes summaries, and counts how the replies were."""

    model: Model
    protocol: Protocol
    tick: Tick
    replies: int = 0
    well_formed: int = 0
    usable: int = 0
    shortened: set[int] = field(default_factory=set)
    """Users whose history did not fit."""
    templates: set[str] = field(default_factory=set)

    async def update(self, past: Sequence[Summary], histories: Histories) -> list[Summary]:
        """The summaries after `histories`; without events, or after an unusable reply, the past one."""
        asked = [user for user, events in enumerate(histories) if events]
        prompts = []
        for user in asked:
            events = fit_interactions(histories[user], self.protocol.history_tokens)
            if len(events) < len(histories[user]) or events[-1] is not histories[user][-1]:
                self.shortened.add(user)
            prompt = update_prompt(past[user], events, past_tokens=self.protocol.past_tokens)
            self.templates.add(prompt.template)
            prompts.append(prompt.messages)
        sampling, seed = self.protocol.sampling, self.protocol.seed
        replies = await self.model.write(prompts, sampling, seed=seed, tick=self.tick)
        summaries = list(past)
        for user, reply in zip(asked, replies, strict=True):
            text = answer_of(reply, max_chars=self.protocol.max_chars)
            self.replies += 1
            self.well_formed += well_formed(reply, opened=self.model.opened)
            self.usable += bool(text)
            summaries[user] = text or past[user]
        return summaries

    async def full(self, cases: Sequence[Case]) -> list[Summary]:
        return await self.update([None] * len(cases), [case.history for case in cases])

    async def streaming(self, cases: Sequence[Case]) -> list[Summary]:
        summaries: list[Summary] = [None] * len(cases)
        stages = [parts(case, self.protocol.updates) for case in cases]
        for stage in range(self.protocol.updates):
            events = [of_user[stage] if stage < len(of_user) else () for of_user in stages]
            summaries = await self.update(summaries, events)
        return summaries

    async def flipped(self, cases: Sequence[Case]) -> list[Summary]:
        return await self.full(flipped(cases, self.protocol.flip, seed=self.protocol.seed))

    async def other(self, cases: Sequence[Case]) -> list[Summary]:
        summaries = await self.full(cases)
        return [*summaries[1:], *summaries[:1]]


async def no_summary(cases: Sequence[Case]) -> list[Summary]:
    return [None] * len(cases)


async def truth(cases: Sequence[Case]) -> list[Summary]:
    return [case.truth for case in cases]


async def wording(cases: Sequence[Case]) -> list[Summary]:
    return [render(profile_of(case)) for case in cases]


UNWRITTEN: Final[dict[str, Callable[[Sequence[Case]], Awaitable[list[Summary]]]]] = {
    "none": no_summary,
    "truth": truth,
    "wording": wording,
}
"""Settings for which the model writes nothing."""
WRITTEN: Final[dict[str, Callable[[Inference, Sequence[Case]], Awaitable[list[Summary]]]]] = {
    "full": Inference.full,
    "streaming": Inference.streaming,
    "flipped": Inference.flipped,
    "other": Inference.other,
}
PROFILE: Final = "profile"
SETTINGS: Final = ("none", "full", "streaming", "flipped", "other", "truth", "wording", PROFILE)
COMPARED: Final = (("full", "none"), ("streaming", "full"), ("flipped", "full"), ("full", "other"), ("full", "wording"))
"""Whose difference in accuracy is reported, paired by user."""


def answers_of(setting: str, users: int, updates: int) -> int:
    """How many answers a setting waits for: what its progress bar counts to."""
    written = {"streaming": updates}.get(setting, 1) if setting in WRITTEN else 0
    return users * (written + 1)


def profile_of(case: Case) -> Profile:
    profile = EMPTY
    for event in case.history:
        profile, _ = fold(profile, event)
    return profile


def foreseen(case: Case) -> float:
    """The fast profile's own probability of what the user chose."""
    target = case.target
    return probabilities(profile_of(case), target.query, [target.chosen, target.rejected])[0]


async def judged(
    model: Model, cases: Sequence[Case], summaries: Sequence[Summary], *, batch: int, tick: Tick
) -> list[Judgement]:
    """Each user's target in both orders; the chosen item's probability stands first."""

    async def one(case: Case, summary: Summary) -> Judgement:
        items = (item_text(case.target.chosen), item_text(case.target.rejected))
        return await judge(model, case.target.query, items, summary, tenant=TENANT)

    found: list[Judgement] = []
    pairs = list(zip(cases, summaries, strict=True))
    for start in range(0, len(pairs), batch):
        found += await asyncio.gather(*(one(*pair) for pair in pairs[start : start + batch]))
        tick(len(pairs[start : start + batch]))
    return found
