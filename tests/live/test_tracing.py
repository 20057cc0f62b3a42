"""One trace from a call at the gateway to the summary version it leads to: real processes, a real
exporter, and a collector that keeps what it is sent."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.live.collector import Collected, Collector, collecting
from tests.live.suite import SERVICES, Suite, mock_engine

pytestmark = pytest.mark.live

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CHAT = "chat mock"
"""The span of a call to the engine."""
NAME, WORD = "traced.person@example.org", "u7002n"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, Collector]]:
    home = tmp_path_factory.mktemp("tracing")
    with mock_engine(home) as url, collecting() as collector:
        settings = {
            "ALIGNX_ENGINE__URL": f"{url}/v1",
            "ALIGNX_TRACING__ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with Suite(home, settings).running() as suite:
            yield suite, collector


def append(suite: Suite, *, request_id: str, **headers: str) -> None:
    marker = f"{WORD}{request_id.removeprefix('call-')}"  # a summary of one and the same marker is a loop
    event = {"type": "comparison", "query": "which?", "chosen": f"good {marker}", "rejected": "bad"}
    with suite.client() as client:
        headers = {"X-Request-Id": request_id, "Prefer": "wait=20", **headers}
        answer = client.post(f"/v1/users/{NAME}/events", json={"events": [event]}, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.json()["version"], answer.text


def spans_of(collector: Collector, trace_id: str, *names: str) -> dict[str, Collected]:
    """The spans of a trace by name, once all of `names` have come, each as often as it is named."""

    def missing() -> Counter[str]:
        return Counter(names) - Counter(span.name for span in collector.of_trace(trace_id))

    wait_until(lambda: not missing(), 20, missing)
    return {span.name: span for span in collector.of_trace(trace_id)}


def logged(suite: Suite, service: str, request_id: str) -> list[dict[str, Any]]:
    """The service's lines on the call, once there are any: a line is written behind its answer."""

    def own() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in suite.log(service).splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("request_id") == request_id]

    return wait_until(own, 20, lambda: suite.log(service)[-2000:])


def test_one_trace_runs_from_the_call_to_the_summary_version(traced: tuple[Suite, Collector]) -> None:
    suite, collector = traced
    append(suite, request_id="call-1", traceparent=f"00-{TRACE}-{CALLER}-01")
    route = "POST /v1/users/{user}/events"
    spans = spans_of(collector, TRACE, route, route, "call preference", "append", "update", CHAT, "commit")
    doors = {span.service: span for span in collector.of_trace(TRACE) if span.name == route}
    assert doors.keys() == {"alignx-gateway", "alignx-preference"}
    call = doors["alignx-gateway"], spans["call preference"], doors["alignx-preference"]
    chain = [*call, spans["append"], spans["update"]]
    assert [span.parent_id for span in chain] == [CALLER, *(span.span_id for span in chain[:-1])]
    for part in (CHAT, "commit"):
        assert (spans[part].service, spans[part].parent_id) == ("alignx-worker", spans["update"].span_id)
    assert spans["commit"].attributes["alignx.version"] == 1
    assert spans["update"].attributes["alignx.outcome"] == "committed"
    assert doors["alignx-gateway"].attributes["alignx.request_id"] == "call-1"
    assert not any(span.failed for span in spans.values())
    assert collector.paths == {"/v1/traces"}


def test_the_logs_of_every_process_name_the_call_and_its_trace(traced: tuple[Suite, Collector]) -> None:
    suite, _ = traced
    trace_id = TRACE[::-1]
    append(suite, request_id="call-2", traceparent=f"00-{trace_id}-{CALLER}-00")  # not sampled, yet the same trace
    lines = [line for service in ("gateway", "preference", "worker") for line in logged(suite, service, "call-2")]
    assert {line["trace_id"] for line in lines} == {trace_id}
    assert [line["outcome"] for line in lines if line["logger"] == "alignx.worker"] == ["committed"]


def test_a_call_without_a_trace_begins_one(traced: tuple[Suite, Collector]) -> None:
    suite, collector = traced
    append(suite, request_id="call-3")
    begun = logged(suite, "gateway", "call-3")[0]["trace_id"]
    assert begun != TRACE
    spans_of(collector, begun, "append", "update", "commit")


def test_spans_hold_no_user_and_no_text(traced: tuple[Suite, Collector]) -> None:
    suite, collector = traced
    append(suite, request_id="call-4")
    with suite.client() as client:
        client.get(f"/v1/users/{NAME}/{WORD}")
        client.post(f"/v1/users/{NAME}/events", json={"events": [{"type": WORD}]})
    for service in reversed(SERVICES):  # their last spans come when they end
        suite.kill(service, 15)
        suite.start(service)
    suite.wait_ready(SERVICES)
    assert collector.raw
    for body in collector.raw:
        assert NAME.encode() not in body
        assert b"traced.person" not in body
        assert WORD.encode() not in body
    assert not any(span.name.endswith(("/readyz", "/livez", "/metrics")) for span in collector.spans)
