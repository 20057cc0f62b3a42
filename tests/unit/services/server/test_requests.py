import asyncio
from typing import Any

import pytest

from services.errors import PayloadTooLarge, RequestError
from services.server.requests import ClientDisconnected, read_body


def read(messages: list[dict[str, Any]], headers: list[tuple[bytes, bytes]], limit: int = 10) -> bytes | None:
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        message = next(waiting, None)
        if message is None:
            await asyncio.sleep(60)
        assert message is not None
        return message

    return asyncio.run(read_body({"type": "http", "headers": headers}, receive, limit=limit, timeout_s=0.05))


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


CHUNKED = [(b"transfer-encoding", b"chunked")]


def test_a_body_in_parts_is_joined() -> None:
    assert read([part(b"ab", more=True), part(b"cd", more=False)], CHUNKED) == b"abcd"


def test_no_body_is_not_waited_for() -> None:
    assert read([], []) is None


def test_an_announced_body_that_is_too_large_is_not_read() -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        read([], [(b"content-length", b"11")])
    assert caught.value.extensions == {"limit_bytes": 10}
    assert "10 bytes" in caught.value.detail


def test_a_chunked_body_is_counted() -> None:
    with pytest.raises(PayloadTooLarge):
        read([part(b"123456", more=True), part(b"78901", more=True)], CHUNKED)


def test_a_body_that_stops_coming() -> None:
    with pytest.raises(RequestError, match="did not arrive"):
        read([part(b"a", more=True)], CHUNKED)


def test_a_caller_that_leaves_within_its_body() -> None:
    with pytest.raises(ClientDisconnected):
        read([part(b"a", more=True), {"type": "http.disconnect"}], CHUNKED)
