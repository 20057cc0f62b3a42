"""Writes summaries: from new events and the past summary (streaming), or from the whole history.

A `Writer` makes a draft from events, past summary and profile. With an engine it sends the prompt that the model was
trained with and streams its reply; without one it renders the fast profile. After a reply that is no summary it sends
one more request; then the update fails, the summary stays as it is, and the reply is a rejected draft. A prompt that
is longer than the engine's window is sent again with half of everything, and so is a long event that is refused
alone: engines have more words for too long a prompt than can be known.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from alignx.schemas.interactions import ComparisonInteraction, Interaction
from alignx.schemas.summaries import Claim, StoredInteraction, SummaryVersion, TokenCounts
from services.engine.limits import Engine
from services.engine.wire import Completion, Delta
from services.errors import ContextExceeded, EngineRejected, UnusableReply
from services.preference.live import Listener
from services.preference.updates.budgets import LEAST_EVENT_TOKENS, Budgets, share_window
from services.preference.updates.sentence_support import support_sentences
from services.preference.updates.support import check_supported
from services.preference.updates.update_metrics import WorkerMetrics
from services.preference.updates.user_rules import UserRules
from services.profile.fold import fold
from services.profile.stated.sensitive import DEFAULT, Policy
from services.profile.statistics import EMPTY, Profile
from services.prompts.build import Prompt, estimate_tokens, fit_interactions, plain_history
from services.prompts.profiles import fixed_text, load_profile
from services.prompts.replies.parse_summary import SummaryPreview, parse_summary
from services.prompts.replies.summary_checks import CHECKS, Check, Evidence
from services.prompts.sentences import split_sentences
from services.settings import SummarySettings
from services.storage.user_profile import tell_profile

T = TypeVar("T")

PROFILE_SOURCE = "profile"
BACKGROUND = 10
"""Priority of an update at the engine; chat runs at 0, and lower goes first."""
_SPARE_TOKENS = 512
"""Margin of a longer second reply, because estimates of tokens may be too low."""
_LONG_CHARS = 2_000
"""A reply of so many characters, with what it is compared with, takes ten milliseconds to check."""
_LOOP_PENALTY = 0.5
"""`frequency_penalty` of the request after a reply that repeats itself."""
_PROBE = ComparisonInteraction(
    query="How long do I boil an egg?",
    chosen="Six minutes for a soft egg, ten for a hard one.",
    rejected="Great question! Boiling an egg is a wonderful journey, so let us take our time.",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Sampling parameters of one request for a summary."""

    max_tokens: int
    temperature: float
    thinking: bool = True
    frequency_penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class Material:
    """The input of a summary."""

    tenant: str
    interactions: Sequence[Interaction]
    past: SummaryVersion | None
    """None for a first or a full-history inference."""
    profile: Profile
    may_drop: bool = False
    """Whether the oldest events may be left out, as those of a whole history or of one alone; else they are
    shortened or divided by the queue."""
    whole_history: bool = False
    events: Sequence[StoredInteraction] = ()
    """Those that an engine's sentences may rest on."""
    event_ids: Sequence[str] = ()
    """Of the newest events in the profile, oldest first: those that its sentences may rest on."""
    policy: Policy = DEFAULT

    @property
    def rules(self) -> UserRules:
        return UserRules(self.profile, self.policy)


@dataclass(frozen=True, slots=True)
class Draft:
    """A summary that is not yet a version."""

    text: str
    source: str
    reasoning: str | None = None
    template: str | None = None
    tokens: TokenCounts = field(default_factory=TokenCounts)
    claims: tuple[Claim, ...] = ()


class Writer(Protocol):
    async def write(self, material: Material, listener: Listener) -> Draft:
        """Raises EngineUnavailable, EngineRejected, UnusableReply or EngineError."""
        ...

    async def name(self) -> str:
        """The model and the prompt template that write; empty for what needs no trial. Raises EngineUnavailable."""
        ...

    async def probe(self) -> None:
        """Tests the engine with the draft of a fixed event. Raises what `write` raises."""
        ...


