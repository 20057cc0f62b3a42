"""The client of the language model engine: any OpenAI-compatible server, vLLM in the first place.

Generation (`stream`, `complete`), the odds of a choice (`choose`), chat pass-through (`chat`) and embeddings,
behind the limits of limits.py. Errors say who can mend them: `EngineUnavailable` (try later; also a wrong key,
URL or model name), `EngineRejected` (this input), `EngineError` (an answer that cannot be used). None quotes a
prompt or a reply. With `url = "profile"` there is no engine: only `models` and `ready` answer, the others
raise `NoEngine`.
"""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Self

import aiohttp
import orjson

from services.engine.limits import (
    SILENT,
    CallKind,
    Calls,
    EngineCall,
    Patience,
    Progress,
    Shared,
    request_headers,
    silence,
)
from services.engine.wire import (
    BROKEN_OFF,
    OVERLONG,
    UNREADABLE,
    Completion,
    Delta,
    RawAnswer,
    Reply,
    embeddings,
    first_token_logprobs,
    member,
    parsed,
    raw_chunks,
    read_answer,
    refusal,
    reported,
    sampling,
    token_counts,
)
from services.errors import EngineError, EngineUnavailable, InvalidRequest, NoEngine
from services.settings import PROFILE_ENGINE, EngineSettings

NO_ENGINE = (
    "This deployment runs without a language model; name the URL of one with `make up ENGINE=<url>`, "
    "or the folder of one with `make up MODEL=<folder>`"
)
_FALLBACK_TOP_LOGPROBS = 20  # the most that OpenAI's API lists; used where single tokens cannot be asked for

