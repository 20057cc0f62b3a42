"""The client of the language model engine: any OpenAI-compatible server, vLLM in the first place.

Generation (`stream`, `complete`), the odds of a choice (`choose`), chat pass-through (`chat`) and
embeddings, behind one limit of concurrent requests and a breaker that stops asking an engine that
does not answer. The faults are sorted by who can mend them: `EngineUnavailable` (try later; also a
wrong key, URL or model name, which no other input would mend), `EngineRejected` (this input),
`EngineError` (an answer that cannot be used). No message of theirs quotes a prompt or a reply.

With `url = "profile"` there is no engine: only `models` and `ready` answer.
"""

import asyncio
import hashlib
import hmac
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
import orjson

from services.core.errors import EngineError, EngineRejected, EngineUnavailable, InvalidRequest
from services.core.schemas import TokenCounts
from services.core.settings import PROFILE_ENGINE, EngineSettings

NO_ENGINE = (
    "This deployment runs without a language model; start one with `make up ENGINE=vllm-cpu`, "
    "or name a running one with `make up ENGINE=<url>`"
)
_SILENT = "The engine does not answer"
_BROKEN_OFF = "The engine broke off its answer"
_UNREADABLE = "The engine's answer is not in OpenAI's format"

_FALLBACK_TOP_LOGPROBS = 20
"""The most that OpenAI's API lists; used where single tokens cannot be asked for."""
_TAIL_BYTES = 2048
"""End of a raw answer kept to find `[DONE]` and the token counts, which come last."""

Messages = Sequence[Mapping[str, Any]]

CallKind = Literal["stream", "complete", "chat", "choose", "embed"]
CallOutcome = Literal["ok", "unavailable", "rejected", "error", "cancelled"]


@dataclass(frozen=True)
class EngineCall:
    """One call to the engine, told to the observer when it is over."""

    kind: CallKind
    outcome: CallOutcome
    """`cancelled` when the caller went away first."""
    seconds: float
    """Waiting for a slot included."""
    ttft_s: float | None
    """Seconds to the first text; null when there was none."""
    tokens: TokenCounts


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


