"""The wire format of an engine: what a request asks for, and how its answer is read (streamed events, raw
bytes, token counts, and the errors it reports)."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
import orjson

from alignx.schemas.summaries import TokenCounts
from services.engine.limits import Progress
from services.errors import ContextExceeded, EngineError, EngineRejected, EngineUnavailable

BROKEN_OFF = "The engine broke off its answer"
OVERLONG = "The engine took too long; ask for a stream or for fewer tokens"
UNREADABLE = "The engine's answer is not in OpenAI's format"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_TAIL_BYTES = 2048
"""End of a raw answer kept to find `[DONE]` and the token counts, which come last."""


def sampling(max_tokens: int, temperature: float, top_p: float, top_k: int) -> dict[str, Any]:
    """Top-k is not part of OpenAI's API, so it is sent only when it limits something."""
    asked = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
    return asked | ({"top_k": top_k} if top_k > 0 else {})


@dataclass(frozen=True)
class Delta:
    """A piece of text as it is written."""

    text: str


@dataclass(frozen=True)
class Completion:
    """A whole answer. Reasoning that the engine reports apart stands in <think> tags."""

    text: str
    finish_reason: str | None
    tokens: TokenCounts
    model: str


class RawAnswer(NamedTuple):
    """The engine's own bytes, for pass-through."""

    status: int
    content_type: str
    chunks: AsyncIterator[bytes]


class Reply:
    """Gathers a streamed answer."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._pieces: list[str] = []
        self._finish_reason: str | None = None
        self._tokens = TokenCounts()
        self._thinking = False
        self._answered = False

    @property
    def ended(self) -> bool:
        """Whether the engine has said why it stopped: the answer is whole, also without a `[DONE]`."""
        return self._finish_reason is not None

    def add(self, event: Any) -> str:
        """Takes one event and returns the text it adds. One without choices, such as a ping, adds none."""
        if not isinstance(event, dict):
            raise EngineError(UNREADABLE)
        if event.get("error") is not None:
            raise reported(event)
        self._model = event.get("model") or self._model
        if (usage := event.get("usage")) is not None:
            self._tokens = token_counts(usage)
        choices = event.get("choices") or []
        if not isinstance(choices, list):
            raise EngineError(UNREADABLE)
        if not choices:
            return ""
        self._answered = True
        self._finish_reason = member(choices[0], "finish_reason") or self._finish_reason
        return self._kept(self._text(member(choices[0], "delta")))

    def _text(self, delta: Any) -> str:
        # An engine with a reasoning parser reports reasoning in a field of its own.
        reasoning = _plain_text(member(delta, "reasoning") or member(delta, "reasoning_content"))
        content = _plain_text(member(delta, "content"))
        text = ""
        if reasoning:
            text = reasoning if self._thinking else f"<think>{reasoning}"
            self._thinking = True
        if content:
            text += f"</think>{content}" if self._thinking else content
            self._thinking = False
        return text

    def end(self) -> str:
        return self._kept("</think>") if self._thinking and self._finish_reason == "stop" else ""

    def _kept(self, text: str) -> str:
        if text:
            self._pieces.append(text)
        return text

    def completion(self) -> Completion:
        """The whole answer. Raises EngineError where no event held a choice."""
        if not self._answered:
            raise EngineError(UNREADABLE)
        return Completion("".join(self._pieces), self._finish_reason, self._tokens, self._model)


def _plain_text(content: Any) -> str:
    """The text of a delta: a string, or a list of parts with texts. Raises EngineError for anything else."""
    if isinstance(content, list):
        content = "".join(text for part in content if isinstance(text := member(part, "text"), str))
    if not isinstance(content, str | None):
        raise EngineError(UNREADABLE)
    return content or ""


async def read_answer(response: aiohttp.ClientResponse, reply: Reply) -> AsyncIterator[str]:
    """The texts of a streamed answer as `reply` gathers it. An answer that ends with neither `[DONE]` nor
    a finish reason broke off: EngineUnavailable."""
    try:
        async for line in _lines(response):
            data = line.removeprefix(b"data:").strip()
            if not line.startswith(b"data:") or not data:
                if reply.ended and line.startswith((b":", b"event:")):  # what keeps a connection open tells no more
                    return
                continue
            if data == b"[DONE]":
                return
            if text := reply.add(parsed(data)):
                yield text
    except aiohttp.ClientError:
        if not reply.ended:
            raise
    if not reply.ended:
        raise EngineUnavailable(BROKEN_OFF)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    held = b""
    async for chunk in response.content.iter_any():
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line
    yield held


_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_DONE = b"data: [DONE]\n\n"


async def raw_chunks(
    first: bytes, rest: AsyncIterator[bytes], streamed: bool, progress: Progress
) -> AsyncGenerator[bytes, None]:
    """Passes an answer through and notes how it ended, also for a caller that handles the error
    inside the call. A stream that ends behind its finish reason gets the `[DONE]` it lacks."""
    tail = first[-_TAIL_BYTES:]
    broken: Exception | None = None
    yield first
    try:
        async for chunk in rest:
            tail = (tail + chunk)[-_TAIL_BYTES:]
            yield chunk
    except aiohttp.ClientError as error:
        broken = error
    done = not streamed or b"data: [DONE]" in tail
    ended = streamed and bool(_FINISHED.search(tail))
    if not first or not (ended or (done and not broken)):
        progress.error = EngineUnavailable(BROKEN_OFF)
        raise progress.error from broken
    if not done:
        yield _DONE if tail.endswith(b"\n\n") else b"\n\n" + _DONE
    progress.finish(_tail_tokens(tail))


def _tail_tokens(tail: bytes) -> TokenCounts:
    """The counts in the end of a raw answer; zero where it reports none."""

    def last(name: bytes) -> int:
        found = re.findall(rb'"%s"\s*:\s*(\d+)' % name, tail)
        return int(found[-1]) if found else 0

    return TokenCounts(
        prompt=last(b"prompt_tokens"), completion=last(b"completion_tokens"), cached=last(b"cached_tokens")
    )


def first_token_logprobs(answer: Any) -> dict[str, float]:
    """Log-probabilities of the first answered token, by token, likeliest first."""
    try:
        listed = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = {entry["token"]: float(entry["logprob"]) for entry in listed}
    except (LookupError, TypeError, ValueError) as error:
        raise EngineError(UNREADABLE) from error
    if not found:
        raise EngineError("The engine's answer holds no log-probabilities")
    return found


def embeddings(answer: Any, count: int) -> list[list[float]]:
    """The vectors of an embeddings answer for `count` texts, in their order."""
    try:
        ordered = sorted(answer["data"], key=lambda entry: entry["index"])
        vectors = [[float(value) for value in entry["embedding"]] for entry in ordered]
    except (LookupError, TypeError, ValueError) as error:
        raise EngineError(UNREADABLE) from error
    if len(vectors) != count:
        raise EngineError("The embeddings server answered for another number of texts")
    return vectors


def token_counts(usage: Any) -> TokenCounts:
    """The counts of an OpenAI `usage` object; 0 where one is missing or no number."""

    def count(value: Any) -> int:
        return value if isinstance(value, int) and value > 0 else 0

    return TokenCounts(
        prompt=count(member(usage, "prompt_tokens")),
        completion=count(member(usage, "completion_tokens")),
        cached=count(member(member(usage, "prompt_tokens_details"), "cached_tokens")),
    )


def member(value: Any, name: str) -> Any:
    """A field of a JSON object; null where there is none, or no object."""
    return value.get(name) if isinstance(value, dict) else None


def parsed(data: bytes) -> Any:
    """JSON, or an EngineError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineError(UNREADABLE) from error


