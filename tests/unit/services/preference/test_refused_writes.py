"""A Redis that answers and writes nothing: full, a replica, or without its own replicas; and one whose disk is full."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from gateway.keys import KeyStore, new_key
from services.preference.updates.update import UpdateResult
from services.server.app import STORE_FAULTS
from services.settings import RedisSettings, Settings
from services.storage.connection import StoreRefused, open_redis
from tests.conftest import fill_disk, free_port
from tests.unit.services.preference.rig import TENANT, USER, Process, Rig, opened, start_redis, stop_redis
from tests.unit.services.preference.working import benched

pytestmark = pytest.mark.anyio

REFUSALS = {
    "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "read-only": (("REPLICAOF", "127.0.0.1", "9"), ("REPLICAOF", "NO", "ONE")),
    "no-replicas": (("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0")),
}


@contextmanager
def refusing(url: str, why: str) -> Iterator[None]:
    before, after = REFUSALS[why]
    admin: Any
    with Redis.from_url(url) as admin:
        admin.execute_command(*before)
        try:
            yield
        finally:
            admin.execute_command(*after)


@pytest.mark.parametrize("why", REFUSALS)
async def test_an_event_is_refused_as_something_to_wait_out(rig: Rig, redis_url: str, why: str) -> None:
    await rig.put("a")
    with refusing(redis_url, why), pytest.raises(STORE_FAULTS):
        await rig.put("b")
    assert (await rig.put("c")).pending == 2


@pytest.mark.parametrize("why", REFUSALS)
async def test_a_key_is_admitted_and_its_bucket_left_alone(redis_url: str, why: str) -> None:
    settings = Settings(internal_token="t" * 16, redis=RedisSettings(url=redis_url))
    async with open_redis(settings.redis) as redis:
        keys, (_, key) = KeyStore(redis, settings), new_key()
        await keys.register(key, tenant=TENANT, name="first")
        first = await keys.admit(key)
        with refusing(redis_url, why):
            refused = [await keys.admit(key) for _ in range(3)]
        after = await keys.admit(key)
    assert first
    assert first.allowance
    for admission in refused:
        assert admission
        assert admission.state == "open"
        assert admission.allowance
        assert admission.allowance.granted
    assert after
    assert after.allowance
    assert after.allowance.tokens >= first.allowance.tokens - 1


async def test_a_full_disk_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    acknowledged: list[str] = []

    async def write(rig: Rig) -> None:
        while True:
            text = f"event {len(acknowledged)}"
            await rig.put(text)
            acknowledged.append(text)

    async def write_until_it_ends(server: Process) -> None:
        async with opened(url) as rig:
            with pytest.raises(STORE_FAULTS):
                await write(rig)
        assert server.wait(10) == 1  # rather than to acknowledge what it cannot store

    async def events() -> list[str]:
        async with opened(url) as rig:
            stored = await rig.store.events(TENANT, USER, None, 1_000)
        return [getattr(event.interaction, "text", "") for event in stored]

    server = start_redis(tmp_path, port)
    async with opened(url) as rig:
        await rig.put("event 0")
    acknowledged.append("event 0")
    fill_disk(server, tmp_path, room=20_000)
    await write_until_it_ends(server)
    assert len(acknowledged) > 5

    server = start_redis(tmp_path, port)
    fill_disk(server, tmp_path)
    assert await events() == acknowledged  # read while the disk is full
    await write_until_it_ends(server)

    server = start_redis(tmp_path, port)
    try:
        assert await events() == acknowledged
        async with opened(url) as rig:
            assert (await rig.put("there is room again")).pending == len(acknowledged) + 1
    finally:
        stop_redis(server)


async def test_a_full_redis_can_be_emptied(rig: Rig, redis_url: str) -> None:
    await rig.put("a")
    with refusing(redis_url, "full"):
        assert await rig.queue.forget(TENANT, USER)


async def test_a_user_whose_update_was_refused_is_not_blamed(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with benched(redis_url) as bench:
        await bench.put("a")
        claim = await bench.take()

        async def refused(_claim: object) -> UpdateResult:
            raise StoreRefused("OOM")

        monkeypatch.setattr(bench.updater, "run", refused)
        assert (await bench.dispatcher._attempt(claim)).outcome == "lost"
        with refusing(redis_url, "read-only"):
            await bench.dispatcher._release()
            assert bench.dispatcher._unreleased == [claim]
        await bench.dispatcher._release()
        assert bench.dispatcher._unreleased == []
        assert await bench.redis.hget(bench.keys().state, "crash") is None
        assert (await bench.take()).user == USER


async def test_a_user_who_comes_while_others_are_released_waits_for_the_next_time(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with benched(redis_url) as bench:
        await bench.put("a")
        claim = await bench.take()
        dispatcher, fail = bench.dispatcher, bench.queue.fail
        late = replace(claim, user="late")

        async def fail_while_another_comes(*arguments: Any) -> str:
            dispatcher._unreleased.append(late)
            return await fail(*arguments)

        monkeypatch.setattr(bench.queue, "fail", fail_while_another_comes)
        dispatcher._unreleased.append(claim)
        await dispatcher._release()
        assert dispatcher._unreleased == [late]
        assert (await bench.take()).user == USER