class ProfileWriter:
    """The fast profile in words: no engine, no tokens."""

    async def write(self, material: Material, listener: Listener) -> Draft:
        text, claims = tell_profile(material.profile, material.event_ids, material.policy)
        await listener.begin()
        await listener.show(text)
        return Draft(text=text, source=PROFILE_SOURCE, claims=claims)

    async def name(self) -> str:
        return ""

    async def probe(self) -> None:
        pass  # it never fails


class EngineWriter:
    """The model's reply to the update prompt, behind what the user pinned."""

    def __init__(self, engine: Engine, settings: SummarySettings, metrics: WorkerMetrics) -> None:
        self.engine = engine
        self.settings = settings
        self.metrics = metrics
        self.prompts = load_profile(settings.prompts)
        self.instructions = fixed_text(self.prompts)

    def budgets(self, own: str = "") -> Budgets:
        return share_window(self.engine.context_tokens, self.settings, self.prompts, own)

    async def write(self, material: Material, listener: Listener) -> Draft:
        if not self.prompts.shows(material.interactions):
            return await self._write_nothing(material, listener)
        budgets, count = self.budgets(material.profile.own), self.prompts.interaction_tokens
        while True:
            try:
                return await self._write(material, budgets, listener)
            except EngineRejected as error:
                is_too_long = isinstance(error, ContextExceeded) or len(material.interactions) == 1
                shown = sum(map(count, material.interactions))
                budgets = replace(budgets.halve(), events=min(shown, budgets.events) // 2)
                if budgets.events < LEAST_EVENT_TOKENS or not (material.may_drop and is_too_long):
                    raise
                kept = fit_interactions(material.interactions, budgets.events, count)
                material = replace(material, interactions=kept)

    async def _write_nothing(self, material: Material, listener: Listener) -> Draft:
        """The model's prompts say nothing of these events: the summary stays, or the profile writes one."""
        past = material.past
        if past is None or past.source == PROFILE_SOURCE:
            return await ProfileWriter().write(material, listener)
        return Draft(text=past.text, source=past.source, template=past.template, claims=past.claims)

    async def _write(self, material: Material, budgets: Budgets, listener: Listener) -> Draft:
        past = material.rules.pin(material.past.text) if material.past else None
        prompt = self.prompts.update_prompt(
            past,
            material.interactions,
            past_tokens=budgets.past,
            whole_history=material.whole_history,
        )
        evidence = self._evidence(material.interactions, past or "")
        first = Attempt(budgets.reply, self.settings.temperature)
        try:
            return await self._draft(material, prompt, evidence, first, listener)
        except UnusableReply as error:
            unusable = error
        attempt = self._retry_attempt(unusable.reason, prompt, budgets.reply)
        try:
            return await self._draft(material, prompt, evidence, attempt, listener)
        except EngineRejected:
            if attempt.frequency_penalty:  # not every engine takes it
                raise unusable from None
            raise

    def _evidence(self, interactions: Sequence[Interaction], past: str = "") -> Evidence:
        return Evidence(plain_history(interactions), past, self.instructions)

    async def name(self) -> str:
        return f"llm:{await self.engine.model()} {self._first_prompt().template}"

    def _first_prompt(self) -> Prompt:
        return self.prompts.update_prompt(None, [_PROBE], past_tokens=self.budgets().past)

    async def probe(self) -> None:
        attempt = Attempt(self.budgets().reply, self.settings.temperature)
        material = Material("", [_PROBE], None, fold(EMPTY, _PROBE)[0])
        await self._draft(material, self._first_prompt(), self._evidence([_PROBE]), attempt, Listener())

    def _retry_attempt(self, reason: str, prompt: Prompt, max_tokens: int) -> Attempt:
        """The second request: twice the tokens after a reply that the limit cut off, no reasoning after one that
        held nothing else, half the temperature after any other, and a penalty on repetition after a loop."""
        if reason not in ("complete", "separable"):
            penalty = _LOOP_PENALTY if reason == "degenerate" else 0.0
            return Attempt(max_tokens, self.settings.temperature / 2, frequency_penalty=penalty)
        used = sum(estimate_tokens(message["content"]) for message in prompt.messages)
        room = self.engine.context_tokens - used - _SPARE_TOKENS
        most = max(max_tokens, min(2 * max_tokens, room))
        return Attempt(most, self.settings.temperature, thinking=reason == "complete")

    async def _draft(
        self, material: Material, prompt: Prompt, evidence: Evidence, attempt: Attempt, listener: Listener
    ) -> Draft:
        await listener.begin()
        rules = material.rules
        preview = SummaryPreview(evidence.instructions, lambda text: rules.pin(rules.drop_denied(text)))
        completion: Completion | None = None
        penalty: dict[str, Any] = {"frequency_penalty": attempt.frequency_penalty} if attempt.frequency_penalty else {}
        stream = self.engine.stream(
            prompt.messages,
            tenant=material.tenant,
            max_tokens=attempt.max_tokens,
            temperature=attempt.temperature,
            top_p=self.settings.top_p,
            top_k=self.settings.top_k,
            thinking=attempt.thinking,
            priority=BACKGROUND,
            **penalty,
        )
        async with aclosing(stream) as parts:
            async for part in parts:
                listener.engine_answers()
                match part:
                    case Delta(text=text):
                        if preview.add(text):
                            await _show(listener, await _off_the_loop(preview.read, len(preview.reply)), preview)
                    case Completion():
                        completion = part
        assert completion is not None, "a stream ends with its completion"
        draft = await self._parse(preview.reply, completion, evidence, material, prompt.template)
        await _show(listener, preview.end(draft.text), preview)
        return draft

    async def _parse(
        self, text: str, completion: Completion, evidence: Evidence, material: Material, template: str
    ) -> Draft:
        rules, source = material.rules, f"llm:{completion.model}"

        def parse() -> tuple[Draft, tuple[Check, ...], int]:
            """The draft, what the checks removed, and how many sentences were dropped for their subject."""
            most, own = self.settings.max_chars, rules.own
            reply = parse_summary(
                text,
                max_chars=max(most - len(own), most // 4),
                finish_reason=completion.finish_reason,
                evidence=evidence,
            )
            allowed = rules.drop_denied(reply.text)
            rules.check_pin(allowed)
            check_supported(allowed, material.profile, evidence, grounded=self.settings.grounded)
            summary = rules.pin(allowed)
            known = material.past.claims if material.past else ()
            draft = Draft(
                text=summary,
                reasoning=rules.redact(reply.reasoning or "") or None if self.settings.keep_reasoning else None,
                source=source,
                template=template,
                tokens=completion.tokens,
                claims=support_sentences(summary, own, material.events, known),
            )
            return draft, reply.removed, len(split_sentences(reply.text)) - len(split_sentences(allowed))

        try:
            draft, removed, denied = await _off_the_loop(parse, len(text) + len(evidence.events) + len(evidence.past))
        except UnusableReply as error:
            self.metrics.checks.labels(error.reason, "refused").inc()
            error.reply, error.source = rules.redact(text), source
            raise
        cleaned = {*removed, *(("sensitive",) if denied else ())}
        for check in CHECKS:
            self.metrics.checks.labels(check, "cleaned" if check in cleaned else "passed").inc()
        self.metrics.sentences.labels("denied").inc(denied)
        return draft


async def _off_the_loop(read: Callable[[], T], chars: int) -> T:
    """What `read` says of a text of so many characters; a thread reads a long one, which takes milliseconds."""
    return read() if chars < _LONG_CHARS else await asyncio.to_thread(read)


async def _show(listener: Listener, added: str | None, preview: SummaryPreview) -> None:
    if added is None:  # what was shown was wrong
        await listener.begin()
    if text := preview.shown if added is None else added:
        await listener.show(text)