class Breaker:
    """Refuses calls for `cooldown_s` after `failures` in a row, then lets a single one try."""

    def __init__(self, failures: int, cooldown_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._failures = 0
        self._opened_at = -math.inf
        self._probing = False

    def check(self) -> None:
        """Raises EngineUnavailable, with the seconds to wait, unless a call may go out now."""
        if self._failures < self._limit:
            return
        left = self._opened_at + self._cooldown_s - self._clock()
        if left > 0 or self._probing:
            raise EngineUnavailable(_SILENT, retry_after=max(left, 1.0))

    def admit(self) -> None:
        """As `check`, for a call that goes out; report its end by one of the methods below."""
        self.check()
        self._probing = self._failures >= self._limit

    def succeeded(self) -> None:
        self._failures, self._probing = 0, False

    def failed(self) -> None:
        self._failures, self._probing = self._failures + 1, False
        if self._failures >= self._limit:
            self._opened_at = self._clock()

    def released(self) -> None:
        """The call ended without telling anything about the engine."""
        self._probing = False


@dataclass
class _Progress:
    """What is known of a call under way."""

    started: float = field(default_factory=time.monotonic)
    first_text: float | None = None
    tokens: TokenCounts = field(default_factory=TokenCounts)
    finished: bool = False
    alive: bool = False
    """The engine refused, but it is there: no mark against it in the breaker."""
    error: EngineError | EngineUnavailable | None = None

    def text_seen(self) -> None:
        self.first_text = self.first_text or time.monotonic()

    def finish(self, tokens: TokenCounts) -> None:
        self.tokens, self.finished = tokens, True

    @property
    def outcome(self) -> CallOutcome:
        match self.error:
            case EngineUnavailable():
                return "unavailable"
            case EngineRejected():
                return "rejected"
            case EngineError():
                return "error"
            case _:
                return "ok" if self.finished else "cancelled"


class Engine:
    """A client for one engine; open it once per process with `Engine.open`."""

    def __init__(
        self,
        settings: EngineSettings,
        session: aiohttp.ClientSession,
        observe: Callable[[EngineCall], None] | None = None,
    ) -> None:
        self.enabled = settings.enabled
        self._settings = settings
        self._session = session
        self._observe = observe
        self._base = settings.url.rstrip("/")
        self._root = self._base.removesuffix("/v1")
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_cooldown_s)
        self._embeddings_breaker = Breaker(settings.breaker_failures, settings.breaker_cooldown_s)
        self._model: str | None = settings.model
        self._letter_ids: dict[tuple[str, ...], list[int] | None] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: EngineSettings, observe: Callable[[EngineCall], None] | None = None
    ) -> AsyncIterator[Self]:
        """An engine with its own connections, closed at the end. `observe` hears of every call."""
        # No total timeout: a long answer is fine as long as it keeps coming.
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
        )
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            yield cls(settings, session, observe)

    # --- state ---------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Raises EngineUnavailable unless the engine says that it is well. Asks even when the
        breaker is open."""
        if not self.enabled:
            return
        status, _ = await self._get(f"{self._root}/health")
        if status == 404:  # an engine other than vLLM
            await self.models()
        elif status >= 400:
            raise EngineUnavailable("The engine is not ready")

    async def models(self) -> list[dict[str, Any]]:
        """The models on offer, as OpenAI's model objects."""
        if not self.enabled:
            return [{"id": PROFILE_ENGINE, "object": "model", "created": 0, "owned_by": "alignx"}]
        status, body = await self._get(f"{self._base}/models")
        if status >= 400:
            raise EngineUnavailable(f"The engine does not list its models (status {status})")
        models = _member(_json(body), "data")
        if not isinstance(models, list) or not all(isinstance(_member(model, "id"), str) for model in models):
            raise EngineError(_UNREADABLE)
        return models

    async def model(self) -> str:
        """The model that is asked: the configured one or the first that the engine lists."""
        self._require_engine()
        if self._model is None:
            models = await self.models()
            if not models:
                raise EngineUnavailable("The engine offers no model")
            self._model = str(models[0]["id"])
        return self._model

    # --- generation ----------------------------------------------------------------------------

    async def stream(
        self,
        messages: Messages,
        *,
        tenant: str,
        max_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int,
        priority: int = 0,
    ) -> AsyncGenerator[Delta | Completion, None]:
        """The answer as it is written, then exactly one Completion. A consumer that may stop early
        wraps it in `contextlib.aclosing`, which ends the engine's work at once."""
        sampling = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, **_top_k(top_k)}
        body = await self._body(messages, tenant, priority) | sampling
        async with aclosing(self._generate("stream", body)) as pieces:
            async for piece in pieces:
                yield piece

    async def complete(
        self,
        messages: Messages,
        *,
        tenant: str,
        max_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int,
        priority: int = 0,
    ) -> Completion:
        """The whole answer. It is streamed underneath, so that the read timeout bounds a silence
        and not the length of an answer."""
        sampling = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, **_top_k(top_k)}
        body = await self._body(messages, tenant, priority) | sampling
        async with aclosing(self._generate("complete", body)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
        raise AssertionError("a generation ends with a Completion or an error")

    async def _generate(self, kind: CallKind, body: dict[str, Any]) -> AsyncGenerator[Delta | Completion, None]:
        reply = _Reply(body["model"])
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        async with self._call(kind) as progress, self._post("/chat/completions", body, progress) as response:
            async for event in _server_sent_events(response):
                if text := reply.add(event):
                    progress.text_seen()
                    yield Delta(text)
            if text := reply.end():
                yield Delta(text)
            completion = reply.completion()
            progress.finish(completion.tokens)
        yield completion

    # --- chat pass-through ---------------------------------------------------------------------

    @asynccontextmanager
    async def chat(self, body: Mapping[str, Any], *, tenant: str) -> AsyncIterator[RawAnswer]:
        """Sends an OpenAI chat body, cleaned by the caller, and yields the raw answer.

        A model that the caller named and the engine does not serve raises InvalidRequest. Errors
        of the engine raise before the answer is yielded; afterwards `chunks` raises
        EngineUnavailable if the engine breaks off, also when a stream ends without `[DONE]`.
        """
        self._require_engine()
        sent = {**body, **self._salt(tenant), "model": body.get("model") or await self.model()}
        try:
            async with self._raw_chat(sent) as answer:
                yield answer
        except EngineUnavailable as error:
            if body.get("model") and error.extensions.get("engine_status") == 404:
                problem = {"field": "model", "message": "The engine does not serve this model"}
                raise InvalidRequest(problem["message"], errors=[problem]) from error
            raise

    @asynccontextmanager
    async def _raw_chat(self, sent: Mapping[str, Any]) -> AsyncIterator[RawAnswer]:
        async with self._call("chat") as progress, self._post("/chat/completions", sent, progress) as response:
            chunks = response.content.iter_any()
            # The first piece is awaited here, so that an early fault can still become a status.
            first = await anext(chunks, b"")
            if first.startswith(b'data: {"error"'):
                raise _reported(_json(first.split(b"\n", 1)[0].removeprefix(b"data: ")))
            progress.text_seen()
            raw = _raw_chunks(first, chunks, bool(sent.get("stream")), progress)
            async with aclosing(raw):
                yield RawAnswer(response.status, response.content_type, raw)

    # --- choice --------------------------------------------------------------------------------

    async def choose(
        self, messages: Messages, letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        """Log-probability of each of `letters` as the token that continues the last message.

        Asks for exactly these tokens (vLLM's logprob_token_ids). An engine that cannot do that
        lists its 20 likeliest tokens, and a letter that is not among them gets the lowest listed
        log-probability, which bounds it from above.
        """
        body = await self._body(messages, tenant, priority) | {
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "add_generation_prompt": False,
            "continue_final_message": True,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        ids = await self._ids_of(tuple(letters))
        if ids is not None:
            asked = {"logprob_token_ids": ids, "return_tokens_as_token_ids": True}
            found = await self._first_token(body | asked)
            if all(f"token_id:{token_id}" in found for token_id in ids):
                return [found[f"token_id:{token_id}"] for token_id in ids]
            self._letter_ids[tuple(letters)] = None
        found = await self._first_token(body | {"top_logprobs": _FALLBACK_TOP_LOGPROBS})
        floor = min(found.values())
        bare = {token.strip(): logprob for token, logprob in reversed(found.items())}
        return [found.get(letter, bare.get(letter.strip(), floor)) for letter in letters]

    async def _first_token(self, body: dict[str, Any]) -> dict[str, float]:
        """Log-probabilities of the first answered token, by token, likeliest first."""
        answer = await self._answer("choose", "/chat/completions", body)
        try:
            listed = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            found = {entry["token"]: float(entry["logprob"]) for entry in listed}
        except (LookupError, TypeError, ValueError) as error:
            raise EngineError(_UNREADABLE) from error
        if not found:
            raise EngineError("The engine's answer holds no log-probabilities")
        return found

    async def _ids_of(self, letters: tuple[str, ...]) -> list[int] | None:
        """The letters' token ids, or null where the engine cannot tell or needs more than one
        token for a letter. Asked once for each set of letters."""
        if letters not in self._letter_ids:
            single = await asyncio.gather(*map(self._tokenized, letters))
            ids = [tokens[0] for tokens in single if len(tokens) == 1]
            self._letter_ids[letters] = ids if len(set(ids)) == len(letters) else None
        return self._letter_ids[letters]

    async def _tokenized(self, text: str) -> list[int]:
        body = {"model": await self.model(), "prompt": text, "add_special_tokens": False}
        try:
            async with self._session.post(f"{self._root}/tokenize", json=body, headers=self._headers()) as response:
                if response.status >= 500:
                    raise EngineUnavailable(_SILENT)
                tokens = _member(_json(await response.read()), "tokens") if response.status == 200 else None
        except aiohttp.ClientError as error:
            raise EngineUnavailable(_SILENT) from error
        return [int(token) for token in tokens] if isinstance(tokens, list) else []

    # --- embeddings ----------------------------------------------------------------------------

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, from the embeddings server."""
        self._require_engine()
        base = self._settings.embeddings_url
        if base is None:
            raise EngineUnavailable("No embeddings server is configured (ALIGNX_ENGINE__EMBEDDINGS_URL)")
        body: dict[str, Any] = {"input": list(texts)}
        if self._settings.embeddings_model:
            body["model"] = self._settings.embeddings_model
        answer = await self._answer("embed", f"{base.rstrip('/')}/embeddings", body)
        try:
            ordered = sorted(answer["data"], key=lambda entry: entry["index"])
            vectors = [[float(value) for value in entry["embedding"]] for entry in ordered]
        except (LookupError, TypeError, ValueError) as error:
            raise EngineError(_UNREADABLE) from error
        if len(vectors) != len(texts):
            raise EngineError("The embeddings server answered for another number of texts")
        return vectors

    # --- one call ------------------------------------------------------------------------------

    def _require_engine(self) -> None:
        if not self.enabled:
            raise EngineUnavailable(NO_ENGINE)

    async def _body(self, messages: Messages, tenant: str, priority: int) -> dict[str, Any]:
        body = {"model": await self.model(), "messages": list(messages), **self._salt(tenant)}
        return body | {"priority": priority} if priority else body

    def _salt(self, tenant: str) -> dict[str, str]:
        secret = self._settings.cache_salt_secret
        if secret is None:
            return {}
        return {"cache_salt": hmac.new(secret.get_secret_value().encode(), tenant.encode(), hashlib.sha256).hexdigest()}

    def _headers(self, url: str | None = None) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        key = self._settings.api_key
        # The engine's key goes to the engine alone, not to an embeddings server elsewhere.
        if key is not None and (url is None or urlsplit(url)[:2] == urlsplit(self._base)[:2]):
            headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        return headers

    @asynccontextmanager
    async def _call(self, kind: CallKind) -> AsyncIterator[_Progress]:
        """A slot, the breaker's leave, and the report of how the call ended."""
        breaker = self._embeddings_breaker if kind == "embed" else self._breaker
        breaker.check()  # before the wait for a slot: an open breaker answers at once
        progress = _Progress()
        async with self._slots:
            breaker.admit()
            try:
                yield progress
            except (EngineUnavailable, EngineError) as error:
                progress.error = error
                raise
            finally:
                self._settle(kind, breaker, progress)

    def _settle(self, kind: CallKind, breaker: Breaker, progress: _Progress) -> None:
        if progress.outcome == "unavailable" and not progress.alive:
            breaker.failed()
        elif progress.outcome == "cancelled":
            breaker.released()
        else:
            breaker.succeeded()
        if self._observe is not None:
            seen = progress.first_text
            ttft_s = None if seen is None else seen - progress.started
            seconds = time.monotonic() - progress.started
            self._observe(EngineCall(kind, progress.outcome, seconds, ttft_s, progress.tokens))

    @asynccontextmanager
    async def _post(
        self, path: str, body: Mapping[str, Any], progress: _Progress
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self._base + path if path.startswith("/") else path
        try:
            async with self._session.post(url, data=orjson.dumps(body), headers=self._headers(url)) as response:
                if response.status >= 400:
                    progress.alive = response.status < 500
                    if response.status == 404:  # perhaps the engine now serves another model
                        self._model = self._settings.model
                        self._letter_ids.clear()
                    raise _refusal(response.status, await response.read(), response.headers.get("Retry-After"))
                yield response
        except aiohttp.ClientError as error:
            raise EngineUnavailable(_SILENT if progress.first_text is None else _BROKEN_OFF) from error

    async def _answer(self, kind: CallKind, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        async with self._call(kind) as progress, self._post(path, body, progress) as response:
            answer = _json(await response.read())
            if not isinstance(answer, dict):
                raise EngineError(_UNREADABLE)
            progress.finish(_tokens(answer.get("usage")))
        return answer

    async def _get(self, url: str) -> tuple[int, bytes]:
        limit = self._settings.connect_timeout_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=limit, sock_read=limit)
        try:
            async with self._session.get(url, headers=self._headers(), timeout=timeout) as response:
                return response.status, await response.read()
        except aiohttp.ClientError as error:
            raise EngineUnavailable(_SILENT) from error


# --- reading answers ---------------------------------------------------------------------------


class _Reply:
    """Gathers a streamed answer."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._pieces: list[str] = []
        self._finish_reason: str | None = None
        self._tokens = TokenCounts()
        self._thinking = False

    def add(self, event: Any) -> str:
        """Takes one event and returns the text it adds."""
        if _member(event, "error") is not None:
            raise _reported(event)
        self._model = _member(event, "model") or self._model
        if (usage := _member(event, "usage")) is not None:
            self._tokens = _tokens(usage)
        choices = _member(event, "choices")
        if not isinstance(choices, list):
            raise EngineError(_UNREADABLE)
        if not choices:
            return ""
        self._finish_reason = _member(choices[0], "finish_reason") or self._finish_reason
        return self._kept(self._text(_member(choices[0], "delta")))

    def _text(self, delta: Any) -> str:
        # An engine with a reasoning parser reports reasoning in a field of its own.
        reasoning = _member(delta, "reasoning") or _member(delta, "reasoning_content") or ""
        content = _member(delta, "content") or ""
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
        return Completion("".join(self._pieces), self._finish_reason, self._tokens, self._model)


async def _server_sent_events(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    """The parsed data of each event up to `[DONE]`; without one the answer broke off."""
    held = b""
    async for chunk in response.content.iter_any():
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line.removeprefix(b"data:").strip()
            if data == b"[DONE]":
                return
            yield _json(data)
    raise EngineUnavailable(_BROKEN_OFF)


async def _raw_chunks(
    first: bytes, rest: AsyncIterator[bytes], streamed: bool, progress: _Progress
) -> AsyncGenerator[bytes, None]:
    """Passes an answer through and notes how it ended, also for a caller that handles the error
    inside the call."""
    tail = first[-_TAIL_BYTES:]
    broken: Exception | None = None
    yield first
    try:
        async for chunk in rest:
            tail = (tail + chunk)[-_TAIL_BYTES:]
            yield chunk
    except aiohttp.ClientError as error:
        broken = error
    if broken or not first or (streamed and b"data: [DONE]" not in tail):
        progress.error = EngineUnavailable(_BROKEN_OFF)
        raise progress.error from broken
    progress.finish(_tail_tokens(tail))


def _tail_tokens(tail: bytes) -> TokenCounts:
    """The counts in the end of a raw answer; zero where it reports none."""

    def last(name: bytes) -> int:
        found = re.findall(rb'"%s"\s*:\s*(\d+)' % name, tail)
        return int(found[-1]) if found else 0

    return TokenCounts(
        prompt=last(b"prompt_tokens"), completion=last(b"completion_tokens"), cached=last(b"cached_tokens")
    )


def _tokens(usage: Any) -> TokenCounts:
    def count(value: Any) -> int:
        return value if isinstance(value, int) and value > 0 else 0

    return TokenCounts(
        prompt=count(_member(usage, "prompt_tokens")),
        completion=count(_member(usage, "completion_tokens")),
        cached=count(_member(_member(usage, "prompt_tokens_details"), "cached_tokens")),
    )


def _top_k(top_k: int) -> dict[str, int]:
    """Not part of OpenAI's API, so it is sent only when it limits something."""
    return {"top_k": top_k} if top_k > 0 else {}


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineError(_UNREADABLE) from error


def _reported(event: Any) -> EngineError | EngineUnavailable:
    """The error that an engine reports inside a stream whose status was 200."""
    code = _member(_member(event, "error"), "code")
    status = code if isinstance(code, int) and code >= 400 else 500
    return _refusal(status, orjson.dumps(event), None)


def _refusal(status: int, body: bytes, retry_after: str | None) -> EngineError | EngineUnavailable:
    """Sorts an error status. Of the engine's message, which may quote the prompt, only the meaning
    is kept."""
    if status in (400, 413, 422):
        if b"context length" in body or b"maximum model length" in body or b"max_model_len" in body:
            return EngineRejected("The input is longer than the engine's context window", engine_status=status)
        return EngineRejected(f"The engine refused this input (status {status})", engine_status=status)
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    reason = "is overloaded" if status in (429, 503) else "cannot serve this deployment's requests"
    if status >= 500 and status != 503:
        reason = "failed"
    return EngineUnavailable(f"The engine {reason} (status {status})", retry_after=seconds, engine_status=status)
