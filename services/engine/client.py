"""The HTTP client of one OpenAI-compatible server, vLLM in the first place.

    async with open_session() as session:
        client = Client(session, Server("http://127.0.0.1:8100/v1"))
        completion = await client.complete(messages, tenant="acme", max_tokens=64, temperature=0, top_p=1, top_k=0)

Generation (`stream`, `complete`) and chat pass-through (`chat`); what a choice between items
needs is in choice/choice_client.py. Bodies go out in the dialect of `capabilities`. Errors are those of refusals.py.
The client has no policy of its own: a `Guard` may hold calls back and watch how they end (limits.py), and `reconsider`
decides what becomes of a refusal (capabilities.py).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Unpack

import aiohttp
import orjson

from services.engine import wire
from services.engine.answers import bounded_start, check_start, pass_through, read_start, read_texts
from services.engine.capabilities import Capabilities, Refusal
from services.engine.conventions.sessions import session_header
from services.engine.guard import CallKind, Guard, Progress, unguarded
from services.engine.refusals import UNREADABLE, parse_json, refusal
from services.engine.shared_calls import SharedCalls
from services.engine.wire import Body, Completion, Delta, Messages, Reply, Sampling
from services.errors import EngineError, EngineRejected, EngineUnavailable, InvalidRequest, ModelUnknown
from services.prompts.build import OPENING, whole_prompt

_CHAT = "/chat/completions"
_RAW = "/completions"

Reconsider = Callable[[Refusal], Awaitable[bool]]
"""Whether a refused request goes out once more, since the dialect is another now. Raises what is the engine's fault."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens, and how long it may take."""

    url: str
    """A base URL such as `http://127.0.0.1:8100/v1`."""
    model: str | None = None
    """The model to ask for; default: the first one the server lists."""
    api_key: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 120.0
    """Longest silence within one answer; there is no total timeout."""
    first_token_timeout_s: float = 15.0
    """Longest wait for the first token of a chat; for one that is not streamed, for a sign of life."""
    answer_timeout_s: float = 600.0
    """Longest wait for a chat that is not streamed."""
    cache_salt_secret: str | None = field(default=None, repr=False)
    session_secret: str | None = field(default=None, repr=False)


class RawAnswer(NamedTuple):
    """The engine's own bytes, for pass-through."""

    status: int
    content_type: str
    chunks: AsyncIterator[bytes]
    is_counted: bool = False
    """A stream tells its token counts in an event of their own, for which the caller has not asked."""


async def _accept_refusal(_refusal: Refusal) -> bool:
    return False


