"""Personalized chat: an OpenAI-compatible request, conditioned on its user's preferences.

The request's messages go to the engine behind the user's summary (or, by mode, raw history or the
names of their preference directions); the answer comes back as the engine wrote it, without its reasoning and
with one member added: `personalization`, which says what it was conditioned on.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import orjson

from alignx.schemas.interactions import ComparisonInteraction, Interaction
from alignx.schemas.requests import AxesUsed, ChatMode, Personalization, PersonalizationUsed
from services.engine.client import RawAnswer
from services.engine.conventions.sessions import session_of
from services.engine.limits import Engine
from services.engine.refusals import reported_error
from services.engine.spending import message_tokens
from services.errors import (
    ContextExceeded,
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    ModelUnknown,
    UserUnknown,
)
from services.outcomes.served import Outcomes, Serving
from services.profile.claims.relevance import keep_relevant, read_parts
from services.prompts.build import (
    ChatMessage,
    cap_tokens,
    chat_prompt,
    content_text,
    describe_directions,
    estimate_tokens,
    fit_interactions,
)
from services.prompts.plain import plain_chat_prompt
from services.response.axis_choice import NOT_SERVED, AxisChooser
from services.response.chat_request import ChatRequest, refuse_fields
from services.response.learning import LearnedChat, latest_turns, wants_learning
from services.response.thinking import hide_in_message
from services.settings import Settings
from services.slices import run_in_slices
from services.storage.users import Store

DEFAULT_HISTORY: Mapping[ChatMode, int] = {"ica": 16, "pba": 16, "direct": 200}
"""Recent events that a mode reads when the request names no number."""

WAITING_EVENTS, WAITING_TOKENS = 20, 1_000
"""Newest events that wait for their update and are shown beside the summary, and their estimated tokens."""

_LEAST_HISTORY = 256
"""Tokens of history shown at least, however little room there seems to be; estimates are rather too high."""
_INSTRUCTION = 512
"""Tokens kept free for fixed text and for estimates that are too low."""
_REQUESTS = 2
"""Turns of the user, the last ones, that tell what a request is about."""
_MARGIN = 64
_SHORT_ANSWER, _LEAST_ANSWER = 256, 16
"""Tokens of an answer to a prompt that seems to fill the window, and to one that does."""
_LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the prompt holds of the user before the conversation."""

    used: PersonalizationUsed
    summary: str | None = None
    history: tuple[Interaction, ...] = ()


