"""The SDK: `AlignX` and its asynchronous twin `AsyncAlignX`.

Both send the calls of `alignx/client/endpoints.py`. Temporary failures are retried
(`alignx/client/retry.py`); every error is a `ClientError` (`alignx/client/errors.py`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import EventSource

from alignx.client import endpoints
from alignx.client.endpoints import Call
from alignx.client.errors import Unreachable
from alignx.client.line_sender import LineSender, have_patience
from alignx.client.methods import Endpoints
from alignx.client.retry import Outcome, RetryPolicy
from alignx.client.streams import DONE, ChatChunk, SummaryEvent, SummaryStream, parse_chat_chunk
from alignx.client.transport import (
    build_request,
    check_response,
    connection_options,
    expect_events,
    raise_unreachable,
    read_answer,
)
from alignx.schemas.many_users import LineOutcome, ListedUser, UserEvents, UserPage
from alignx.schemas.requests import ChatMode
from alignx.schemas.summaries import InteractionList, StoredInteraction, SummaryVersion, VersionList

T = TypeVar("T")
P = TypeVar("P", UserPage, InteractionList, VersionList)

PAGE = 1_000
"""Users of a page."""
BROKEN_OFF = "The answer broke off before its end."


def _pages(read: Callable[[Any], P]) -> Iterator[P]:
    """Page after page, each read from where the one before it ends."""
    page = read(None)
    yield page
    while page.next is not None:
        page = read(page.next)
        yield page


async def _async_pages(read: Callable[[Any], Awaitable[P]]) -> AsyncIterator[P]:
    page = await read(None)
    yield page
    while page.next is not None:
        page = await read(page.next)
        yield page


class AlignX(Endpoints):
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
        self._http = httpx.Client(**connection_options(base_url, api_key), transport=transport)
        self._retry = retry or RetryPolicy()
        self._sleep = sleep

    def send(self, call: Call[T], *, retry: RetryPolicy | None = None) -> T:
        """Sends any call; `retry` stands in place of the client's own."""
        return read_answer(call, self._response(call, retry=retry))

    def all_users(self, *, prefix: str | None = None) -> Iterator[ListedUser]:
        """All users of the key's tenant in the order of their ids, or those with the prefix, page by page."""
        for page in _pages(lambda after: self.users(prefix=prefix, after=after, limit=PAGE)):
            yield from page.users

    def append_all(self, lines: Iterable[UserEvents]) -> Iterator[LineOutcome]:
        """Appends lines in as many calls as they need, and again where the service had no room for one. Yields the
        outcome of each, mostly in order; its `line` counts from 1."""
        sender, retry = LineSender(lines), have_patience(self._retry)
        while call := sender.next_call():
            yield from sender.take(self.send(call, retry=retry))
            if sender.pause_s:
                self._sleep(sender.pause_s)

    def all_events(self, user: str) -> Iterator[StoredInteraction]:
        """The whole history, oldest first, page by page."""
        for page in _pages(lambda after: self.events(user, after=after)):
            yield from page.events

    def all_versions(self, user: str) -> Iterator[SummaryVersion]:
        """All versions, newest first, page by page."""
        for page in _pages(lambda before: self.versions(user, before=before)):
            yield from page.versions

    def export(self, user: str) -> Iterator[bytes]:
        """All data of a user, as the bytes of a JSON-lines file."""
        call = endpoints.export(user)
        with closing(self._response(call, stream=True)) as response:
            try:
                yield from response.iter_bytes()
            except httpx.RequestError as error:
                raise_unreachable(error, call)

    def watch(self, user: str, *, last_event_id: str | None = None) -> Iterator[SummaryEvent]:
        """The summary as it is written, without end; a lost connection is resumed where it broke."""
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
        """The answer in pieces; `more` are the further arguments of `chat`."""
        call, done = endpoints.chat(messages, user=user, mode=mode, stream=True, **more), False
        with closing(self._response(call, stream=True)) as response:
            expect_events(response)
            try:
                for event in EventSource(response).iter_sse():
                    done = done or event.data == DONE
                    if event.data and not done:
                        yield parse_chat_chunk(event.data)
            except httpx.RequestError as error:
                raise_unreachable(error, call)
        if not done:
            raise Unreachable(BROKEN_OFF)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _response(self, call: Call[Any], *, retry: RetryPolicy | None = None, stream: bool = False) -> httpx.Response:
        retry = retry or self._retry
        attempts = 1
        while True:
            outcome = self._try(call, stream=stream)
            delay_s = retry.delay_s(call, outcome, attempts)
            if delay_s is None:
                return check_response(call, outcome)
            self._sleep(delay_s)
            attempts += 1

    def _try(self, call: Call[Any], *, stream: bool) -> Outcome:
        try:
            response = self._http.send(build_request(self._http, call), stream=True)
            if not stream or not response.is_success:
                with closing(response):
                    response.read()
        except httpx.RequestError as error:
            return error
        return response


