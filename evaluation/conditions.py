"""The settings of an evaluation: what the judge reads about each user before it chooses.

    none       nothing: the control, which must stay near one half
    direct     the history itself in place of a summary, as far as it fits: no inference
    full       a summary inferred from the whole history at once
    streaming  a summary updated part by part, each time from the past summary and the new part
    flipped    full, after a share of the history's choices was turned round: robustness
    drifted    streaming, the older half of the history reversed or another user's: whether updates follow
    mixed      full, with events of another user among the own: irrelevant history
    other      another user's full summary: whether the judge reads it at all
    truth      the summary that the row itself carries: the judge's upper bound
    wording    the fast profile's text, written without a model
    fused      full, its letter probabilities joined with the profile's as serving does
    profile    no judge: the fast profile scores the items itself; more ways of it are in profiling.py

A summary passes services.prompts.parse_summary.parse_summary, as in serving: a reply that serving would refuse
leaves the summary as it was.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from alignx.schemas.interactions import Interaction
from evaluation.cases.cases import User, flipped, parts
from evaluation.cases.perturbations import Drift, drifted, mixed, others
from evaluation.models import Model, Sampling, Tick
from evaluation.scoring.choice_scores import profile_of
from services.profile.render import render
from services.prompts.build import fit_interactions, update_prompt
from training.rl.rewards import answer_of, well_formed

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
    drift: Drift = "reversed"
    """What the older half of the history becomes in `drifted`."""
    mix: float = 0.5
    """Events of another user in `mixed`, as a share of the own."""
    history_tokens: int = 4_096
    """Estimated tokens of the events in one prompt; past them the oldest are left out."""
    past_tokens: int = 1_024
    max_chars: int = 8_000
    """Longest summary kept."""
    batch: int = 64
    """Users judged at once."""
    choice: Literal["forced", "sampled"] = "forced"
    """How the judge chooses (evaluation/scoring/choice_scores.py)."""
    fuse_engine: float = 0.5
    """Weight of the letters against the profile in `fused`; default as in serving."""
    answering: Sampling = field(default_factory=lambda: Sampling(max_tokens=512, thinking=False))
    """Of answers to questions."""


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
    summaries: list[Summary] = field(default_factory=list)
    """What was written for each user in the end."""

    def fitted(self, user: int, history: Sequence[Interaction]) -> Sequence[Interaction]:
        """What of a history fits into one prompt; a user whose history does not is noted."""
        events = fit_interactions(history, self.protocol.history_tokens)
        if history and (len(events) < len(history) or events[-1] is not history[-1]):
            self.shortened.add(user)
        return events

    async def update(self, past: Sequence[Summary], histories: Histories) -> list[Summary]:
        """The summaries after `histories`; without events, or after an unusable reply, the past one."""
        asked = [user for user, events in enumerate(histories) if events]
        prompts = []
        for user in asked:
            events = self.fitted(user, histories[user])
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

    async def full(self, users: Sequence[User]) -> list[Summary]:
        return await self.update([None] * len(users), [user.history for user in users])

    async def streaming(self, users: Sequence[User]) -> list[Summary]:
        summaries: list[Summary] = [None] * len(users)
        stages = [parts(user, self.protocol.updates) for user in users]
        for stage in range(self.protocol.updates):
            events = [of_user[stage] if stage < len(of_user) else () for of_user in stages]
            summaries = await self.update(summaries, events)
        return summaries

    async def flipped(self, users: Sequence[User]) -> list[Summary]:
        return await self.full(flipped(users, self.protocol.flip, seed=self.protocol.seed))

    async def drifted(self, users: Sequence[User]) -> list[Summary]:
        return await self.streaming(drifted(users, self.protocol.drift, seed=self.protocol.seed))

    async def mixed(self, users: Sequence[User]) -> list[Summary]:
        return await self.full(mixed(users, self.protocol.mix, seed=self.protocol.seed))

    async def other(self, users: Sequence[User]) -> list[Summary]:
        """Raises ValueError where all have the same history."""
        strangers = others(users)
        if strangers is None:
            raise ValueError("the summary of another user needs users with different histories")
        summaries = await self.full(users)
        return [summaries[place] for place in strangers]


async def no_summary(users: Sequence[User]) -> list[Summary]:
    return [None] * len(users)


async def truth(users: Sequence[User]) -> list[Summary]:
    return [user.truth for user in users]


async def wording(users: Sequence[User]) -> list[Summary]:
    return [render(profile_of(user)) for user in users]


UNWRITTEN: Final[dict[str, Callable[[Sequence[User]], Awaitable[list[Summary]]]]] = {
    "none": no_summary,
    "direct": no_summary,
    "truth": truth,
    "wording": wording,
}
"""Settings for which the model writes nothing."""
WRITTEN: Final[dict[str, Callable[[Inference, Sequence[User]], Awaitable[list[Summary]]]]] = {
    "full": Inference.full,
    "streaming": Inference.streaming,
    "flipped": Inference.flipped,
    "drifted": Inference.drifted,
    "mixed": Inference.mixed,
    "other": Inference.other,
    "fused": Inference.full,
}
UNSUMMARIZED: Final = ("none", "direct")
"""Settings whose judge reads no summary."""
PROFILE: Final = "profile"
FUSED: Final = "fused"
DIRECT: Final = "direct"
SEMANTIC: Final = "profile-semantic"
ALL_GIVEN: Final = "profile-all"
OF_MEANING: Final = (SEMANTIC, ALL_GIVEN)
"""Settings that need sentence embeddings."""
PROFILES: Final = (
    PROFILE,
    "profile-text",
    "profile-flipped",
    "profile-popularity",
    *OF_MEANING,
)
"""Settings of the fast profile, which need no model to write or judge."""
SETTINGS: Final = (
    "none",
    DIRECT,
    "full",
    "streaming",
    "flipped",
    "drifted",
    "mixed",
    "other",
    "truth",
    "wording",
    FUSED,
    *PROFILES,
)
OF_SEVERAL: Final = ("mixed", "other")
"""Settings that need users with different histories; `drifted` does with another user's past."""
OF_LETTERS: Final = (FUSED,)
"""Settings that need the probabilities of letters, which a sampled reply has none of."""
OF_CHOICES: Final = (FUSED, *PROFILES)
"""Settings that choose and cannot answer a question."""
COMPARED: Final = (
    ("full", "none"),
    ("full", DIRECT),
    ("streaming", "full"),
    ("flipped", "full"),
    ("drifted", "streaming"),
    ("mixed", "full"),
    ("full", "other"),
    ("full", "wording"),
    (FUSED, "full"),
    (FUSED, PROFILE),
    *((name, PROFILE) for name in PROFILES[1:]),
)
"""Whose difference in accuracy is reported, paired by user."""


def answers_of(setting: str, users: int, updates: int) -> int:
    """How many answers a setting waits for: what its progress bar counts to."""
    stages = updates if setting in ("streaming", "drifted") else 1
    written = stages if setting in WRITTEN else 0
    return users * (written + 1)