Messages = Sequence[Mapping[str, Any]]
Body = dict[str, Any]
_CHAT = "/chat/completions"
_NO_THINKING: Body = {"chat_template_kwargs": {"enable_thinking": False}}


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
        self.calls = Calls(settings, observe)
        self._base = settings.url.rstrip("/")
        self._root = self._base.removesuffix("/v1")
        self._model: str | None = settings.model
        self._models: Shared[None, list[dict[str, Any]]] = Shared()
        self._letter_ids: dict[tuple[str, ...], list[int] | None] = {}
        self._tokens: Shared[tuple[str, ...], list[list[int]]] = Shared()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: EngineSettings, observe: Callable[[EngineCall], None] | None = None
    ) -> AsyncIterator[Self]:
        """An engine with its own connections, closed at the end. `observe` hears of every call."""
        timeout = silence(settings, settings.read_timeout_s)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
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
        models = member(parsed(body), "data")
        if not isinstance(models, list) or not all(isinstance(member(model, "id"), str) for model in models):
            raise EngineError(UNREADABLE)
        return models

    async def model(self) -> str:
        """The model that is asked: the configured one or the first that the engine lists."""
        self._require_engine()
        if self._model is None:
            models = await self._models.ask(None, self.models)
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
        thinking: bool = True,
        priority: int = 0,
    ) -> AsyncGenerator[Delta | Completion, None]:
        """The answer as it is written, then exactly one Completion. A consumer that may stop early
        wraps it in `contextlib.aclosing`, which ends the engine's work at once. `thinking=False` asks
        the chat template for none."""
        body = await self._body(messages, tenant, priority) | sampling(max_tokens, temperature, top_p, top_k)
        body |= {} if thinking else _NO_THINKING
        async with aclosing(self._generate("stream", body, tenant)) as pieces:
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
        thinking: bool = True,
        priority: int = 0,
    ) -> Completion:
        """The whole answer, streamed underneath, so that the read timeout bounds a silence and not the
        length of an answer."""
        body = await self._body(messages, tenant, priority) | sampling(max_tokens, temperature, top_p, top_k)
        body |= {} if thinking else _NO_THINKING
        async with aclosing(self._generate("complete", body, tenant)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
        raise AssertionError("a generation ends with a Completion or an error")

    async def _generate(self, kind: CallKind, body: Body, tenant: str) -> AsyncGenerator[Delta | Completion, None]:
        reply = Reply(body["model"])
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        async with self.calls.call(kind, tenant) as progress, self._post(_CHAT, body, progress) as response:
            async for text in read_answer(response, reply):
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
            async with self._raw_chat(sent, tenant) as answer:
                yield answer
        except EngineUnavailable as error:
            if body.get("model") and error.extensions.get("engine_status") == 404:
                problem = {"field": "model", "message": "The engine does not serve this model"}
                raise InvalidRequest(problem["message"], errors=[problem]) from error
            raise

    @asynccontextmanager
    async def _raw_chat(self, sent: Mapping[str, Any], tenant: str) -> AsyncIterator[RawAnswer]:
        # An answer that is not streamed comes without a sign of life before, however well the engine is.
        patience = None if sent.get("stream") else silence(self._settings, self._settings.answer_timeout_s)
        async with self.calls.call("chat", tenant) as progress, self._post(_CHAT, sent, progress, patience) as response:
            chunks = response.content.iter_any()
            # The first piece is awaited here, so that an early fault can still become a status.
            first = await anext(chunks, b"")
            if first.startswith(b'data: {"error"'):
                raise reported(parsed(first.split(b"\n", 1)[0].removeprefix(b"data: ")))
            progress.text_seen()
            raw = raw_chunks(first, chunks, bool(sent.get("stream")), progress)
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
            **_NO_THINKING,
        }
        ids = await self._ids_of(tuple(letters))
        if ids is not None:
            asked = {"logprob_token_ids": ids, "return_tokens_as_token_ids": True}
            found = await self._first_token(body | asked, tenant)
            if all(f"token_id:{token_id}" in found for token_id in ids):
                return [found[f"token_id:{token_id}"] for token_id in ids]
            self._letter_ids[tuple(letters)] = None
        found = await self._first_token(body | {"top_logprobs": _FALLBACK_TOP_LOGPROBS}, tenant)
        floor = min(found.values())
        bare = {token.strip(): logprob for token, logprob in reversed(found.items())}
        return [found.get(letter, bare.get(letter.strip(), floor)) for letter in letters]

    async def _first_token(self, body: dict[str, Any], tenant: str) -> dict[str, float]:
        return first_token_logprobs(await self._answer("choose", _CHAT, body, tenant))

    async def _ids_of(self, letters: tuple[str, ...]) -> list[int] | None:
        """The letters' token ids, or null where the engine cannot tell or needs more than one
        token for a letter. Asked once for each set of letters."""
        if letters not in self._letter_ids:
            single = await self._tokens.ask(letters, partial(self._tokenized, letters))
            ids = [tokens[0] for tokens in single if len(tokens) == 1]
            self._letter_ids[letters] = ids if len(set(ids)) == len(letters) else None
        return self._letter_ids[letters]

    async def _tokenized(self, texts: Sequence[str]) -> list[list[int]]:
        return await asyncio.gather(*map(self._tokens_of, texts))

    async def _tokens_of(self, text: str) -> list[int]:
        body = {"model": await self.model(), "prompt": text, "add_special_tokens": False}
        try:
            async with self._session.post(
                f"{self._root}/tokenize", json=body, headers=request_headers(self._settings)
            ) as response:
                if response.status >= 500:
                    raise EngineUnavailable(SILENT)
                tokens = member(parsed(await response.read()), "tokens") if response.status == 200 else None
        except aiohttp.ClientError as error:
            raise EngineUnavailable(SILENT) from error
        return [int(token) for token in tokens] if isinstance(tokens, list) else []

    # --- embeddings ----------------------------------------------------------------------------

    async def embed(self, texts: Sequence[str], longest_s: float | None = None) -> list[list[float]]:
        """One vector for each text, from the embeddings server, which needs no engine beside it. A silence
        of `longest_s` is a failure of the server's."""
        base = self._settings.embeddings_url
        if base is None:
            raise EngineUnavailable("No embeddings server is configured (ALIGNX_ENGINE__EMBEDDINGS_URL)")
        model = self._settings.embeddings_model
        body = {"input": list(texts)} | ({"model": model} if model else {})
        patience = silence(self._settings, longest_s or self._settings.read_timeout_s)
        answer = await self._answer("embed", f"{base.rstrip('/')}/embeddings", body, patience=patience)
        return embeddings(answer, len(texts))

    # --- one call ------------------------------------------------------------------------------

    def _require_engine(self) -> None:
        if not self.enabled:
            raise NoEngine(NO_ENGINE)

    async def _body(self, messages: Messages, tenant: str, priority: int) -> dict[str, Any]:
        body = {"model": await self.model(), "messages": list(messages), **self._salt(tenant)}
        return body | {"priority": priority} if priority else body

    def _salt(self, tenant: str) -> dict[str, str]:
        secret = self._settings.cache_salt_secret
        if secret is None:
            return {}
        return {"cache_salt": hmac.new(secret.get_secret_value().encode(), tenant.encode(), hashlib.sha256).hexdigest()}

    @asynccontextmanager
    async def _post(
        self, path: str, body: Mapping[str, Any], progress: Progress, patience: Patience = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        elsewhere, data = not path.startswith("/"), orjson.dumps(body)
        url, headers = path if elsewhere else self._base + path, request_headers(self._settings, elsewhere)
        timeout = patience or self._session.timeout
        try:
            async with self._session.post(url, data=data, headers=headers, timeout=timeout) as response:
                if response.status >= 400:
                    progress.alive = response.status < 500
                    if response.status == 404 and not elsewhere:  # perhaps the engine now serves another model
                        self._model = self._settings.model
                        self._letter_ids.clear()
                    raise refusal(response.status, await response.read(), response.headers.get("Retry-After"))
                yield response
        except aiohttp.ClientError as error:
            late = patience is not None and isinstance(error, aiohttp.SocketTimeoutError)
            progress.overlong = late and not elsewhere
            if progress.overlong:
                raise EngineUnavailable(OVERLONG) from error
            raise EngineUnavailable(SILENT if progress.first_text is None else BROKEN_OFF) from error

    async def _answer(self, kind: CallKind, path: str, body: Body, tenant: str = "", patience: Patience = None) -> Body:
        async with self.calls.call(kind, tenant) as progress, self._post(path, body, progress, patience) as response:
            if not isinstance(answer := parsed(await response.read()), dict):
                raise EngineError(UNREADABLE)
            progress.finish(token_counts(answer.get("usage")))
        return answer

    async def _get(self, url: str) -> tuple[int, bytes]:
        timeout = silence(self._settings, self._settings.connect_timeout_s)
        try:
            async with self._session.get(url, headers=request_headers(self._settings), timeout=timeout) as response:
                return response.status, await response.read()
        except aiohttp.ClientError as error:
            raise EngineUnavailable(SILENT) from error
