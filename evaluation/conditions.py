"""The settings of an evaluation: what the judge reads about each user before it chooses.

    none       nothing: the control, which must stay near one half
    direct     the history itself, as far as it fits, without a summary
    full       a summary inferred from the whole history at once
    streaming  a summary updated part by part, each time from the past summary and the new part
    flipped    full, with a share of the history's choices reversed
    drifted    streaming, with the older half of the history reversed or another user's
    mixed      full, with events of another user inserted
    other      another user's full summary: whether the judge reads it at all
    truth      the summary that the row itself carries: the upper bound of the judge
    wording    the fast profile's text, written without a model
    contrast   no summary: which item the user's chosen answers make likelier than the rejected ones, by likelihood
    fused      full, contrast and the fast profile, by weights that the other rows earn, as in serving
    fused-wording  the same with wording in place of full: what a small engine is worth that cannot write summaries
    profile    no judge: the fast profile scores the items (evaluation/scoring/profile_scores.py has its variants, and
               `without-…`, the profile with one of its parts switched off)

A summary passes services.prompts.replies.parse_summary, as in serving: a reply that serving refuses leaves the past
summary in place.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from alignx.schemas.interactions import Interaction
from evaluation.cases.cases import RECOMMENDATION, User
from evaluation.cases.perturbations import (
    Drift,
    flip_choices,
    mix_histories,
    pick_other_users,
    replace_past,
    split_history,
)
from evaluation.models import Model, Sampling, Tick
from services.profile.render import render
from services.prompts.build import fit_interactions, plain_history
from services.prompts.profiles import fixed_text, load_profile
from services.prompts.replies.summary_checks import Evidence
from training.config import Fraction, PositiveInt, Prompts, Section
from training.rl.rewards import answer_of, well_formed

Summary = str | None
Setting = Literal[
    "none",
    "direct",
    "full",
    "streaming",
    "flipped",
    "drifted",
    "mixed",
    "other",
    "truth",
    "wording",
    "contrast",
    "fused",
    "fused-wording",
    "profile",
    "profile-text",
    "profile-flipped",
    "profile-popularity",
    "without-clauses",
    "without-memory",
    "without-meaning",
    "without-words",
    "without-categories",
    "without-style",
    "without-years",
]
SETTINGS: Final[tuple[Setting, ...]] = get_args(Setting)
ABLATIONS: Final = tuple(setting for setting in SETTINGS if setting.startswith("without-"))
"""The fast profile with one of its parts switched off."""
PROFILE_SETTINGS: Final = (*(setting for setting in SETTINGS if setting.startswith("profile")), *ABLATIONS)
"""Settings of the fast profile, which need no model."""
POPULARITY_SETTINGS: Final[tuple[Setting, ...]] = ("profile-popularity",)
"""Settings that read how often others took an item."""
SUMMARY_FREE_SETTINGS: Final[tuple[Setting, ...]] = ("none", "direct", "contrast")
"""Settings whose judge reads no summary."""
MULTI_USER_SETTINGS: Final[tuple[Setting, ...]] = ("mixed", "other")
"""Settings that need users with different histories; so does `drifted` with another user's past."""
LIKELIHOOD_SETTINGS: Final[tuple[Setting, ...]] = ("contrast",)
"""Settings that need protocol.choice="likelihood"."""
FUSED_SETTINGS: Final[tuple[Setting, ...]] = ("fused", "fused-wording")
"""Settings that need probabilities, which a sampled reply does not have."""
CHOICE_SETTINGS: Final = ("contrast", *FUSED_SETTINGS, *PROFILE_SETTINGS)
"""Settings that choose and cannot answer a question."""
COMPARISONS: Final[tuple[tuple[Setting, Setting], ...]] = (
    ("full", "none"),
    ("full", "direct"),
    ("streaming", "full"),
    ("flipped", "full"),
    ("drifted", "streaming"),
    ("mixed", "full"),
    ("full", "other"),
    ("full", "wording"),
    ("fused", "full"),
    ("fused", "profile"),
    ("fused-wording", "profile"),
    *((setting, PROFILE_SETTINGS[0]) for setting in PROFILE_SETTINGS[1:]),
)
"""Pairs whose difference in accuracy is reported, paired by user."""


