"""The SDK: `AlignX` and its asynchronous twin `AsyncAlignX`.

    from alignx.client.client import AlignX

    with AlignX() as alignx:                       # ALIGNX_URL, ALIGNX_API_KEY
        alignx.append("ada", [ClickInteraction(clicked="Tram lines", shown=("Tram lines", "Derby"))], wait=10)
        print(alignx.preferences("ada").text)
        for event in alignx.watch("ada"):          # as the summary is written
            print(event)

Both send the records of `alignx/client/endpoints.py`; a method here is one of those calls bound to a
transport, so that its signature and its documentation exist once. Calls that failed in passing are
sent again (`alignx/client/retry.py`); every error is a `ClientError` (`alignx/client/errors.py`).
"""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_args

import httpx
from httpx_sse import EventSource

from alignx.client import endpoints
from alignx.client.endpoints import Call
from alignx.client.errors import Unreachable
from alignx.client.retry import Outcome, RetryPolicy
from alignx.client.streams import DONE, ChatChunk, SummaryEvent, SummaryStream, parse_chat_chunk
from alignx.client.transport import connection, expect_events, read, request_of, settled, unreachable
from alignx.schemas.requests import ChatMode
from alignx.schemas.summaries import StoredInteraction, SummaryVersion

P = ParamSpec("P")
T = TypeVar("T")

BROKEN_OFF = "The answer broke off before its end."


def _bound(build: Callable[P, Call[T]], method: Callable[..., Any]) -> None:
    """Gives a client's method the name, the documentation and the signature of its call."""
    signature = inspect.signature(build)
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *signature.parameters.values()]
    (answer,) = get_args(signature.return_annotation)
    named: Any = method
    named.__name__, named.__doc__ = build.__name__, build.__doc__
    named.__signature__ = signature.replace(parameters=parameters, return_annotation=answer)