@dataclass(frozen=True, slots=True)
class Sizes:
    """Estimated tokens of a chat."""

    limit: int
    """Of the answer at most."""
    conversation: int
    history: int
    """What the prompt holds of the user, instructions included."""

    def describe_excess(self, window: int) -> ContextExceeded:
        is_conversation = self.conversation >= self.history
        part, field = ("conversation", "messages") if is_conversation else ("user's history", "personalization")
        detail = (
            f"The {part} is too long: about {self.conversation} tokens of conversation and {self.history} of the "
            f"user's history do not fit the engine's window of {window} tokens"
        )
        return ContextExceeded(detail, errors=[{"field": field, "message": f"The {part} is too long"}], limit=window)


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request that is ready for the engine."""

    tenant: str
    used: PersonalizationUsed
    """As the answer says it, if it is kept."""
    body: dict[str, Any]
    sizes: Sizes
    serving: Serving | None = None
    """None without a user."""
    is_counted: bool = True
    """Whether the answer counts for its arm."""
    learned: LearnedChat | None = None
    """Hears the answer, if that is to become an event of the user."""


@dataclass(frozen=True, slots=True)
class Chat:
    """Chat completions of one process."""

    store: Store
    engine: Engine
    outcomes: Outcomes
    settings: Settings
    axes: AxisChooser | None
    """None where no axis adapters are served."""

    async def prepare(
        self, tenant: str, user: str | None, request: ChatRequest, *, may_append: bool = False
    ) -> ChatCall:
        """What the engine is asked. A user nothing is known of gets a plain answer. `may_append`: the caller may add to
        histories. Raises EngineUnavailable, InvalidRequest or Forbidden."""
        body = request.engine_fields(self.settings.response.pass_fields)
        learn = wants_learning(request, user, may_append=may_append)
        base = await self.engine.model()  # without an engine the answer is known before anything is read
        axes = await self._choose_adapter(tenant, request, base)
        if axes is not None:
            body["model"] = axes.adapter
        limit = request.max_completion_tokens or request.max_tokens
        if limit is None:
            body["max_tokens"] = limit = self.settings.response.max_tokens
        messages = [message.model_dump(mode="json", exclude_unset=True) for message in request.messages]
        conversation = sum(map(message_tokens, messages))
        serving = await self.outcomes.open(tenant, user, "chat", learn=learn) if user else None
        is_control = serving is not None and serving.arm == "control"
        known = await self._condition(tenant, user, request, conversation, limit, is_control=is_control)
        turns = cast("list[ChatMessage]", messages)  # the prompt reads role and content and hands on the rest
        if self._plain and known.used.mode in ("none", "summary"):
            prompt = plain_chat_prompt(turns, known.summary)
        else:
            prompt = chat_prompt(turns, mode=known.used.mode, summary=known.summary, history=known.history)
        history = max(0, sum(map(message_tokens, prompt.messages)) - conversation)
        sizes = Sizes(limit, conversation, history)
        used = known.used
        if serving:
            used = used.model_copy(update=serving.shown_fields)
        if axes is not None:
            used = used.model_copy(update={"axes": axes})
        learned = None
        if serving and serving.learn:
            used = used.model_copy(update={"learn": True})
            most_bytes = self.settings.limits.event_bytes
            learned = LearnedChat(self.outcomes, serving, latest_turns(request.messages), most_bytes)
        is_counted = request.personalization is None or request.personalization.mode != "none"
        body |= {"messages": prompt.messages}
        return ChatCall(tenant, used, body, sizes, serving, is_counted, learned)

    async def record(self, call: ChatCall) -> PersonalizationUsed:
        """Keeps and counts the answer, once the engine has begun it: one that fails before is none. What the answer
        says of itself; it has no id where it is not kept."""
        if call.serving is None:
            return call.used
        served = await self.outcomes.record(call.serving, is_counted=call.is_counted)
        return call.used.model_copy(update=served)

    async def models(self) -> list[dict[str, Any]]:
        """The models that a chat may name, as OpenAI's model objects. Raises EngineUnavailable."""
        hidden = self.axes.adapters if self.axes else ()
        return [model for model in await self.engine.models() if model["id"] not in hidden]

    async def _choose_adapter(self, tenant: str, request: ChatRequest, base: str) -> AxesUsed | None:
        requested = request.personalization.axes if request.personalization else None
        if self.axes is None:
            if requested is not None:
                raise refuse_fields(("personalization.axes", NOT_SERVED))
            return None
        return await self.axes.choose(tenant, requested, request.model, base, partial(_latest_request, request))

    @property
    def _plain(self) -> bool:
        """Whether the engine's model is a small one: it foresees choices by likelihood rather than by letters."""
        return self.engine.protocol == "likelihood"

    @asynccontextmanager
    async def answer(self, call: ChatCall) -> AsyncIterator[RawAnswer]:
        """The engine's answer. Raises EngineUnavailable, EngineRejected or InvalidRequest before it begins."""
        async with AsyncExitStack() as stack:
            yield await self._send(stack, call)

    async def _send(self, stack: AsyncExitStack, call: ChatCall) -> RawAnswer:
        """The answer, of as many tokens as the window leaves; the one that a refusal names counts for this chat.
        Raises ContextExceeded, which says what is too long."""
        tried: dict[int, ContextExceeded] = {}
        window = self.engine.context_tokens
        while True:
            room = window - call.sizes.conversation - call.sizes.history - _MARGIN
            limit = min(call.sizes.limit, max(room, _SHORT_ANSWER))
            if limit in tried:  # the engine's refusal named no smaller window
                limit = min(call.sizes.limit, _LEAST_ANSWER)
            if limit in tried:
                raise call.sizes.describe_excess(window) from tried[limit]
            fields = {name: min(call.body[name], limit) for name in _LIMITS if call.body.get(name)}
            try:
                with session_of(call.tenant, call.used.user):
                    return await stack.enter_async_context(self.engine.chat(call.body | fields, tenant=call.tenant))
            except ContextExceeded as error:
                tried[limit] = error
                window = min(self.engine.context_tokens, error.extensions.get("limit", window))
            except ModelUnknown as error:
                if call.used.axes is None:
                    raise
                raise EngineUnavailable(f"The engine has not loaded the adapter {call.used.axes.adapter}") from error

    async def _condition(
        self,
        tenant: str,
        user: str | None,
        request: ChatRequest,
        conversation: int,
        max_tokens: int,
        *,
        is_control: bool,
    ) -> Conditioning:
        window = self.engine.context_tokens
        room = window - conversation - min(max_tokens, window // 2) - _INSTRUCTION
        requested = request.personalization or Personalization(mode="summary" if user else "none")
        if user is None and "mode" not in requested.model_fields_set:
            requested = Personalization(mode="none")
        if requested.mode == "none" or is_control:
            return Conditioning(PersonalizationUsed(mode="none", user=user))
        if user is None:
            raise InvalidRequest(
                f"personalization.mode is {requested.mode!r}, but the request names no user.",
                errors=[{"field": "user", "message": "needed unless personalization.mode is 'none'"}],
            )
        try:
            if requested.mode == "summary":
                current = await self.store.preferences(tenant, user)
                # Version 0 is the profile's text, which includes every event.
                waiting = min(current.pending, WAITING_EVENTS) if current.version and not self._plain else 0
                stored = await self.store.events_before(tenant, user, "+", waiting) if waiting else []
                await run_in_slices(read_parts(current.text))
                relevant = keep_relevant(current.text, _latest_request(request))
                text = cap_tokens(relevant, max(room, window // 4))
                left = min(WAITING_TOKENS, room - estimate_tokens(text))
                events = [event.interaction for event in stored]
                news = tuple(fit_interactions(events, left)) if left >= _LEAST_HISTORY else ()
                used = PersonalizationUsed(mode="summary", user=user, version=current.version, history=len(news))
                return Conditioning(used, summary=text or None, history=news)
        except UserUnknown:
            return Conditioning(PersonalizationUsed(mode="none", user=user))
        count = requested.max_history or DEFAULT_HISTORY[requested.mode]
        events = [stored.interaction for stored in await self.store.events_before(tenant, user, "+", count)]
        if requested.mode == "pba":  # the texts are not shown, so they need not fit
            history = _with_directions(events)
        else:
            history = tuple(fit_interactions(events, max(_LEAST_HISTORY, room)))
        if not history:
            return Conditioning(PersonalizationUsed(mode="none", user=user))
        return Conditioning(PersonalizationUsed(mode=requested.mode, user=user, history=len(history)), history=history)


def _latest_request(request: ChatRequest) -> str:
    """What the user asked last, behind what they asked before it: "and a cheaper one?" tells no subject by itself."""
    asked = [content_text(message.content) for message in request.messages if message.role == "user"]
    return "\n".join(asked[-_REQUESTS:])


def _with_directions(events: Sequence[Interaction]) -> tuple[Interaction, ...]:
    """The comparisons that carry directions; none when these cancel out and so name no preference."""
    comparisons = tuple(event for event in events if isinstance(event, ComparisonInteraction) and event.directions)
    return comparisons if describe_directions(comparisons) else ()


async def render_whole(raw: RawAnswer, *, reasoning: bool) -> dict[str, Any]:
    """An answer that is not streamed, with the reasoning hidden unless it is wanted. Raises EngineError and
    EngineUnavailable, also for an error of status 200."""
    body = b"".join([chunk async for chunk in raw.chunks])
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise EngineError("The engine's answer is not JSON") from error
    if not isinstance(answer, dict):
        raise EngineError("The engine's answer is not a JSON object")
    if answer.get("error"):
        raise reported_error(answer)
    choices = answer.get("choices")
    for choice in choices if isinstance(choices, list) and not reasoning else ():
        if isinstance(choice, dict) and isinstance(message := choice.get("message"), dict):
            hide_in_message(choice, message)
    return answer
