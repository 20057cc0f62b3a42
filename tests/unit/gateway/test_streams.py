import asyncio
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from gateway import auth
from gateway.__main__ import GatewayState
from services.server.state import Process, state_of
from tests.unit.gateway.conftest import ADMIN_KEY, EVENT_STREAM, Seen, Suite, http_chunk
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
LIVE = "/v1/users/ann/preferences/stream"


async def endless(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(EVENT_STREAM + http_chunk(b"id: 1-0\nevent: version\ndata: {}\n\n"))
    await writer.drain()
    await asyncio.sleep(60)


async def test_events_pass_unchanged_as_they_come(suite: Suite) -> None:
    proceed = asyncio.Event()

    async def stream(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENT_STREAM + http_chunk(b"data: 1\n\n"))
        await proceed.wait()
        writer.write(
            http_chunk(b": ping\r\n\r\nda") + http_chunk(b"ta: 2\n\n") + http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        )
        await writer.drain()

    suite.response.handler = stream
    async with suite.call("POST", CHAT, data=b'{"stream":true}') as answer:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers.getall("X-Request-Id")
        async with asyncio.timeout(2):
            assert await answer.content.readany() == b"data: 1\n\n"  # before the service goes on
        proceed.set()
        assert await answer.read() == b": ping\r\n\r\ndata: 2\n\ndata: [DONE]\n\n"


async def test_a_caller_that_leaves_ends_the_call_of_the_service(suite: Suite) -> None:
    suite.preference.handler = endless
    async with suite.call("GET", LIVE) as answer:
        await answer.content.readany()
        answer.close()
    async with asyncio.timeout(2):
        await suite.preference.hung_up.wait()


async def test_a_caller_that_leaves_before_the_answer_ends_the_call_too(suite: Suite) -> None:
    started = asyncio.Event()

    async def think(_: Seen, _writer: asyncio.StreamWriter) -> None:
        started.set()
        await asyncio.sleep(60)

    suite.response.handler = think
    asking = asyncio.create_task(suite.json("POST", CHAT, data=b"{}"))
    await started.wait()
    asking.cancel()
    async with asyncio.timeout(2):
        await suite.response.hung_up.wait()
    text = await suite.metrics()
    assert 'route="/v1/chat/completions",status="499"} 1.0' in text


async def test_a_live_stream_ends_with_the_key_or_token_that_opened_it(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "RECHECK_S", 0.05)
    suite.preference.handler = endless
    key = await suite.make_key()
    body = {"user": "ann", "scopes": ["preferences:read"]}
    _, _, minted = await suite.json("POST", "/v1/tokens", key=key["key"], json=body)
    _, _, brief = await suite.json("POST", "/v1/tokens", json={**body, "expires_in_s": 3})
    async with asyncio.timeout(15):
        async with (
            suite.call("GET", LIVE, key=brief["token"]) as expiring,
            suite.call("GET", LIVE) as other,
            suite.call("GET", LIVE, key=key["key"]) as own,
            suite.call("GET", LIVE, key=minted["token"]) as user_s,
        ):
            assert [answer.status for answer in (other, own, user_s, expiring)] == [200] * 4
            await other.content.readany()
            assert b"event: version" in await expiring.read()
            await suite.json("DELETE", f"/admin/keys/{key['id']}", key=ADMIN_KEY)
            for answer in (own, user_s):
                assert b"event: version" in await answer.read()
            assert not other.content.at_eof()
    assert 'alignx_gateway_upstream_failures_total{service="preference",stage="body"} 0.0' in await suite.metrics()


async def test_streams_of_one_key_are_looked_after_together(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "RECHECK_S", 0.02)
    suite.preference.handler = endless
    authenticator = state_of(suite.app, GatewayState).authenticator
    looked_at: list[tuple[str, int]] = []
    is_open = authenticator._store.is_open

    async def look(key_id: str, generation: int) -> bool:
        looked_at.append((key_id, generation))
        return await is_open(key_id, generation)

    monkeypatch.setattr(authenticator._store, "is_open", look)
    key = await suite.make_key()
    async with asyncio.timeout(15), AsyncExitStack() as stack:
        answers = [await stack.enter_async_context(suite.call("GET", LIVE, key=key["key"])) for _ in range(4)]
        for answer in answers:
            await answer.content.readany()
        while len(looked_at) < 3:  # noqa: ASYNC110  # the looks are the gateway's own
            await asyncio.sleep(0.01)
        assert len(authenticator._watches) == 1
        assert set(looked_at) == {(key["id"], 0)}
        for answer in answers:
            answer.close()
        while authenticator._watches:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def cut_after(data: bytes) -> Any:
    async def stream(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENT_STREAM + http_chunk(data))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    return stream


async def test_a_broken_chat_stream_ends_with_an_error_openai_clients_raise(suite: Suite) -> None:
    suite.response.handler = cut_after(b'data: {"a":1}\n\n')
    async with suite.call("POST", CHAT, data=b'{"stream":true}') as answer:
        first, last, end = (await answer.read()).split(b"\n\n")
    assert (first, end) == (b'data: {"a":1}', b"")
    error = orjson.loads(last.removeprefix(b"data: "))["error"]
    assert (error["code"], error["type"]) == ("upstream_unavailable", "server_error")


@pytest.mark.parametrize(("path", "kind"), [("/v1/responses", "server_error"), ("/v1/messages", "overloaded_error")])
async def test_a_broken_stream_of_a_door_ends_with_its_error_event(suite: Suite, path: str, kind: str) -> None:
    suite.response.handler = cut_after(b'event: ping\ndata: {"type":"ping"}\n\n')
    async with suite.call("POST", path, data=b'{"stream":true}') as answer:
        _, last, end = (await answer.read()).split(b"\n\n")
    name, _, data = last.partition(b"\ndata: ")
    error = orjson.loads(data)
    assert (name, error["type"], error["error"]["type"], end) == (b"event: error", "error", kind, b"")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses/resp_1", "/v1/messages/count_tokens"])
async def test_unknown_paths_of_other_apis_answer_in_their_shape(suite: Suite, path: str) -> None:
    status, headers, answer = await suite.json("POST", path, data=b"{}")
    assert (status, headers["Content-Type"]) == (404, "application/json")
    assert answer["error"]["type"] == ("not_found_error" if "messages" in path else "invalid_request_error")


async def test_another_broken_stream_ends_with_an_error_event(suite: Suite) -> None:
    suite.preference.handler = cut_after(b"event: delta\ndata: half")
    async with suite.call("GET", LIVE) as answer:
        half, last, _ = (await answer.read()).split(b"\n\n")
        request_id = answer.headers["X-Request-Id"]
    assert half == b"event: delta\ndata: half"
    assert last.startswith(b"event: error\ndata: ")
    problem = orjson.loads(last.partition(b"data: ")[2])
    assert (problem["type"], problem["request_id"]) == ("urn:alignx:problem:upstream_unavailable", request_id)


@with_settings(gateway={"quick_timeout_s": 0.2})
async def test_a_stream_that_falls_silent_ends_with_an_error_event(suite: Suite) -> None:
    suite.preference.handler = endless
    async with suite.call("GET", LIVE) as answer:
        assert b"event: error\n" in await answer.read()


@with_settings(server={"drain_s": 0.5})
async def test_shutdown_ends_live_streams_cleanly_and_lets_chats_finish(suite: Suite) -> None:
    finish = asyncio.Event()

    async def chat(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENT_STREAM + http_chunk(b"data: 1\n\n"))
        await finish.wait()
        writer.write(http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()

    suite.preference.handler, suite.response.handler = endless, chat
    async with suite.call("GET", LIVE) as live, suite.call("POST", CHAT, data=b"{}") as talk:
        await live.content.readany()
        await talk.content.readany()
        suite.server.should_exit = True
        while not state_of(suite.app, Process).drain.begun:  # noqa: ASYNC110  # the signal is uvicorn's to see
            await asyncio.sleep(0.01)
        status, headers, body = await suite.json("GET", "/readyz")
        assert (status, body["checks"]["drain"]) == (503, "This instance is shutting down")
        assert headers["Connection"] == "close"
        async with suite.call("GET", LIVE) as late:  # still served: not everybody knows yet
            assert late.status == 200
            async with asyncio.timeout(5):
                assert await live.read() == b""  # a complete body: no error, no reset
                await late.read()
        finish.set()
        assert await talk.read() == b"data: [DONE]\n\n"


async def test_a_live_stream_that_begins_as_the_door_closes_ends_at_once(suite: Suite) -> None:
    started, proceed = asyncio.Event(), asyncio.Event()

    async def late(seen: Seen, writer: asyncio.StreamWriter) -> None:
        started.set()
        await proceed.wait()
        await endless(seen, writer)

    suite.preference.handler = late
    async with asyncio.TaskGroup() as tasks:

        async def follow() -> None:
            async with suite.call("GET", LIVE) as live, asyncio.timeout(5):
                assert b"error" not in await live.read()

        following = tasks.create_task(follow())
        await started.wait()
        state_of(suite.app, Process).drain.end()
        await asyncio.sleep(0)  # the streams there were have been ended
        proceed.set()
        await following


@with_settings(server={"shutdown_s": 1})
async def test_a_chat_that_outlasts_the_shutdown_is_told(suite: Suite) -> None:
    suite.response.handler = endless
    async with suite.call("POST", CHAT, data=b"{}") as talk:
        await talk.content.readany()
        suite.server.should_exit = True
        error = orjson.loads((await talk.read()).removeprefix(b"data: "))["error"]
    assert error["code"] == "draining"