class Client:
    """The client of one server, over a session that others may share."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: Server,
        guard: Guard = unguarded,
        reconsider: Reconsider = _accept_refusal,
    ) -> None:
        self.capabilities = Capabilities()
        self._session = session
        self._server = server
        self._guard = guard
        self.reconsider = reconsider
        self._base = server.url.rstrip("/")
        self._root = self._base.removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"}
        if server.api_key:
            self._headers["Authorization"] = f"Bearer {server.api_key}"
        self._model = server.model
        self._models: SharedCalls[None, list[Body]] = SharedCalls()

    # --- state ---------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Raises EngineUnavailable unless the server says that it is well. No guard holds this back."""
        status, _ = await self._request("GET", f"{self._root}/health", self._server.connect_timeout_s)
        if status == 404:  # a server other than vLLM
            await self.models()
        elif status >= 400:
            raise EngineUnavailable("The engine is not ready")

    async def models(self) -> list[Body]:
        """The models on offer, as OpenAI's model objects."""
        status, body = await self._request("GET", f"{self._base}/models", self._server.connect_timeout_s)
        if status >= 400:
            raise EngineUnavailable(f"The engine does not list its models (status {status})", engine_status=status)
        return wire.model_list(parse_json(body))

    async def last_sign(self) -> float | None:
        """As `LastSign`; a client without a guard always waits on."""
        return 0.0

    async def model(self) -> str:
        """The model that is asked: the configured one or the first that the server lists."""
        if self._model is None:
            models = await self._models.call(None, self.models)
            if not models:
                raise EngineUnavailable("The engine offers no model")
            self._model = str(models[0]["id"])
        return self._model

    # --- generation ----------------------------------------------------------------------------

    def stream(
        self, messages: Messages, *, tenant: str, priority: int = 0, **sampling: Unpack[Sampling]
    ) -> AsyncGenerator[Delta | Completion, None]:
        """The answer as it is written, then exactly one Completion. A consumer that may stop early
        wraps it in `contextlib.aclosing`, which ends the engine's work at once."""
        return self._generate("stream", messages, priority, sampling, tenant)

    async def complete(
        self, messages: Messages, *, tenant: str, priority: int = 0, **sampling: Unpack[Sampling]
    ) -> Completion:
        """The whole answer, streamed underneath, so that the read timeout bounds a silence and not the
        length of an answer."""
        async with aclosing(self._generate("complete", messages, priority, sampling, tenant)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
        raise AssertionError("a generation ends with a Completion or an error")

    async def _generate(
        self, kind: CallKind, messages: Messages, priority: int, sampling: Sampling, tenant: str
    ) -> AsyncGenerator[Delta | Completion, None]:
        path, body = _CHAT, await self._body(messages, tenant, priority) | wire.generation(sampling)
        if whole := whole_prompt(messages):
            path, body = _RAW, wire.raw_completion(body, whole)
        reply = Reply(body["model"], OPENING if whole else "")
        async with self._guard(kind, tenant, body) as progress, self._post(path, body, progress) as response:
            async for text in read_texts(response, reply):
                progress.note_text(text)
                yield Delta(text)
            completion = reply.completion()
            progress.finish(completion.tokens)
        yield completion

    # --- chat pass-through ---------------------------------------------------------------------

    @asynccontextmanager
    async def chat(self, body: Mapping[str, Any], *, tenant: str) -> AsyncIterator[RawAnswer]:
        """Sends an OpenAI chat body, cleaned by the caller, and yields the raw answer. A model that the caller named
        and the engine does not serve raises ModelUnknown, a field that the engine does not take InvalidRequest. Errors
        of the engine raise before the answer is yielded; afterwards `chunks` raises EngineUnavailable if the engine
        breaks off, also when a stream ends without `[DONE]`.
        """
        sent = {**body, **self._salt(tenant), "model": body.get("model") or await self.model()}
        try:
            async with self._raw_chat(sent, tenant) as answer:
                yield answer
        except EngineUnavailable as error:
            if body.get("model") and error.extensions.get("engine_status") == 404:
                raise ModelUnknown from error
            raise

    @asynccontextmanager
    async def _raw_chat(self, sent: Body, tenant: str) -> AsyncIterator[RawAnswer]:
        streamed = bool(sent.get("stream"))
        timeout_s = None if streamed else self._server.answer_timeout_s
        tail = wire.AnswerTail(choices=sent.get("n") or 1, streamed=streamed)
        own = self._salt(tenant)
        self._check_fields(sent, own)
        async with self._guard("chat", tenant, sent) as progress, AsyncExitStack() as stack:
            if is_counted := streamed and progress.written is not None and not sent.get("stream_options"):
                sent, own = sent | wire.COUNTED, own | wire.COUNTED
            # The start is awaited here, so that an early fault can still become a status.
            async with bounded_start(self._server.first_token_timeout_s, None if streamed else self.last_sign):
                response = await stack.enter_async_context(self._post(_CHAT, sent, progress, timeout_s))
                self._check_fields(sent, own)  # a dialect found meanwhile would drop them
                chunks = response.content.iter_any()
                start = await read_start(chunks, response.content_type) if streamed else await anext(chunks, b"")
            check_start(start, streamed=streamed)
            progress.note_text()
            raw = await stack.enter_async_context(aclosing(pass_through(start, chunks, tail, progress)))
            yield RawAnswer(response.status, response.content_type, raw, is_counted)

    def _check_fields(self, sent: Body, own: Body) -> None:
        """Raises InvalidRequest for fields that the engine does not take, but for our own."""
        if fields := [name for name in self.capabilities.dialect.refused_fields(sent) if name not in own]:
            problems = [{"field": name, "message": f"The engine does not take {name}"} for name in fields]
            raise InvalidRequest(f"The engine does not take {', '.join(fields)}", errors=problems)

    # --- one call ------------------------------------------------------------------------------

    async def _body(self, prompt: Sequence[Any], tenant: str, priority: int, field: str = "messages") -> Body:
        body = {"model": await self.model(), field: list(prompt), **self._salt(tenant)}
        return body | {"priority": priority} if priority else body

    def _salt(self, tenant: str) -> Body:
        return wire.cache_salt(self._server.cache_salt_secret, tenant)

    @asynccontextmanager
    async def _post(
        self, path: str, body: Body, progress: Progress, timeout_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = self._timeout(timeout_s or self._server.read_timeout_s)
        try:
            async with await self._accepted(path, body, progress, timeout) as response:
                try:
                    yield response
                except EngineRejected as error:  # reported inside a stream
                    await self.reconsider(Refusal(error, b"", self.capabilities.dialect, _asks_letters(body)))
                    raise
        except aiohttp.ClientError as error:
            progress.overlong = timeout_s is not None and isinstance(error, aiohttp.SocketTimeoutError)
            if progress.overlong:
                raise EngineUnavailable(wire.OVERLONG) from error
            raise EngineUnavailable(wire.SILENT if progress.first_text is None else wire.BROKEN_OFF) from error

    async def _accepted(
        self, path: str, body: Body, progress: Progress, timeouts: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """The response to a request that the server takes; in another dialect it is sent once more."""
        headers = self._headers | session_header(self._server.session_secret)
        for is_last in (False, True):
            dialect = self.capabilities.dialect
            data = orjson.dumps(dialect.apply(body))
            response = await self._session.post(self._base + path, data=data, headers=headers, timeout=timeouts)
            if response.status < 400:
                return response
            async with response:
                answer = await response.read()
            progress.alive = response.status < 500
            if response.status == 404:  # perhaps the server now has another model
                self._model = self._server.model
            error = refusal(response.status, answer, response.headers.get("Retry-After"))
            if not await self.reconsider(Refusal(error, answer, dialect, _asks_letters(body))) or is_last:
                raise error
        raise AssertionError("the second refusal raises")

    async def _answer(self, kind: CallKind, path: str, body: Body, tenant: str) -> Body:
        async with self._guard(kind, tenant, body) as progress, self._post(path, body, progress) as response:
            if not isinstance(answer := parse_json(await response.read()), dict):
                raise EngineError(UNREADABLE)
            progress.finish(wire.token_counts(answer.get("usage")))
        return answer

    async def _request(self, method: str, url: str, timeout_s: float, body: Body | None = None) -> tuple[int, bytes]:
        """The status and body of a call that no guard sees."""
        data, timeout = None if body is None else orjson.dumps(body), self._timeout(timeout_s)
        try:
            async with self._session.request(
                method, url, data=data, headers=self._headers, timeout=timeout
            ) as response:
                return response.status, await response.read()
        except aiohttp.ClientError as error:
            raise EngineUnavailable(wire.SILENT) from error

    def _timeout(self, read_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self._server.connect_timeout_s, sock_read=read_s)


def open_session(connections: int = 0) -> aiohttp.ClientSession:
    """At most so many connections; 0 for no limit. Idle ones close before vLLM closes them, which it does after
    5 s: a request on a connection that the server is closing would fail."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=4.0))


def _asks_letters(body: Body) -> bool:
    return bool(body.get("logprobs")) and body.get("max_tokens") == 1
