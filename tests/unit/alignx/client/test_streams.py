"""What the events of a summary's stream mean; how bytes become events is httpx-sse's."""

import pytest
from httpx_sse import ServerSentEvent

from alignx.client.errors import AnswerUnreadable
from alignx.client.streams import SummaryStream


@pytest.mark.parametrize(("retry", "pause_s"), [(1500, 1.5), (None, 1.0), (-5, 1.0)])
def test_an_event_without_data_moves_the_place_and_the_pause(retry: int | None, pause_s: float):
    stream = SummaryStream("0")
    assert stream.read(ServerSentEvent(id="2", retry=retry)) is None
    assert (stream.last_event_id, stream.pause_s) == ("2", pause_s)


@pytest.mark.parametrize("event", [("pending", "{}"), ("delta", "["), ("version", "{}"), ("pending", "[]")])
def test_events_that_cannot_be_read(event: tuple[str, str]):
    with pytest.raises(AnswerUnreadable):
        SummaryStream().read(ServerSentEvent(*event))


def test_unknown_events_are_passed_over():
    assert SummaryStream().read(ServerSentEvent("message", "x")) is None
