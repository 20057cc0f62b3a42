"""Served chats become events of their users once, and never those of an erased one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from alignx.schemas.interactions import DialogueInteraction, Message
from alignx.schemas.tenants import TenantSettings
from services.errors import ResponseUnknown
from services.outcomes.chats import ChatOutbox
from services.outcomes.served import OutcomeMetrics, Outcomes
from services.preference.ingest import Ingest
from services.preference.learner import Learner
from services.preference.updates.update_metrics import IngestMetrics
from services.settings import LimitSettings
from services.storage.timed_cache import TimedCache
from services.storage.users import encode_interaction
from tests.unit.services.preference.rig import TENANT, USER, Rig, opened
from tests.unit.services.preference.served import EVENTS, PREFERENCES, Served, serving
from tests.unit.services.preference.working import until

pytestmark = pytest.mark.anyio
SAID = "I adore zephyrine pottery."


async def read_settings(_: str) -> TenantSettings:
    return TenantSettings()


@dataclass(frozen=True)
class School:
    rig: Rig
    outcomes: Outcomes
    learner: Learner
    registry: CollectorRegistry

    async def keep(self, text: str = SAID, user: str = USER) -> str:
        """A chat whose answer has been given; its response id."""
        serving = await self.outcomes.open(TENANT, user, "chat", learn=True)
        assert serving.response_id is not None
        turns = (Message(role="user", content=text), Message(role="assistant", content="So do I."))
        event = DialogueInteraction(id=serving.response_id, source="chat", messages=turns)
        await self.outcomes.keep_chat(serving, encode_interaction(event))
        return serving.response_id

    async def events(self, user: str = USER) -> list[str | None]:
        """Ids of the events in the user's log."""
        events = await self.rig.store.events(TENANT, user, None, 100)
        return [event.interaction.id for event in events]

    async def waiting(self) -> list[str]:
        """Users with chats that are to become events."""
        return [
            member
            for shard in range(self.rig.store.keys.shards)
            for member in await self.rig.redis.zrange(self.rig.store.keys.shard_prefix(shard) + "chats", 0, -1)
        ]

    async def due_at(self) -> float:
        """When the user's chats are due, in milliseconds."""
        due_at: float = await self.rig.redis.zscore(self.rig.keys().waiting_chats, self.rig.keys().member)
        return due_at

    def counted(self, outcome: str) -> float:
        return self.registry.get_sample_value("alignx_chats_learned_total", {"outcome": outcome}) or 0.0


def teach(rig: Rig, **limits: Any) -> School:
    registry = CollectorRegistry()
    metrics, tenants = IngestMetrics(registry), TimedCache(read_settings)
    outcomes = Outcomes(rig.redis, rig.store.keys, tenants, OutcomeMetrics(registry))
    ingest = Ingest(rig.store, rig.queue, LimitSettings(**limits), metrics)
    chats = ChatOutbox(rig.redis, rig.store.keys)
    return School(rig, outcomes, Learner(ingest, chats, outcomes, metrics), registry)


@asynccontextmanager
async def taught(url: str, limits: dict[str, Any] | None = None, **queue: Any) -> AsyncIterator[School]:
    async with opened(url, shards=4, **queue) as rig:
        yield teach(rig, **limits or {})


async def test_a_chat_becomes_one_event(redis_url: str) -> None:
    async with taught(redis_url) as school:
        first, second = await school.keep(), await school.keep("And tides.")
        await school.keep(user="bob")
        while await school.learner.learn_due():
            pass
        assert await school.events() == [first, second]
        assert len(await school.events("bob")) == 1
        assert await school.waiting() == []
        assert not await school.rig.redis.exists(school.rig.keys().chats)
        _, profile = await school.rig.store.profile(TENANT, USER)
        assert profile.events == 2


async def test_two_learners_store_a_chat_once(redis_url: str) -> None:
    async with taught(redis_url) as school:
        ids = [await school.keep(f"I like {number}.") for number in range(5)]
        learners = [teach(school.rig).learner for _ in range(3)]
        await asyncio.gather(*(learner.learn(TENANT, USER) for learner in learners))
        assert sorted(filter(None, await school.events())) == sorted(ids)