class AsyncAlignX(Endpoints):
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
        self._http = httpx.AsyncClient(**connection_options(base_url, api_key), transport=transport)
        self._retry = retry or RetryPolicy()
        self._sleep = sleep

    async def send(self, call: Call[T], *, retry: RetryPolicy | None = None) -> T:
        """Sends any call; `retry` stands in place of the client's own."""
        return read_answer(call, await self._response(call, retry=retry))

    async def all_users(self, *, prefix: str | None = None) -> AsyncIterator[ListedUser]:
        """All users of the key's tenant in the order of their ids, or those with the prefix, page by page."""
        async for page in _async_pages(lambda after: self.users(prefix=prefix, after=after, limit=PAGE)):
            for user in page.users:
                yield user

    async def append_all(self, lines: Iterable[UserEvents]) -> AsyncIterator[LineOutcome]:
        """Appends lines in as many calls as they need, and again where the service had no room for one. Yields the
        outcome of each, mostly in order; its `line` counts from 1."""
        sender, retry = LineSender(lines), have_patience(self._retry)
        while call := sender.next_call():
            for outcome in sender.take(await self.send(call, retry=retry)):
                yield outcome
            if sender.pause_s:
                await self._sleep(sender.pause_s)

    async def all_events(self, user: str) -> AsyncIterator[StoredInteraction]:
        """The whole history, oldest first, page by page."""
        async for page in _async_pages(lambda after: self.events(user, after=after)):
            for event in page.events:
                yield event

    async def all_versions(self, user: str) -> AsyncIterator[SummaryVersion]:
        """All versions, newest first, page by page."""
        async for page in _async_pages(lambda before: self.versions(user, before=before)):
            for version in page.versions:
                yield version

    async def export(self, user: str) -> AsyncIterator[bytes]:
        """All data of a user, as the bytes of a JSON-lines file."""
        call = endpoints.export(user)
        async with aclosing(await self._response(call, stream=True)) as response:
            try:
                async for chunk in response.aiter_bytes():
                    yield chunk
            except httpx.RequestError as error:
                raise_unreachable(error, call)

    async def watch(self, user: str, *, last_event_id: str | None = None) -> AsyncIterator[SummaryEvent]:
        """The summary as it is written, without end; a lost connection is resumed where it broke."""
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
        """The answer in pieces; `more` are the further arguments of `chat`."""
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
                raise_unreachable(error, call)
        if not done:
            raise Unreachable(BROKEN_OFF)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def _response(
        self, call: Call[Any], *, retry: RetryPolicy | None = None, stream: bool = False
    ) -> httpx.Response:
        retry = retry or self._retry
        attempts = 1
        while True:
            outcome = await self._try(call, stream=stream)
            delay_s = retry.delay_s(call, outcome, attempts)
            if delay_s is None:
                return check_response(call, outcome)
            await self._sleep(delay_s)
            attempts += 1

    async def _try(self, call: Call[Any], *, stream: bool) -> Outcome:
        try:
            response = await self._http.send(build_request(self._http, call), stream=True)
            if not stream or not response.is_success:
                async with aclosing(response):
                    await response.aread()
        except httpx.RequestError as error:
            return error
        return response