class Answering(Sampling):
    """How questions are answered."""

    max_tokens: PositiveInt = 512
    thinking: bool = False


FAMILY: Final[dict[str, Any]] = {
    "sampling": {"max_tokens": 4_096},
    "prompts": "alignxplore-plus",
    "selection_prompts": "alignxplore-plus",
    "history_tokens": 16_384,
    "past_tokens": 4_096,
    "max_chars": 32_000,
    "choice": "sampled",
}
"""What the protocol of the AlignX family sets beside the cuts of histories."""
STREAMED_TOKENS: Final = 13_653
"""Below so many tokens the family halves a part of a streamed history."""


class Protocol(Section):
    """What all settings of a run have in common."""

    name: Literal["own", "family"] = "own"
    """`protocol=family` sets what AlignXplore+ was published with; fields beside it go before. Histories are then read
    in halves, of recommendation in thirds, of which the last is unread; one that is too long is halved."""
    sampling: Sampling = Sampling()
    """Of summaries."""
    prompts: Prompts = "own"
    """What the model reads that writes the summaries, as in serving."""
    selection_prompts: Prompts = "own"
    """What the judge reads."""
    seed: Annotated[int, Field(ge=0)] = 0
    updates: PositiveInt = 2
    """Of streaming."""
    flip: Fraction = 0.3
    """Share of choices reversed in `flipped`."""
    drift: Drift = "reversed"
    """What the older half of the history becomes in `drifted`."""
    mix: Fraction = 0.5
    """Events of another user in `mixed`, as a share of the user's own."""
    history_tokens: PositiveInt = 4_096
    """Estimated tokens of the events in one prompt; beyond them the oldest events are left out."""
    past_tokens: PositiveInt = 1_024
    """Estimated tokens of the past summary in one prompt."""
    max_chars: PositiveInt = 8_000
    """Longest summary."""
    batch: PositiveInt = 64
    """Users judged at once."""
    choice: Literal["forced", "likelihood", "sampled"] = "forced"
    """How the judge chooses: letter probabilities in all orders, likelihoods of the items (a history in place of a
    summary is still judged by letters), or one reply of 16 sampled tokens."""
    answering: Answering = Answering()

    @model_validator(mode="before")
    @classmethod
    def _fill_family(cls, values: Any) -> Any:
        if values == "family":
            values = {"name": "family"}
        if not (isinstance(values, dict) and values.get("name") == "family"):
            return values
        sampling = values.get("sampling", {})
        if isinstance(sampling, dict):
            sampling = FAMILY["sampling"] | sampling
        return FAMILY | values | {"sampling": sampling}

    @model_validator(mode="after")
    def _check_updates(self) -> Self:
        if self.name == "family" and self.updates != 2:
            raise ValueError("updates: protocol family streams in two parts")
        return self


