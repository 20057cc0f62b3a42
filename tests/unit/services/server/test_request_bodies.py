import asyncio
from contextlib import suppress
from typing import Any

import pytest

from services.errors import PayloadTooLarge, RequestError
from services.server import request_bodies
from services.server.request_bodies import ClientDisconnected, read_body

pytestmark = pytest.mark.anyio


async def read(messages: list[dict[str, Any]], headers: list[tuple[bytes, bytes]]) -> bytes | None:
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        message = next(waiting, None)
        if message is None:
            await asyncio.sleep(60)
        assert message is not None
        return message

    return await read_body({"type": "http", "headers": headers}, receive, limit=10, timeout_s=0.05)


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


CHUNKED = [(b"transfer-encoding", b"chunked")]


async def test_a_body_in_parts_is_joined() -> None:
    assert await read([part(b"ab", more=True), part(b"cd", more=False)], CHUNKED) == b"abcd"


async def test_no_body_is_not_waited_for() -> None:
    assert await read([], []) is None


@pytest.mark.parametrize(
    ("messages", "headers", "error", "text"),
    [
        ([], [(b"content-length", b"11")], PayloadTooLarge, None),
        ([part(b"123456", more=True), part(b"78901", more=True)], CHUNKED, PayloadTooLarge, None),
        ([part(b"a", more=True)], CHUNKED, RequestError, "did not arrive within"),
        ([part(b"a", more=True), {"type": "http.disconnect"}], CHUNKED, ClientDisconnected, None),
    ],
    ids=["announced", "chunked", "stops", "caller leaves"],
)
async def test_a_body_that_does_not_come_whole_or_is_too_large(
    messages: list[dict[str, Any]], headers: list[tuple[bytes, bytes]], error: type[Exception], text: str | None
) -> None:
    with pytest.raises(error, match=text):
        await read(messages, headers)


async def test_a_disconnection_whose_cancellation_is_lost_cancels_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_bodies, "_AGAIN_S", 0.01)

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async with asyncio.timeout(10):
        with request_bodies.DisconnectWatch(receive) as watch:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(60)
            raise AssertionError("it was not cancelled again")
        task = asyncio.current_task()
        assert task is not None
        assert (watch.disconnected, task.cancelling()) == (True, 0)