async def test_an_append_that_is_made_again_stores_nothing(redis_url: str) -> None:
    async with taught(redis_url) as school:
        response_id = await school.keep()
        ((_, record),) = await school.learner.chats.waiting(TENANT, USER)
        await school.learner.learn(TENANT, USER)
        event = DialogueInteraction.model_validate_json(record)
        with pytest.raises(ResponseUnknown):
            await school.learner.ingest.append(TENANT, USER, [event], chat=response_id)
        assert await school.events() == [response_id]


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_chat_that_waits_is_erased_with_its_user(redis_url: str, is_known: bool) -> None:
    async with taught(redis_url) as school:
        if is_known:
            await school.rig.put("I like tea.")
        response_id = await school.keep()
        ((_, record),) = await school.learner.chats.waiting(TENANT, USER)
        assert await school.rig.queue.forget(TENANT, USER)
        event = DialogueInteraction.model_validate_json(record)
        with pytest.raises(ResponseUnknown):  # a learner had read it before
            await school.learner.ingest.append(TENANT, USER, [event], chat=response_id)
        assert await school.learner.learn_due() == 0
        assert await school.waiting() == []
        assert await school.rig.user_keys() == []


async def test_what_the_users_limits_hold_up_comes_later(redis_url: str) -> None:
    async with taught(redis_url, user_backlog=1) as school:
        await school.rig.put("I like tea.")
        response_id = await school.keep()
        kept_at = await school.due_at()
        assert await school.learner.learn_due() == 1
        assert response_id not in await school.events()
        assert await school.due_at() >= kept_at + 1_000  # not at once
        await school.rig.commit(await school.rig.take())
        await school.rig.redis.zadd(school.rig.keys().waiting_chats, {school.rig.keys().member: 1})
        await school.learner.learn_due()
        assert response_id in await school.events()


async def test_what_is_no_event_is_dropped_and_counted(redis_url: str) -> None:
    async with taught(redis_url, {"event_bytes": 1_024}) as school:
        await school.keep("x" * 2_000)
        await school.rig.redis.hset(school.rig.keys().chats, "0" * 32, '{"type": "dialogue"}')
        good = await school.keep()
        await school.learner.learn_due()
        assert await school.events() == [good]
        assert await school.waiting() == []
        assert school.counted("refused") == 2


async def test_a_chat_that_fails_holds_up_no_other(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with taught(redis_url) as school:
        bad, good = await school.keep("Break this."), await school.keep()
        append = school.learner.ingest.append

        async def break_some(tenant: str, user: str, events: Any, **more: Any) -> Any:
            if "Break" in events[0].messages[0].content:
                raise ZeroDivisionError
            return await append(tenant, user, events, **more)

        monkeypatch.setattr(school.learner.ingest, "append", break_some)
        kept_at = await school.due_at()
        await school.learner.learn_due()
        assert await school.events() == [good]
        assert [response_id for response_id, _ in await school.learner.chats.waiting(TENANT, USER)] == [bad]
        assert await school.due_at() >= kept_at + 1_000  # not at once


async def hold(served: Served, response_id: str = "0" * 32) -> str:
    """A chat that waits, and that the service's own learner does not find; its response id."""
    event = DialogueInteraction(id=response_id, messages=(Message(role="user", content=SAID),))
    await served.bench.redis.hset(served.bench.keys().chats, response_id, encode_interaction(event))
    return response_id


async def test_the_service_learns_by_itself(served: Served) -> None:
    response_id = await teach(served.bench).keep()

    async def is_learned() -> bool:
        return (await served.http.get(PREFERENCES)).status_code == 200

    await until(is_learned)
    (event,) = (await served.http.get(EVENTS)).json()["events"]
    assert (event["interaction"]["id"], event["interaction"]["source"]) == (response_id, "chat")
    assert "pottery" in (await served.http.get(PREFERENCES)).json()["text"]


async def test_forgetting_something_reaches_chats_that_wait(redis_url: str) -> None:
    async with serving(redis_url, queue={"user_backlog": 2}) as served:
        await served.put("I like tea.")
        await hold(served)
        receipt = await served.http.post("/v1/users/ada/forget", json={"about": "pottery"})
        assert len(receipt.json()["event_ids"]) == 1
        await served.put("And milk.")
        await hold(served)  # the backlog is full: it cannot become an event now
        assert (await served.http.post("/v1/users/ada/forget", json={"about": "pottery"})).status_code == 200
        assert not await served.bench.redis.exists(served.bench.keys().chats)
        assert "pottery" not in (await served.http.get(EVENTS)).text


async def test_chats_that_wait_are_exported_and_erased(served: Served) -> None:
    await served.put("I like tea.")
    response_id = await hold(served)
    lines = [orjson.loads(line) for line in (await served.http.get("/v1/users/ada/export")).content.splitlines()]
    (chat,) = [line for line in lines if line["kind"] == "chat"]
    assert (chat["response_id"], chat["interaction"]["messages"][0]["content"]) == (response_id, SAID)
    assert (await served.http.delete("/v1/users/ada")).status_code == 204
    assert await served.bench.user_keys() == []
