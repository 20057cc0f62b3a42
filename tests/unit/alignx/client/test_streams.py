"""Server-sent events: every way to cut the bytes gives the same events."""

import pytest
from httpx_sse import EventSource, ServerSentEvent

from alignx.client.errors import AnswerUnreadable
from alignx.client.streams import DeltaEvent, SummaryStream
from tests.unit.alignx.conftest import sse

STREAM = (
    'retry: 1500\r\n: keep\r\n\r\nid: 1\revent: delta\rdata: {"text":\rdata: "a\u2028\x85b"}\r\r'
    "data:x\n\nid: 2\n\nid:3\ndata: cut"
)
EVENTS = [("delta", '{"text":\n"a\u2028\x85b"}'), ("message", "x")]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_pieces_of_any_size(size: int):
    stream, content = SummaryStream("0"), STREAM.encode()
    response = sse(*(content[start : start + size] for start in range(0, len(content), size)))
    events = list(EventSource(response).iter_sse())
    assert [(event.event, event.data) for event in events if event.data] == EVENTS
    assert [update for event in events if (update := stream.read(event))] == [DeltaEvent("a\u2028\x85b")]
    assert stream.last_event_id == "2"
    assert stream.pause_s == 1.5


def test_half_an_event_is_forgotten_with_its_connection():
    stream = SummaryStream()
    first, second = sse(b"id: 5\nevent: delta\ndata: 1"), sse(b"\n\ndata: 2\n\n")
    assert list(EventSource(first).iter_sse()) == []
    (event,) = EventSource(second).iter_sse()
    assert (event.event, event.data) == ("message", "2")
    assert stream.read(event) is None
    assert stream.last_event_id is None


@pytest.mark.parametrize("retry", [None, -5])
def test_a_pause_of_no_use_changes_nothing(retry: int | None):
    stream = SummaryStream()
    stream.read(ServerSentEvent(retry=retry))
    assert stream.pause_s == 1.0


@pytest.mark.parametrize("event", [("pending", "{}"), ("delta", "["), ("version", "{}"), ("pending", "[]")])
def test_events_that_cannot_be_read(event: tuple[str, str]):
    with pytest.raises(AnswerUnreadable):
        SummaryStream().read(ServerSentEvent(*event))


def test_unknown_events_are_passed_over():
    assert SummaryStream().read(ServerSentEvent("message", "x")) is None