def _sync(build: Callable[P, Call[T]]) -> Callable[Concatenate["AlignX", P], T]:
    def method(client: "AlignX", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.send(build(*args, **kwargs))

    _bound(build, method)
    return method


def _async(build: Callable[P, Call[T]]) -> Callable[Concatenate["AsyncAlignX", P], Awaitable[T]]:
    async def method(client: "AsyncAlignX", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.send(build(*args, **kwargs))

    _bound(build, method)
    return method


class AlignX:
    """The synchronous client. Safe to share between threads; close it, or use it as a context."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Defaults: ALIGNX_URL or http://127.0.0.1:8080; ALIGNX_API_KEY, or the file ALIGNX_KEY_FILE."""
        self._http = httpx.Client(**connection(base_url, api_key), transport=transport)
        self._retry = retry or RetryPolicy()
        self._sleep = sleep

    append = _sync(endpoints.append)
    events = _sync(endpoints.events)
    dead_letters = _sync(endpoints.dead_letters)
    retry_dead_letters = _sync(endpoints.retry_dead_letters)
    forget = _sync(endpoints.forget)
    preferences = _sync(endpoints.preferences)
    preferences_if_changed = _sync(endpoints.preferences_if_changed)
    versions = _sync(endpoints.versions)
    version = _sync(endpoints.version)
    diff = _sync(endpoints.diff)
    edit = _sync(endpoints.edit)
    rollback = _sync(endpoints.rollback)
    rebuild = _sync(endpoints.rebuild)
    select = _sync(endpoints.select)
    recommend = _sync(endpoints.recommend)
    chat = _sync(endpoints.chat)
    models = _sync(endpoints.models)
    ready = _sync(endpoints.ready)
    quality = _sync(endpoints.quality)
    create_key = _sync(endpoints.create_key)
    keys = _sync(endpoints.keys)
    revoke_key = _sync(endpoints.revoke_key)
    tenants = _sync(endpoints.tenants)

    def send(self, call: Call[T], *, retries: int | None = None) -> T:
        """Sends any call; `retries` overrides the client's own number."""
        return read(call, self._response(call, retries=retries))

    def all_events(self, user: str) -> Iterator[StoredInteraction]:
        """The whole history, oldest first, page by page."""
        page = self.events(user)
        yield from page.events
        while page.next is not None:
            page = self.events(user, after=page.next)
            yield from page.events

    def all_versions(self, user: str) -> Iterator[SummaryVersion]:
        """All versions, newest first, page by page."""
        page = self.versions(user)
        yield from page.versions
        while page.next is not None:
            page = self.versions(user, before=page.next)
            yield from page.versions

    def export(self, user: str) -> Iterator[bytes]:
        """Everything kept of a user, as the bytes of a JSON-lines file."""
        call = endpoints.export(user)
        with closing(self._response(call, stream=True)) as response:
            try:
                yield from response.iter_bytes()
            except httpx.RequestError as error:
                unreachable(error, call)

    def watch(self, user: str, *, last_event_id: str | None = None) -> Iterator[SummaryEvent]:
        """The summary as it is written, without end; a lost connection is taken up where it broke."""
        stream = SummaryStream(last_event_id)
        while True:
            with closing(self._response(endpoints.summary_stream(user, stream.last_event_id), stream=True)) as response:
                expect_events(response)
                try:
                    for event in EventSource(response).iter_sse():
                        if (update := stream.read(event)) is not None:
                            yield update
                except httpx.RequestError:
                    pass  # lost or silent: reconnect from the last event
            self._sleep(stream.pause_s)

    def stream_chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        user: str | None = None,
        mode: ChatMode | None = None,
        **more: Any,
    ) -> Iterator[ChatChunk]:
        """The answer piece by piece; `more` are the further arguments of `chat`."""
        call, done = endpoints.chat(messages, user=user, mode=mode, stream=True, **more), False
        with closing(self._response(call, stream=True)) as response:
            expect_events(response)
            try:
                for event in EventSource(response).iter_sse():
                    done = done or event.data == DONE
                    if event.data and not done:
                        yield parse_chat_chunk(event.data)
            except httpx.RequestError as error:
                unreachable(error, call)
        if not done:
            raise Unreachable(BROKEN_OFF)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _response(self, call: Call[Any], *, retries: int | None = None, stream: bool = False) -> httpx.Response:
        retry = self._retry if retries is None else replace(self._retry, retries=retries)
        tries = 1
        while True:
            outcome = self._try(call, stream=stream)
            delay_s = retry.delay_s(call, outcome, tries)
            if delay_s is None:
                return settled(call, outcome)
            self._sleep(delay_s)
            tries += 1

    def _try(self, call: Call[Any], *, stream: bool) -> Outcome:
        try:
            response = self._http.send(request_of(self._http, call), stream=True)
            if not stream or not response.is_success:
                with closing(response):
                    response.read()
        except httpx.RequestError as error:
            return error
        return response


class AsyncAlignX:
    """The asynchronous client, method for method like `AlignX`."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Defaults as for `AlignX`."""
        self._http = httpx.AsyncClient(**connection(base_url, api_key), transport=transport)
        self._retry = retry or RetryPolicy()
        self._sleep = sleep

    append = _async(endpoints.append)
    events = _async(endpoints.events)
    dead_letters = _async(endpoints.dead_letters)
    retry_dead_letters = _async(endpoints.retry_dead_letters)
    forget = _async(endpoints.forget)
    preferences = _async(endpoints.preferences)
    preferences_if_changed = _async(endpoints.preferences_if_changed)
    versions = _async(endpoints.versions)
    version = _async(endpoints.version)
    diff = _async(endpoints.diff)
    edit = _async(endpoints.edit)
    rollback = _async(endpoints.rollback)
    rebuild = _async(endpoints.rebuild)
    select = _async(endpoints.select)
    recommend = _async(endpoints.recommend)
    chat = _async(endpoints.chat)
    models = _async(endpoints.models)
    ready = _async(endpoints.ready)
    quality = _async(endpoints.quality)
    create_key = _async(endpoints.create_key)
    keys = _async(endpoints.keys)
    revoke_key = _async(endpoints.revoke_key)
    tenants = _async(endpoints.tenants)

    async def send(self, call: Call[T], *, retries: int | None = None) -> T:
        """Sends any call; `retries` overrides the client's own number."""
        return read(call, await self._response(call, retries=retries))

    async def all_events(self, user: str) -> AsyncIterator[StoredInteraction]:
        """The whole history, oldest first, page by page."""
        after: str | None = None
        while True:
            page = await self.events(user, after=after)
            for event in page.events:
                yield event
            after = page.next
            if after is None:
                return

    async def all_versions(self, user: str) -> AsyncIterator[SummaryVersion]:
        """All versions, newest first, page by page."""
        before: int | None = None
        while True:
            page = await self.versions(user, before=before)
            for version in page.versions:
                yield version
            before = page.next
            if before is None:
                return

    async def export(self, user: str) -> AsyncIterator[bytes]:
        """Everything kept of a user, as the bytes of a JSON-lines file."""
        call = endpoints.export(user)
        async with aclosing(await self._response(call, stream=True)) as response:
            try:
                async for chunk in response.aiter_bytes():
                    yield chunk
            except httpx.RequestError as error:
                unreachable(error, call)

    async def watch(self, user: str, *, last_event_id: str | None = None) -> AsyncIterator[SummaryEvent]:
        """The summary as it is written, without end; a lost connection is taken up where it broke."""
        stream = SummaryStream(last_event_id)
        while True:
            call = endpoints.summary_stream(user, stream.last_event_id)
            async with aclosing(await self._response(call, stream=True)) as response:
                expect_events(response)
                try:
                    async with aclosing(EventSource(response).aiter_sse()) as events:
                        async for event in events:
                            if (update := stream.read(event)) is not None:
                                yield update
                except httpx.RequestError:
                    pass  # lost or silent: reconnect from the last event
            await self._sleep(stream.pause_s)

    async def stream_chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        user: str | None = None,
        mode: ChatMode | None = None,
        **more: Any,
    ) -> AsyncIterator[ChatChunk]:
        """The answer piece by piece; `more` are the further arguments of `chat`."""
        call, done = endpoints.chat(messages, user=user, mode=mode, stream=True, **more), False
        async with aclosing(await self._response(call, stream=True)) as response:
            expect_events(response)
            try:
                async with aclosing(EventSource(response).aiter_sse()) as events:
                    async for event in events:
                        done = done or event.data == DONE
                        if event.data and not done:
                            yield parse_chat_chunk(event.data)
            except httpx.RequestError as error:
                unreachable(error, call)
        if not done:
            raise Unreachable(BROKEN_OFF)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def _response(self, call: Call[Any], *, retries: int | None = None, stream: bool = False) -> httpx.Response:
        retry = self._retry if retries is None else replace(self._retry, retries=retries)
        tries = 1
        while True:
            outcome = await self._try(call, stream=stream)
            delay_s = retry.delay_s(call, outcome, tries)
            if delay_s is None:
                return settled(call, outcome)
            await self._sleep(delay_s)
            tries += 1

    async def _try(self, call: Call[Any], *, stream: bool) -> Outcome:
        try:
            response = await self._http.send(request_of(self._http, call), stream=True)
            if not stream or not response.is_success:
                async with aclosing(response):
                    await response.aread()
        except httpx.RequestError as error:
            return error
        return response
