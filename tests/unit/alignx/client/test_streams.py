"""Server-sent events: every way to cut the bytes gives the same events."""

import pytest

from alignx.client.errors import AnswerUnreadable
from alignx.client.streams import ServerEvent, SseParser, summary_event

STREAM = (
    'retry: 1500\r\n: keep\r\n\r\nid: 1\revent: delta\rdata: {"text":\rdata: "a\u2028\x85b"}\r\r'
    "data:x\n\nid: 2\n\nid:3\ndata: cut"
)
EVENTS = [ServerEvent("delta", '{"text":\n"a\u2028\x85b"}'), ServerEvent("message", "x")]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_pieces_of_any_size(size: int):
    parser, content = SseParser("0"), STREAM.encode()
    events = [event for at in range(0, len(content), size) for event in parser.feed(content[at : at + size])]
    assert events == EVENTS
    assert parser.last_event_id == "2"
    assert parser.pause_s == 1.5


def test_half_an_event_is_forgotten_with_its_connection():
    parser = SseParser()
    assert list(parser.feed(b"id: 5\nevent: delta\ndata: 1")) == []
    parser.restart()
    assert list(parser.feed(b"\n\ndata: 2\n\n")) == [ServerEvent("message", "2")]
    assert parser.last_event_id is None


@pytest.mark.parametrize("event", [("pending", "{}"), ("delta", "["), ("version", "{}"), ("pending", "[]")])
def test_events_that_cannot_be_read(event: tuple[str, str]):
    with pytest.raises(AnswerUnreadable):
        summary_event(ServerEvent(*event))


def test_unknown_events_are_passed_over():
    assert summary_event(ServerEvent("message", "x")) is None
