"""Feedback by HTTP: whose it is, what it adds to the history, and that nothing of it outlives the user."""

from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from alignx.schemas.tenants import TenantSettings
from services.outcomes.served import OutcomeMetrics, Outcomes
from services.server.app import USER_HEADER
from services.storage.key_names import tenant_settings_key
from services.storage.timed_cache import TimedCache
from tests.unit.services.preference.rig import TENANT
from tests.unit.services.preference.served import EVENTS, Served

pytestmark = pytest.mark.anyio
REPLIES = {"query": "Why is the sky blue?", "chosen": "Scattering.", "rejected": "It is a long story."}


async def offer(served: Served, user: str = "ada") -> str:
    """A selection of tea and milk that a user got, whose choice was tea."""
    await served.bench.redis.hset(tenant_settings_key(TENANT), "feedback_s", "3600")

    async def read(_: str) -> TenantSettings:
        return TenantSettings(feedback_s=3600)

    metrics = OutcomeMetrics(CollectorRegistry())
    outcomes = Outcomes(served.bench.redis, served.bench.store.keys, TimedCache(read), metrics)
    answer = await outcomes.open(TENANT, user, "selection")
    await outcomes.record(answer, {0: "tea", 1: "milk"}, choice=0)
    assert answer.response_id is not None
    return answer.response_id


async def send(served: Served, response_id: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    return await served.http.post("/v1/feedback", json={"response_id": response_id, **fields}, headers=headers or {})


async def accuracy(served: Served) -> tuple[int, int]:
    figures = (await served.http.get("/v1/quality/uplift")).json()["arms"]["personalized"]["accuracy"]
    return figures["successes"], figures["trials"]


async def test_two_replies_become_one_comparison(served: Served) -> None:
    answer = await offer(served)
    first, again = [await send(served, answer, user="ada", **REPLIES) for _ in range(2)]
    assert (first.status_code, first.json()) == (200, again.json())
    events = (await served.http.get(EVENTS)).json()["events"]
    assert [event["event_id"] for event in events] == [first.json()["event_id"]]
    kept = events[0]["interaction"]
    assert (kept["type"], kept["chosen"], kept["rejected"]) == ("comparison", "Scattering.", "It is a long story.")
    other = await send(served, answer, user="ada", **REPLIES | {"chosen": "Another."})
    assert other.json()["type"] == "urn:alignx:problem:idempotency_mismatch"
    rate = (await served.http.get("/v1/quality/uplift")).json()["arms"]["personalized"]["feedback_rate"]
    assert (rate["successes"], rate["trials"]) == (0, 1)


async def test_an_event_is_the_outcome_of_an_answer(served: Served) -> None:
    await offer(served)
    body = {"events": [{"type": "click", "clicked": "milk", "shown": ["tea"]}]}
    for _ in range(2):
        await served.http.post(EVENTS, json=body, headers={"Idempotency-Key": "once"})
    assert await accuracy(served) == (0, 1)
    await offer(served)
    await served.http.post(EVENTS, json={"events": [{"type": "purchase", "item": "tea"}], "backfill": True})
    assert await accuracy(served) == (0, 1)
    await served.http.post(EVENTS, json={"events": [{"type": "purchase", "item": "tea"}]})
    assert await accuracy(served) == (1, 2)


async def test_feedback_is_its_users_alone(served: Served) -> None:
    answer = await offer(served)
    assert (await send(served, answer, picked=0)).json()["errors"][0]["field"] == "user"
    stranger = await send(served, answer, {"X-User-Id": "bob"}, picked=0)
    assert (stranger.status_code, stranger.json()["type"]) == (404, "urn:alignx:problem:response_unknown")
    assert (await send(served, answer, {USER_HEADER: "bob"}, user="ada", picked=0)).status_code == 403
    assert await accuracy(served) == (0, 0)
    assert (await send(served, answer, {USER_HEADER: "ada"}, picked=0)).status_code == 200
    assert await accuracy(served) == (1, 1)


async def test_a_header_may_name_any_user(served: Served) -> None:
    answer = await offer(served, "語" * 100)
    named: Any = {"X-User-Id": ("語" * 100).encode()}
    assert (await send(served, answer, named, picked=0)).status_code == 200
    assert (await send(served, answer, {"X-User-Id": ""}, user="語" * 100, thumb="up")).status_code == 200


@pytest.mark.parametrize("fields", [{}, {"chosen": "One."}, {"picked": 2}, {"thumb": "sideways"}])
async def test_feedback_that_says_nothing_is_refused(served: Served, fields: dict[str, Any]) -> None:
    assert (await send(served, await offer(served), user="ada", **fields)).status_code == 422


async def test_answers_are_exported_and_erased(served: Served) -> None:
    answer = await offer(served)
    await send(served, answer, user="ada", **REPLIES)
    lines = [orjson.loads(line) for line in (await served.http.get("/v1/users/ada/export")).content.splitlines()]
    (kept,) = [line for line in lines if line["kind"] == "answer"]
    assert (kept["response_id"], kept["answer"]["choice"], kept["answer"]["thumb"]) == (answer, "0", "down")
    assert "tea" not in str(kept)
    assert (await served.http.delete("/v1/users/ada")).status_code == 204
    left = [key async for key in served.bench.redis.scan_iter() if ":u:" in key]
    assert left == []
    assert (await send(served, answer, user="ada", thumb="up")).status_code == 404


async def test_a_user_of_whom_only_an_answer_is_kept_can_be_erased(served: Served) -> None:
    answer = await offer(served, "bob")
    assert (await served.http.delete("/v1/users/bob")).status_code == 204
    assert (await send(served, answer, user="bob", thumb="up")).status_code == 404
