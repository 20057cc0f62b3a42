"""Personalized chat: an OpenAI-compatible request, conditioned on its user's preferences.

The request's messages go to the engine behind the user's summary (or, by mode, raw history or the
names of their preference directions); the answer comes back as the engine wrote it, without its reasoning and
with one member added: `personalization`, which says what it was conditioned on.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from alignx.schemas.interactions import ComparisonInteraction, Interaction
from alignx.schemas.requests import ChatMode, Personalization, PersonalizationUsed
from services.engine.client import RawAnswer
from services.engine.limits import Engine
from services.errors import EngineError, InvalidRequest, UserUnknown
from services.prompts.build import ChatMessage, chat_prompt, describe_directions, estimate_tokens, fit_interactions
from services.response.chat_request import ChatRequest
from services.response.thinking import hide_in_message
from services.settings import Settings
from services.storage.users import Store

DEFAULT_HISTORY: Mapping[ChatMode, int] = {"ica": 16, "pba": 16, "direct": 200}
"""Recent events that a mode reads when the request names no number."""

_TURN_TOKENS, _PART_TOKENS = 8, 1_024


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the prompt holds of the user before the conversation."""

    used: PersonalizationUsed
    summary: str | None = None
    history: tuple[Interaction, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request that is ready for the engine."""

    tenant: str
    used: PersonalizationUsed
    body: dict[str, Any]


class Chat:
    """Chat completions of one process."""

    def __init__(self, store: Store, engine: Engine, settings: Settings) -> None:
        self.store = store
        self.engine = engine
        self.settings = settings

    async def prepare(self, tenant: str, user: str | None, request: ChatRequest) -> ChatCall:
        """What the engine is asked. A user nothing is known of gets a plain answer. Raises EngineUnavailable or
        InvalidRequest."""
        body = request.engine_fields(self.settings.response.pass_fields)
        await self.engine.model()  # without an engine the answer is known before anything is read
        limit = request.max_completion_tokens or request.max_tokens
        if limit is None:
            body["max_tokens"] = limit = self.settings.response.max_tokens
        messages = [message.model_dump(mode="json", exclude_unset=True) for message in request.messages]
        conditioning = await self._condition(tenant, user, request, messages, limit)
        prompt = chat_prompt(
            _as_chat_messages(messages),
            mode=conditioning.used.mode,
            summary=conditioning.summary,
            history=conditioning.history,
        )
        return ChatCall(tenant, conditioning.used, body | {"messages": prompt.messages})

    @asynccontextmanager
    async def answer(self, call: ChatCall) -> AsyncIterator[RawAnswer]:
        """The engine's answer. Raises EngineUnavailable, EngineRejected or InvalidRequest before it begins."""
        async with self.engine.chat(call.body, tenant=call.tenant) as raw:
            yield raw

    async def _condition(
        self, tenant: str, user: str | None, request: ChatRequest, messages: list[dict[str, Any]], max_tokens: int
    ) -> Conditioning:
        requested = request.personalization or Personalization(mode="summary" if user else "none")
        if requested.mode == "none":
            return Conditioning(PersonalizationUsed(mode="none", user=user))
        if user is None:
            raise InvalidRequest(
                f"personalization.mode is {requested.mode!r}, but the request names no user.",
                errors=[{"field": "user", "message": "needed unless personalization.mode is 'none'"}],
            )
        try:
            if requested.mode == "summary":
                current = await self.store.preferences(tenant, user)
                used = PersonalizationUsed(mode="summary", user=user, version=current.version)
                return Conditioning(used, summary=current.text)
        except UserUnknown:
            return Conditioning(PersonalizationUsed(mode="none", user=user))
        count = requested.max_history or DEFAULT_HISTORY[requested.mode]
        events = [stored.interaction for stored in await self.store.events_before(tenant, user, "+", count)]
        if requested.mode == "pba":  # the texts are not shown, so they need not fit
            history = _with_directions(events)
        else:
            spent = sum(map(_message_tokens, messages)) + max_tokens
            budget = max(256, self.settings.engine.context_tokens - spent - 512)
            history = tuple(fit_interactions(events, budget))
        if not history:
            return Conditioning(PersonalizationUsed(mode="none", user=user))
        return Conditioning(PersonalizationUsed(mode=requested.mode, user=user, history=len(history)), history=history)


def _message_tokens(message: Mapping[str, Any]) -> int:
    """Estimated tokens of a message; a part that is no text, such as an image, counts as `_PART_TOKENS`."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    more = {name: value for name, value in message.items() if name not in ("role", "content")}
    text = "".join(texts) + (orjson.dumps(more).decode() if more else "")
    return estimate_tokens(text) + _TURN_TOKENS + _PART_TOKENS * (len(parts) - len(texts))


def _with_directions(events: Sequence[Interaction]) -> tuple[Interaction, ...]:
    """The comparisons that carry directions; none when these cancel out and so name no preference."""
    comparisons = tuple(event for event in events if isinstance(event, ComparisonInteraction) and event.directions)
    return comparisons if describe_directions(comparisons) else ()


def _as_chat_messages(messages: list[dict[str, Any]]) -> list[ChatMessage]:
    """The same messages; the prompt reads role and content and hands on the rest."""
    return messages  # type: ignore[return-value]


async def render_whole(raw: RawAnswer, used: PersonalizationUsed, *, reasoning: bool) -> bytes:
    """An answer that is not streamed, with `personalization` added and the reasoning hidden unless it is wanted.
    Raises EngineError."""
    body = b"".join([chunk async for chunk in raw.chunks])
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise EngineError("The engine's answer is no JSON.") from error
    if not isinstance(answer, dict):
        raise EngineError("The engine's answer is no JSON object.")
    choices = answer.get("choices")
    for choice in choices if isinstance(choices, list) and not reasoning else ():
        if isinstance(choice, dict) and isinstance(message := choice.get("message"), dict):
            hide_in_message(choice, message)
    return orjson.dumps(answer | {"personalization": used.model_dump()})
