"""What the preference service and its worker count, event by event."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from alignx.schemas.summaries import SummaryVersion
from services.errors import BacklogFull, QueueFull
from services.preference.updates.update_metrics import WorkerMetrics, written_by
from services.server.metrics import HttpMetrics
from tests.chaos.mock_engine import MockEngine
from tests.unit.services.preference.rig import TENANT, USER
from tests.unit.services.preference.served import EVENTS, PREFERENCES, Served
from tests.unit.services.preference.working import Bench, benched, settings_for, until, working

pytestmark = pytest.mark.anyio


async def exported(http: httpx.AsyncClient) -> dict[str, float]:
    """The series of a process by name and labels as they are written."""
    text = (await http.get("/metrics")).text
    pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


@pytest.mark.parametrize(
    ("fields", "writer"),
    [
        ({"source": "user", "parent": 1}, "user"),
        ({"source": "profile"}, "profile"),
        ({"source": "llm:m", "version": 1}, "streaming"),
        ({"source": "llm:m", "parent": 2}, "streaming"),
        ({"source": "llm:m"}, "full"),
    ],
)
def test_a_version_tells_who_wrote_it(fields: dict[str, Any], writer: str) -> None:
    version = SummaryVersion(**{"version": 3, "text": "t", "created_at": datetime.now(UTC), **fields})
    assert written_by(version) == writer


async def test_the_service_counts_what_is_asked_of_it(plain_suite: Served) -> None:
    key = {"Idempotency-Key": "k", "Prefer": "wait=5"}
    for _ in range(2):
        event = {"type": "statement", "text": "a"}
        (await plain_suite.http.post(EVENTS, json={"events": [event]}, headers=key)).raise_for_status()
    edit = await plain_suite.http.put(PREFERENCES, json={"text": "mine"}, headers={"If-Match": '"1"'})
    edit.raise_for_status()
    (await plain_suite.http.post(f"{PREFERENCES}/rollback", json={"version": 1})).raise_for_status()
    (await plain_suite.http.post(f"{PREFERENCES}/rebuild")).raise_for_status()
    assert (await plain_suite.http.post("/v1/users/nobody/preferences/rebuild")).status_code == 404
    (await plain_suite.http.delete("/v1/users/ada")).raise_for_status()
    assert (await plain_suite.http.delete("/v1/users/ada")).status_code == 404
    found = await exported(plain_suite.http)
    counted = {
        "alignx_event_to_profile_seconds_count": 1,
        "alignx_events_replayed_total": 1,
        "alignx_rollbacks_total": 1,
        "alignx_rebuilds_total": 1,
        "alignx_erasures_total": 1,
        'alignx_summary_versions_total{source="user"}': 1,
        'alignx_summary_versions_total{source="rollback"}': 1,
    }
    assert {name: found[name] for name in counted} == counted


async def test_a_version_is_counted_with_its_writer_and_length(bench: Bench) -> None:
    for text in ("u1n1", "u1n2"):
        await bench.put(text)
        assert await bench.update() == "committed"
    await bench.queue.request_rebuild(TENANT, USER)
    assert await bench.update() == "committed"
    assert bench.count("alignx_summary_versions_total", source="streaming") == 2
    assert bench.count("alignx_summary_versions_total", source="full") == 1
    assert bench.count("alignx_summary_chars_count") == 3
    texts = [(await bench.store.version(TENANT, USER, number)).text for number in (1, 2, 3)]
    assert bench.count("alignx_summary_chars_sum") == sum(map(len, texts))


async def test_what_is_tried_again_or_set_aside_is_counted(redis_url: str) -> None:
    async with benched(
        redis_url, MockEngine(lambda prompt: "refused" if "bad" in prompt else ""), queue={"event_failures": 2}
    ) as bench:
        await bench.put("u1n1")
        assert await bench.update() == "committed"
        await bench.put("bad u1n2", "bad u1n3")
        outcomes = []
        for _ in range(6):
            outcomes.append(await bench.try_update())
        assert outcomes == ["data", "halved", "data", "dead", "data", "dead"]
        assert bench.count("alignx_update_retries_total", fault="data") == 4
        assert bench.count("alignx_dead_letters_total") == 2
        assert bench.count("alignx_update_retries_total", fault="engine") == 0


async def test_the_worker_measures_queue_and_redis_beside_its_work(redis_url: str) -> None:
    """Even while every update it allows itself waits for a silent engine."""

    async with benched(redis_url, MockEngine(lambda _: "silent")) as bench:
        for number in range(3):
            await bench.put("u1n1", user=f"user{number}")
        one = settings_for(redis_url, bench.settings.engine.url, summary={"workers": 1}, server={"shutdown_s": 1})
        async with working(one) as http:
            await until(bench.is_asked)
            found = await exported(http)
            assert found["alignx_engine_calls_in_flight"] == 1
            assert found["alignx_engine_breaker_open"] == 0
            assert found['alignx_redis_up{node=""}'] == 1
            assert found["alignx_queue_users_waiting"] >= 2
            bench.mock.gate.set()


def test_what_alerts_look_at_counts_from_0_on() -> None:
    """The first refused event, the first refused reply: no rate shows it unless a 0 was seen before."""
    registry = CollectorRegistry()
    HttpMetrics(registry)
    WorkerMetrics(registry)
    for name, label, values in (
        ("alignx_problems_total", "code", (BacklogFull.code, QueueFull.code)),
        ("alignx_updates_total", "outcome", ("committed", "lost")),
        ("alignx_update_retries_total", "fault", ("engine", "data")),
    ):
        assert [registry.get_sample_value(name, {label: value}) for value in values] == [0.0] * len(values)
    labels = {"check": "refusal", "outcome": "refused"}
    assert registry.get_sample_value("alignx_summary_checks_total", labels) == 0.0