def reported(event: Any) -> EngineError | EngineUnavailable:
    """The error that an engine reports inside a stream whose status was 200."""
    code = member(member(event, "error"), "code")
    status = code if isinstance(code, int) and code >= 400 else 500
    try:
        body = orjson.dumps(event)
    except orjson.JSONEncodeError:  # nested too deeply
        body = b""
    return refusal(status, body, None)


def refusal(status: int, body: bytes, retry_after: str | None) -> EngineError | EngineUnavailable:
    """Sorts an error status. Of the engine's message, which may quote the prompt, only the meaning
    is kept, and the names that OpenAI's error object has for it."""
    if status in (400, 413, 422):
        if b"context length" in body or b"maximum model length" in body or b"max_model_len" in body:
            return ContextExceeded(engine_status=status)
        said = ", ".join([f"status {status}", *_error_names(body)])
        return EngineRejected(f"The engine refused this input ({said})", engine_status=status)
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    reason = "is overloaded" if status in (429, 503) else "cannot serve this deployment's requests"
    if status >= 500 and status != 503:
        reason = "failed"
    return EngineUnavailable(f"The engine {reason} (status {status})", retry_after=seconds, engine_status=status)


def _error_names(body: bytes) -> list[str]:
    """`type`, `code` and `param` of OpenAI's error object, where they are names and no text."""
    try:
        error = member(parsed(body), "error")
    except EngineError:
        return []
    values = (member(error, name) for name in ("type", "code", "param"))
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and _NAME.fullmatch(value)))
