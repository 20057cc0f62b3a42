"""Summaries, selections and recommendations by the real engine: the wire, not the words.

The model is random, so its summaries are noise; what is tested is that they come, whole, in order
and with their numbers, from the events to the version.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource

from alignx.client.streams import DeltaEvent, PendingEvent, SummaryEvent, SummaryStream, VersionEvent
from tests.conftest import wait_until
from tests.live.suite import Suite

pytestmark = pytest.mark.live

SOURCE = "llm:alignx-tiny"


def comparisons(count: int) -> list[dict[str, Any]]:
    return [
        {"type": "comparison", "query": f"q{i}", "chosen": "Yes.", "rejected": "A long tale."} for i in range(count)
    ]


@pytest.fixture
def client(engine_suite: Suite) -> Iterator[httpx.Client]:
    with engine_suite.client("summaries") as client:
        yield client


def learn(client: httpx.Client, user: str, count: int = 4) -> int:
    """Appends comparisons; the version that includes them."""
    body = {"events": comparisons(count)}
    answer = client.post(f"/v1/users/{user}/events", json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["pending"] == 0
    return int(answer.json()["version"])


def current(client: httpx.Client, user: str) -> dict[str, Any]:
    summary: dict[str, Any] = client.get(f"/v1/users/{user}/preferences").json()
    return summary


def wait_for(client: httpx.Client, user: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    wait_until(lambda: condition(current(client, user)), 30, lambda: current(client, user))
    return current(client, user)


# --- updates -----------------------------------------------------------------------------------


def test_the_engine_writes_a_version_and_the_next_from_it(client: httpx.Client) -> None:
    assert learn(client, "ada") == 1
    first = current(client, "ada")
    assert (first["source"], first["template"], first["parent"]) == (SOURCE, "first/2", None)
    assert first["events"]["count"] == 4
    assert first["tokens"]["prompt"] > 300
    assert 0 < first["tokens"]["completion"] <= 96
    assert first["latency_ms"] > 0
    assert first["text"].strip()
    assert learn(client, "ada", 2) == 2
    second = current(client, "ada")
    assert (second["source"], second["template"], second["parent"]) == (SOURCE, "update/2", 1)
    assert (second["events"]["count"], second["events_total"]) == (2, 6)
    versions = client.get("/v1/users/ada/preferences/versions").json()["versions"]
    assert [version["version"] for version in versions] == [2, 1]
    assert versions[1]["text"] == first["text"]
    assert not client.get("/v1/users/ada/dead-letters").json()["events"]


def test_a_users_own_text_is_the_past_of_the_next_update_and_heads_it(client: httpx.Client) -> None:
    edited = client.put("/v1/users/eve/preferences", json={"text": "Prefers brevity."})
    assert (edited.status_code, edited.json()["source"]) == (200, "user")
    assert learn(client, "eve") == 2
    summary = current(client, "eve")
    assert (summary["source"], summary["template"], summary["parent"]) == (SOURCE, "update/2", 1)
    assert summary["text"].startswith("Prefers brevity.\n")
    own, *others = summary["claims"]
    assert (own["kind"], own["text"]) == ("own", "Prefers brevity.")
    assert {claim["kind"] for claim in others} == {"model"}


def test_a_rebuild_reads_the_whole_history_and_no_past(client: httpx.Client) -> None:
    learn(client, "rob", 3)
    learn(client, "rob", 2)
    assert client.post("/v1/users/rob/preferences/rebuild").status_code == 202
    summary = wait_for(client, "rob", lambda summary: summary["version"] == 3)
    assert (summary["source"], summary["template"], summary["parent"]) == (SOURCE, "first/2", None)
    assert (summary["events"]["count"], summary["pending"]) == (5, 0)


def test_the_engine_is_tested_on_choices_it_has_not_seen(client: httpx.Client) -> None:
    learn(client, "uma")
    assert "engine" not in current(client, "uma")["quality"]  # there was no summary to test yet
    learn(client, "uma")
    summary = wait_for(client, "uma", lambda summary: "engine" in summary["quality"])
    quality = summary["quality"]["engine"]
    assert quality["comparisons"] == 2  # the sample of one batch
    assert 0 <= quality["accuracy"] <= 1
    assert 0 < quality["mean_probability"] < 1
    assert summary["quality"]["profile"]["comparisons"] == 8
    assert client.get("/v1/quality").json()["engine"]["comparisons"] >= 2


def test_a_summary_is_streamed_while_it_is_written(client: httpx.Client) -> None:
    learn(client, "sam")
    events: list[SummaryEvent] = []
    opened = threading.Event()
    watching = threading.Thread(target=watch, args=(client, "sam", events, opened, 2))
    watching.start()
    assert opened.wait(10)
    assert learn(client, "sam", 1) == 2
    watching.join(30)
    assert isinstance(events[0], VersionEvent)  # the summary as it was
    assert events[0].preferences.version == 1
    start = max(index for index, event in enumerate(events) if isinstance(event, PendingEvent))  # it begins a text anew
    *deltas, last = events[start + 1 :]
    assert deltas
    assert all(isinstance(event, DeltaEvent) for event in deltas)
    assert isinstance(last, VersionEvent)
    assert (last.preferences.version, last.preferences.source) == (2, SOURCE)
    assert last.preferences.text == current(client, "sam")["text"]


def watch(client: httpx.Client, user: str, events: list[SummaryEvent], opened: threading.Event, version: int) -> None:
    """Gathers the events of a user's stream up to `version`."""
    stream = SummaryStream()
    with client.stream("GET", f"/v1/users/{user}/preferences/stream") as answer:
        for event in EventSource(answer).iter_sse():
            if (update := stream.read(event)) is not None:
                events.append(update)
                opened.set()
            if events and isinstance(events[-1], VersionEvent) and events[-1].preferences.version >= version:
                return