@dataclass
class Inference:
    """Writes the summaries of one setting, and counts how the replies were."""

    model: Model
    protocol: Protocol
    tick: Tick
    replies: int = 0
    well_formed: int = 0
    usable: int = 0
    shortened: set[int] = field(default_factory=set)
    """Indices of users whose history did not fit."""
    templates: set[str] = field(default_factory=set)
    summaries: list[Summary] = field(default_factory=list)
    """The last one of each user."""

    def fit_history(
        self, user: int, history: Sequence[Interaction], *, is_streamed: bool = False
    ) -> Sequence[Interaction]:
        """The newest events that fit into one prompt."""
        prompts, tokens = load_profile(self.protocol.prompts), self.protocol.history_tokens
        if self.protocol.name == "family" and is_streamed:
            tokens = min(tokens, STREAMED_TOKENS)
        while self.protocol.name == "family" and len(history) > 1:
            if sum(map(prompts.interaction_tokens, history)) < tokens:
                return history
            history = history[len(history) // 2 :]
            self.shortened.add(user)
        events = fit_interactions(history, tokens, prompts.interaction_tokens)
        if history and (len(events) < len(history) or events[-1] is not history[-1]):
            self.shortened.add(user)
        return events

    async def update(
        self, past: Sequence[Summary], histories: Sequence[Sequence[Interaction]], *, whole_history: bool = False
    ) -> list[Summary]:
        """The summaries after `histories`; without events to show, or after an unusable reply, the past one."""
        profile = load_profile(self.protocol.prompts)
        users = [user for user, events in enumerate(histories) if events and profile.shows(events)]
        prompts, evidence = [], []
        for user in users:
            events = self.fit_history(user, histories[user], is_streamed=not whole_history)
            prompt = profile.update_prompt(
                past[user], events, past_tokens=self.protocol.past_tokens, whole_history=whole_history
            )
            self.templates.add(prompt.template)
            prompts.append(prompt.messages)
            evidence.append(Evidence(plain_history(events), past[user] or "", fixed_text(profile)))
        sampling, seed = self.protocol.sampling, self.protocol.seed
        replies = await self.model.write(prompts, sampling, seed=seed, tick=self.tick)
        summaries = list(past)
        for user, reply, source in zip(users, replies, evidence, strict=True):
            text = answer_of(reply, max_chars=self.protocol.max_chars, evidence=source)
            self.replies += 1
            self.well_formed += well_formed(reply, opened=self.model.opens_thinking)
            self.usable += bool(text)
            summaries[user] = text or past[user]
        return summaries

    async def full(self, users: Sequence[User]) -> list[Summary]:
        """Of recommendation rows the family's protocol leaves the last third unread."""
        histories = [tuple(chain.from_iterable(self._parts(user))) for user in users]
        return await self.update([None] * len(users), histories, whole_history=True)

    def _parts(self, user: User) -> list[Sequence[Interaction]]:
        """Of the user's history, oldest first, as `streaming` reads them."""
        if self.protocol.name != "family":
            return [*split_history(user, self.protocol.updates)]
        is_third = user.kind == RECOMMENDATION
        size = len(user.history) // (3 if is_third else 2)
        return [user.history[:size], user.history[size : 2 * size if is_third else None]]

    async def streaming(self, users: Sequence[User]) -> list[Summary]:
        summaries: list[Summary] = [None] * len(users)
        parts = [self._parts(user) for user in users]
        for stage in range(self.protocol.updates):
            events = [of_user[stage] if stage < len(of_user) else () for of_user in parts]
            summaries = await self.update(summaries, events)
        return summaries

    async def flipped(self, users: Sequence[User]) -> list[Summary]:
        return await self.full(flip_choices(users, self.protocol.flip, seed=self.protocol.seed))

    async def drifted(self, users: Sequence[User]) -> list[Summary]:
        return await self.streaming(replace_past(users, self.protocol.drift, seed=self.protocol.seed))

    async def mixed(self, users: Sequence[User]) -> list[Summary]:
        return await self.full(mix_histories(users, self.protocol.mix, seed=self.protocol.seed))

    async def other(self, users: Sequence[User]) -> list[Summary]:
        """Raises ConfigError where all have the same history."""
        summaries = await self.full(users)
        return [summaries[index] for index in pick_other_users(users)]


def write_wording(user: User) -> Summary:
    return render(user.profile)


FIXED_SUMMARIES: Final[dict[str, Callable[[User], Summary]]] = {
    "none": lambda user: None,
    "direct": lambda user: None,
    "contrast": lambda user: None,
    "truth": lambda user: user.truth,
    "wording": write_wording,
    "fused-wording": write_wording,
}
"""Settings for which the model writes nothing."""
WRITERS: Final[dict[str, Callable[[Inference, Sequence[User]], Awaitable[list[Summary]]]]] = {
    "full": Inference.full,
    "streaming": Inference.streaming,
    "flipped": Inference.flipped,
    "drifted": Inference.drifted,
    "mixed": Inference.mixed,
    "other": Inference.other,
    "fused": Inference.full,
}


def count_answers(setting: str, users: int, updates: int) -> int:
    """The number of answers a setting needs: the total of its progress bar."""
    stages = updates if setting in ("streaming", "drifted") else 1
    written = stages if setting in WRITERS else 0
    return users * (written + 1)
