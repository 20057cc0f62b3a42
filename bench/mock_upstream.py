"""A service that costs almost nothing: fixed JSON, or a stream of 100 events, at once.

    python -m bench.mock_upstream PORT

A body with `"stream":true` gets the events, `GAP_S` apart; any other request gets the JSON. It is
written on the bare transport, so that what a benchmark measures is the thing in front of it.
"""

import asyncio
import sys
from typing import cast

import orjson

EVENTS = 100
GAP_S = 0.005

_DOCUMENT = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 160}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 160},
    }
)
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_DOCUMENT) + _DOCUMENT
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_EVENT = _chunk(
    b"data: "
    + orjson.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "model": "mock",
            "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}],
        }
    )
    + b"\n\n"
)


class MockService(asyncio.Protocol):
    """One connection; requests have a Content-Length or no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class, with the same methods
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            length = 0
            for line in self.received[:end].lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
            if len(self.received) < end + 4 + length:
                return
            body = self.received[end + 4 : end + 4 + length]
            self.received = self.received[end + 4 + length :]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        if b'"stream":true' in body:
            self.transport.write(_STREAM)
            self._send_event(0)
        else:
            self.transport.write(_JSON)

    def _send_event(self, number: int) -> None:
        if self.transport.is_closing():
            return
        if number == EVENTS:
            self.transport.write(_END)
            return
        self.transport.write(_EVENT)
        asyncio.get_running_loop().call_later(GAP_S, self._send_event, number + 1)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(MockService, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(int(sys.argv[1])))