# --- choices -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["engine", "fused"])
@pytest.mark.parametrize("count", [2, 3, 26])
def test_items_are_chosen_by_letters(client: httpx.Client, count: int, method: str) -> None:
    user = f"zoe-{count}-{method}"
    learn(client, user, 2)
    items = [f"dish number {i}" for i in range(count)]
    answer = client.post(f"/v1/users/{user}/select", json={"query": "dinner?", "items": items, "method": method})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["method"], body["version"]) == (method, 1)
    odds = [item["probability"] for item in body["items"]]
    assert min(odds) > 0
    assert sum(odds) == pytest.approx(1, abs=1e-4)
    assert body["choice"] == odds.index(max(odds))
    assert 0 < body["position_bias"] < 1


def test_both_orders_of_two_items_agree(client: httpx.Client) -> None:
    learn(client, "tom", 2)
    odds = []
    for items in (["soup", "salad"], ["salad", "soup"]):
        answer = client.post("/v1/users/tom/select", json={"items": items, "method": "engine"})
        odds.append([item["probability"] for item in answer.json()["items"]])
    assert odds[0] == pytest.approx(odds[1][::-1], abs=0.01)


def test_items_beyond_the_context_are_shortened_for_the_engine(client: httpx.Client) -> None:
    learn(client, "lea", 2)
    body = {"items": ["word " * 20_000, "short"], "method": "engine"}
    assert client.post("/v1/users/lea/select", json=body).json()["method"] == "engine"


@pytest.mark.parametrize("method", ["engine", "fused"])
def test_candidates_are_ranked(client: httpx.Client, method: str) -> None:
    learn(client, "kim", 2)
    candidates = [{"id": str(i), "title": f"Dish {i}"} for i in range(30)]
    body = {"query": "dinner?", "candidates": candidates, "k": 5, "method": method, "explain": True}
    answer = client.post("/v1/users/kim/recommend", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["method"] == method
    items = answer.json()["items"]
    assert [item["rank"] for item in items] == [1, 2, 3, 4, 5]
    assert all(item["id"] == str(item["index"]) and item["reason"] for item in items)
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True)
