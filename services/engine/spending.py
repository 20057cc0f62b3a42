"""What a call to the engine may take of its tenant's token budget, and what it has taken.

Tokens are the engine's: prompt plus completion. Before a call they are estimated; afterwards the engine's own `usage`
counts, and where it says nothing, as of an answer that was left early, what has been written so far is estimated.
services/server/token_budgets.py keeps the budgets.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from services.engine.guard import CallKind, Progress
from services.engine.wire import Body
from services.errors import AlignXError
from services.prompts.build import estimate_tokens

_TURN_TOKENS, _PART_TOKENS = 8, 1_024
_SHOWN_FIELDS = ("tools", "documents")
"""Fields of a chat that a template writes into the prompt beside its messages."""

Reserve = Callable[[CallKind, str, Body, Progress], AbstractAsyncContextManager[None]]
"""Surrounds a call of this kind, on behalf of this tenant, with this body: takes its estimate from the budget and gives
back at the end what its Progress shows as not used. Raises BudgetSpent."""


@asynccontextmanager
async def unbudgeted(_kind: CallKind, _tenant: str, _body: Body, _progress: Progress) -> AsyncIterator[None]:
    """Without budgets."""
    yield


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of a call before it is made, rather too many than too few."""

    prompt: int
    completion: int
    """What the request allows, over all choices that it asks for."""
    streamed: bool

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def used(self, progress: Progress, error: BaseException | None) -> int:
        """Tokens that the call has taken, by how it ended. One that was refused, or failed before its first text, has
        taken none; of one that was left early, or that reports no usage, what was written counts if that was seen,
        else the whole estimate."""
        if reported := progress.tokens.prompt + progress.tokens.completion:
            return reported
        has_failed = isinstance(error, AlignXError) and progress.first_text is None and not progress.overlong
        if progress.sent_at is None or has_failed:
            return 0
        if self.streamed:
            return self.prompt + min(progress.written.tokens if progress.written else 0, self.completion)
        return self.total


def estimate_call(body: Body) -> Estimate:
    """Of the body of a chat or a completion."""
    prompt = body.get("prompt", ())
    tokens = estimate_tokens(prompt) if isinstance(prompt, str) else len(prompt)
    tokens += sum(map(message_tokens, body.get("messages", ())))
    tokens += sum(estimate_tokens(orjson.dumps(body[name]).decode()) for name in _SHOWN_FIELDS if body.get(name))
    limit = max(body.get("max_tokens") or 0, body.get("max_completion_tokens") or 0)
    return Estimate(tokens, limit * (body.get("n") or 1), bool(body.get("stream")))


def message_tokens(message: Mapping[str, Any]) -> int:
    """Estimated tokens of a message; a part that is no text, such as an image, counts as `_PART_TOKENS`."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    more = {name: value for name, value in message.items() if name not in ("role", "content")}
    text = "".join(texts) + (orjson.dumps(more).decode() if more else "")
    return estimate_tokens(text) + _TURN_TOKENS + _PART_TOKENS * (len(parts) - len(texts))
