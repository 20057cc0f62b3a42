import asyncio
from typing import Any

import pytest

from gateway.rate_limits import Allowance, ClientDisconnected, read_body
from services.errors import PayloadTooLarge, RequestError


def test_allowance_as_header_fields() -> None:
    assert Allowance(True, 399.4, rate=200.0, burst=400).headers() == [
        (b"ratelimit-policy", b'"key";q=400;w=2'),
        (b"ratelimit", b'"key";r=399;t=1'),
    ]


@pytest.mark.parametrize(("tokens", "rate", "seconds"), [(0.0, 0.1, 10), (0.5, 0.1, 5), (0.9, 100.0, 1)])
def test_retry_after_is_the_time_to_the_next_token(tokens: float, rate: float, seconds: int) -> None:
    assert Allowance(False, tokens, rate=rate, burst=1).retry_after == seconds


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
