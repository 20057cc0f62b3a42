"""What the queue's scripts leave for endpoints, in the same step as the write."""

import asyncio

import pytest

from services.preference.webhooks import deliveries
from tests.unit.services.preference.rig import TENANT, USER, change, draft, record
from tests.unit.services.preference.webhooks.receiving import Receiver, Sending, receiving, sending

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hook"


async def outbox_keys(sending: Sending) -> list[str]:
    return sorted([key async for key in sending.rig.redis.scan_iter("*hook*") if not key.startswith("pi:webhooks")])


async def told(sending: Sending, endpoint: str, tenant: str = TENANT) -> list[dict[str, object]]:
    """Type and data of all events, oldest first."""
    found = await sending.recent(endpoint, tenant)
    return [{"type": one.event.type, **one.event.data.model_dump(exclude_none=True)} for one in reversed(found)]


async def members(sending: Sending, part: str) -> list[str]:
    """Events in all queues of a kind, those that have no record too."""
    keys = [key for key in await outbox_keys(sending) if key.endswith(f":{part}")]
    return [event for key in keys for event in await sending.rig.redis.zrange(key, 0, -1)]


async def test_without_an_endpoint_nothing_is_written(out: Sending) -> None:
    await out.write()
    assert await out.rig.queue.forget(TENANT, USER)
    assert await outbox_keys(out) == []


async def test_an_endpoint_gets_what_it_asks_for_of_its_own_tenant(out: Sending) -> None:
    versions = await out.register(URL, events=("preferences.version",))
    erased = await out.register(URL, events=("user.erased",))
    foreign = await out.register(URL, tenant="beta")
    await out.write()
    await out.write()
    await out.rig.queue.edit(TENANT, USER, 2, record("mine", 3))
    assert await told(out, versions.id) == [
        {"type": "preferences.version", "user": USER, "version": version} for version in (1, 2, 3)
    ]
    await out.rig.queue.forget(TENANT, USER)
    assert await told(out, erased.id) == [{"type": "user.erased", "user": USER}]
    assert await told(out, foreign.id, "beta") == []


async def test_a_write_that_is_refused_tells_nobody(out: Sending) -> None:
    endpoint = await out.register(URL)
    await out.rig.put("a", at_once=True)
    claim = await out.rig.take()
    await out.rig.queue.edit(TENANT, USER, 0, record("mine"))
    assert not await out.rig.commit(claim)
    assert not await out.rig.queue.forget(TENANT, "nobody")
    assert await told(out, endpoint.id) == [{"type": "preferences.version", "user": USER, "version": 1}]


async def test_drift_and_what_is_held_back(out: Sending) -> None:
    changed = change("Likes jazz now.")
    endpoint = await out.register(URL)
    (event_id,) = (await out.rig.put("poison", at_once=True)).ids
    stamp, _ = await out.rig.store.profile(TENANT, USER)
    await out.rig.queue.record_change(TENANT, USER, stamp, changed)
    claim = await out.rig.take()
    await out.rig.queue.keep_rejected(claim, draft("Secret words."))
    while await out.rig.queue.fail(claim, "data", first_id=event_id, batch=1, error="broken") != "DEAD":
        claim = await out.rig.take()
    assert await told(out, endpoint.id) == [
        {"type": "preferences.drift", "user": USER, "since": changed.since, "comparisons": 7},
        {"type": "preferences.held_back", "user": USER, "reason": "checks"},
        {"type": "preferences.held_back", "user": USER, "reason": "dead_letter", "event_id": event_id},
    ]
    dump = "".join([str(await out.rig.redis.hgetall(key)) for key in await outbox_keys(out) if key.endswith("log")])
    assert not any(word in dump for word in ("poison", "jazz", "Secret", "broken"))


async def test_an_erasure_leaves_the_notice_alone(out: Sending, receiver: Receiver) -> None:
    endpoint = await out.register(receiver.url)
    await out.write()
    await out.send()
    await out.write()
    await out.write("bob")
    await out.rig.queue.forget(TENANT, USER)
    assert {(one["type"], one["user"]) for one in await told(out, endpoint.id)} == {
        ("user.erased", USER),
        ("preferences.version", "bob"),
    }
    assert [key for key in await out.rig.user_keys() if f":{USER}:" in key] == []
    waiting, ended = await members(out, "due"), await members(out, "done")
    assert (len(waiting), len(ended)) == (2, 0)  # the notice, and bob's version
    await out.send()
    assert [event.type for event in receiver.events(endpoint.secret) if event.data.user == USER] == [
        "preferences.version",
        "user.erased",
    ]
    held = [str(await out.rig.redis.hgetall(key)) for key in await outbox_keys(out) if key.endswith("log")]
    assert USER not in "".join(held).replace(TENANT, "")


async def test_of_what_has_ended_the_latest_are_kept(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "KEEP_ENDED", 2)
    async with sending(redis_url, shards=1) as out, receiving() as receiver:
        endpoint = await out.register(receiver.url)
        for _ in range(5):
            await out.write()
            await out.send()
        assert [one["version"] for one in await told(out, endpoint.id)] == [4, 5]
        names = out.deliveries.keys.outbox(0, TENANT, endpoint.id)
        assert await out.rig.redis.hlen(names.own + "log") == 2
        assert await out.rig.redis.scard(out.rig.keys().hooks) == 2


async def test_what_is_made_again_waits_and_has_not_ended(out: Sending, receiver: Receiver) -> None:
    endpoint = await out.register(receiver.url)
    await out.write()
    await out.send()
    (ended,) = await members(out, "done")
    await out.deliveries.replay(TENANT, endpoint.id, ended)
    assert (await members(out, "due"), await members(out, "done")) == ([ended], [])
    await out.send()
    assert (await members(out, "due"), await members(out, "done")) == ([], [ended])


async def test_an_attempt_that_ends_after_the_erasure_brings_nothing_back(out: Sending) -> None:
    endpoint = await out.register(URL, events=("preferences.version",))
    await out.write()
    names = out.deliveries.keys.outbox(out.deliveries.keys.shard(TENANT, USER), TENANT, endpoint.id)
    _, (delivery,) = await out.deliveries.claim(names, 30, 4)
    await out.rig.queue.forget(TENANT, USER)
    for in_s in (None, 5.0):
        assert not await out.deliveries.settle(names, delivery, in_s)
    assert await told(out, endpoint.id) == []
    assert await members(out, "due") == await members(out, "done") == []


async def test_a_second_life_of_a_user_is_told_of_too(out: Sending) -> None:
    endpoint = await out.register(URL)
    for _ in range(2):
        await out.write()
        await out.rig.queue.forget(TENANT, USER)
    assert [one["type"] for one in await told(out, endpoint.id)] == ["user.erased", "user.erased"]


async def test_an_endpoint_that_is_deleted_leaves_nothing(out: Sending) -> None:
    endpoint = await out.register(URL)
    await out.write()
    await out.service.delete(TENANT, endpoint.id)
    assert await outbox_keys(out) == []
    await out.write()  # the writer remembers the endpoint for a moment
    assert await outbox_keys(out) != []
    await out.send()
    assert await outbox_keys(out) == []


async def test_many_writers_leave_one_event_each(out: Sending) -> None:
    endpoint = await out.register(URL)
    await asyncio.gather(*(out.rig.queue.edit(TENANT, f"u{n}", 0, record("t")) for n in range(40)))
    assert sorted(str(one["user"]) for one in await told(out, endpoint.id)) == sorted(f"u{n}" for n in range(40))
