"""The worker against a real Redis and an engine that keeps count."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as RedisConnectionError

from alignx.schemas.status import EngineState
from services.engine.conventions.sessions import HEADER, session_header, session_of
from services.errors import EngineUnavailable
from services.preference.updates import dispatcher
from services.storage.key_names import ENGINE_FAULT
from services.storage.redis_metrics import RedisMetrics
from tests.chaos.mock_engine import MARKER, Fault, MockEngine
from tests.chaos.strict_engine import DIALECTS, rules
from tests.unit.services.preference.rig import TENANT, USER, OwnRedis, Rig
from tests.unit.services.preference.working import Bench, benched, settings_for, until, working

pytestmark = pytest.mark.anyio


async def caught_up(bench: Bench, *users: str) -> bool:
    states = [await bench.store.state(TENANT, user) for user in users]
    return all(state.pending == 0 and state.version > 0 for state in states)


async def test_one_slow_user_holds_up_nobody(redis_url: str) -> None:
    users = [f"user{n}" for n in range(1, 13)]
    async with benched(redis_url, MockEngine(lambda prompt: "silent" if "u0n1" in prompt else "")) as bench:
        for place, user in enumerate(users):
            await bench.put(f"u{place}n1", f"u{place}n2", user=user)
        async with bench.at_work():
            await until(lambda: caught_up(bench, *users[1:]))
            assert (await bench.store.state(TENANT, users[0])).version == 0
            await bench.put("u0n3", user=users[0])
            bench.mock.gate.set()
            await until(lambda: caught_up(bench, users[0]))
            await until(lambda: bench.count("alignx_updates_total", outcome="committed") == 13)
        for place, user in enumerate(users):
            found = MARKER.findall((await bench.store.preferences(TENANT, user)).text)
            assert found == [f"u{place}n{n}" for n in (1, 2, 3)[: 3 if place == 0 else 2]]
        assert len(bench.mock.prompts) == 13
        assert bench.count("alignx_updates_total", outcome="committed") == 13


async def test_a_users_updates_carry_the_users_session(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(), engine={"session_secret": "a secret"}) as bench:
        await bench.put("u1n1")
        async with bench.at_work():
            await until(lambda: caught_up(bench, USER))
        with session_of(TENANT, USER):
            assert bench.mock.sessions == {session_header("a secret")[HEADER]}


@pytest.mark.parametrize("workers", [1, 4])
async def test_a_tenant_with_many_users_leaves_the_next_turn_to_others(redis_url: str, workers: int) -> None:
    def reply(prompt: str) -> Fault:
        order.append("lone" if "u9n1" in prompt else "many")
        return "silent" if len(order) <= workers else ""

    order: list[str] = []
    summary = {"workers": workers}

    async with benched(
        redis_url, MockEngine(reply), summary=summary, queue={"tenant_in_flight": 200, "shards": 4}
    ) as bench:
        for n in range(100):
            await bench.put("u1n1", user=f"user{n}", tenant="a:b")
        async with bench.at_work():
            await until(lambda: bench.mock.met["silent"] == workers)  # a tenant that is alone gets every slot
            await bench.put("u9n1", user="lone")
            bench.mock.gate.set()
            await until(lambda: caught_up(bench, "lone"))
        assert order.index("lone") == workers


async def test_a_fault_of_the_dispatcher_is_told_and_survived(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_PAUSE_S", 0.01)
    await bench.put("u1n1")
    await bench.redis.zadd(bench.keys().ready, {"no member": 1})  # cannot be told apart into tenant and user
    async with bench.at_work():
        await until(lambda: caught_up(bench, USER))
    assert "the dispatcher failed" in caplog.text


async def test_a_fault_of_the_look_is_told_and_the_queue_is_measured(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def fails(*_: object) -> None:
        nonlocal looks
        looks += 1
        raise KeyError("connected_slaves")

    await bench.put("u1n1")
    metrics = RedisMetrics(CollectorRegistry())
    monkeypatch.setattr(metrics, "read", fails)
    look = asyncio.create_task(bench.dispatcher.measure(metrics, every_s=0.01))
    await until(lambda: looks > 1 and bench.count("alignx_queue_users_waiting") == 1)
    bench.dispatcher.stop(look)
    await asyncio.gather(look, return_exceptions=True)
    assert "the look at the queue and Redis failed" in caplog.text


@pytest.mark.parametrize(("part", "check"), [("run", "work"), ("measure", "look")])
async def test_a_worker_whose_work_has_ended_is_not_ready(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, part: str, check: str
) -> None:
    async def ends_at_once(*_: object) -> None:
        return

    monkeypatch.setattr(dispatcher.Dispatcher, part, ends_at_once)

    async with working(settings_for(redis_url, "profile")) as client:
        await asyncio.sleep(0)
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        wrong = [name for name, state in answer.json()["checks"].items() if state != "ok"]
        assert wrong == [check]


async def test_an_overloaded_engine_gets_less_to_do_and_then_more(redis_url: str) -> None:
    faults: list[Fault] = ["overloaded"] * 6
    users = [f"user{n}" for n in range(16)]
    async with benched(
        redis_url, MockEngine(lambda _: faults.pop() if faults else ""), queue={"backoff_ms": 20}
    ) as bench:
        for user in users:
            await bench.put("u1n1", user=user)
        async with bench.at_work():
            await until(lambda: caught_up(bench, *users))
            await until(lambda: bench.count("alignx_updates_total", outcome="committed") == 16)
        assert bench.count("alignx_updates_total", outcome="engine") == 6
        assert bench.count("alignx_updates_total", outcome="committed") == 16
        assert 1 < bench.dispatcher.backoff._limit < 8


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
async def test_no_acknowledged_event_is_given_up_while_the_engine_refuses(
    redis_url: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A second of the test is ten of an engine that is asked every five."""
    users, seconds = [f"user{n}" for n in range(40)], 2
    mock = MockEngine()
    mock.outage = [(status, "This server does not take it")]
    async with benched(
        redis_url,
        mock,
        engine={"breaker_failures": 5, "breaker_cooldown_s": 0.5, "model": "mock"},
        queue={"backoff_ms": 50, "tenant_in_flight": 100},
    ) as bench:
        for place, user in enumerate(users):
            await bench.put(*(f"u{place}n{n}" for n in range(10)), user=user)
        async with bench.at_work():
            await asyncio.sleep(seconds)
            assert 2 <= len(mock.calls_at) <= seconds * 10
            with pytest.raises(EngineUnavailable, match=f"status {status}"):
                await bench.dispatcher.backoff.check()
            states = [await bench.store.state(TENANT, user) for user in users]
            assert sum(state.pending for state in states) == 10 * len(users)
            mock.outage = []
            await until(lambda: caught_up(bench, *users))
            await bench.dispatcher.backoff.check()
        [entry] = [entry for entry in caplog.records if "refuses all requests" in entry.message]
        assert f"status {status}" in entry.cause  # type: ignore[attr-defined]
        for place, user in enumerate(users):
            current = await bench.store.preferences(TENANT, user)
            assert (current.version, MARKER.findall(current.text)) == (1, [f"u{place}n{n}" for n in range(10)])
            assert await bench.store.dead_letters(TENANT, user, None, 9) == []


async def test_an_engine_that_changes_its_dialect_is_followed(redis_url: str) -> None:
    """Case 01: system role, top_k, cache_salt, priority, max_tokens, temperature and stream_options are refused."""
    users = [f"user{n}" for n in range(8)]
    mock = MockEngine()
    async with benched(redis_url, mock) as bench:
        async with bench.at_work():
            for names, number in (((), 1), (DIALECTS["case 01"], 2), (DIALECTS["gemma"], 3)):
                mock.strict = rules(*names)
                for place, user in enumerate(users):
                    await bench.put(f"u{place}n{number}", user=user)
                await until(lambda: caught_up(bench, *users))
        for place, user in enumerate(users):
            current = await bench.store.preferences(TENANT, user)
            assert (current.version, MARKER.findall(current.text)) == (3, [f"u{place}n{n}" for n in (1, 2, 3)])


async def test_users_whose_data_are_refused_hold_up_nobody(redis_url: str) -> None:
    poisoned, others = [f"poison{n}" for n in range(30)], [f"user{n}" for n in range(60)]

    mock = MockEngine(lambda prompt: "refused" if "bad" in prompt else "")

    async with benched(redis_url, mock, engine={"breaker_failures": 5}, queue={"tenant_in_flight": 100}) as bench:
        for user in poisoned:
            await bench.put("bad u1n1", user=user)
        async with bench.at_work():
            await until(lambda: bench.mock.met["refused"] >= len(poisoned))
            for place, user in enumerate(others):
                await bench.put(f"u{place + 10}n1", user=user)
            await until(lambda: caught_up(bench, *others))
        for user in poisoned:
            assert (await bench.store.state(TENANT, user)).pending == 1
            assert await bench.store.dead_letters(TENANT, user, None, 9) == []


async def test_a_worker_whose_engine_refuses_says_so_and_stays_ready(rig: Rig, redis_url: str) -> None:
    mock = MockEngine(lambda _: "refused")
    mock.canary_status = 400
    async with (
        mock.serving() as engine_url,
        working(settings_for(redis_url, engine_url, engine={"breaker_failures": 1})) as client,
    ):
        await rig.put("u1n1")
        await until(lambda: mock.canaries > 0)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        assert answer.json()["checks"]["engine"].startswith("degraded: ")
        engine = answer.json()["engine"]
        assert (engine["state"], "bad input" in engine["words"]) == ("degraded", True)
        await until(lambda: rig.redis.exists(ENGINE_FAULT))
        assert EngineState.model_validate_json(await rig.redis.get(ENGINE_FAULT)).detail == engine["detail"]
        assert "alignx_engine_breaker_open 1.0" in (await client.get("/metrics")).text


async def test_a_lost_lease_ends_the_update(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(lambda _: "silent"), queue={"lease_ms": 200, "heartbeat_ms": 50}) as bench:
        await bench.put("u1n1")
        async with bench.at_work():
            await until(bench.is_asked)
            await bench.queue.forget(TENANT, USER)
            await until(lambda: bench.ended("lost"))
        assert bench.mock.prompts == []  # the engine was told to stop
        assert await bench.user_keys() == []


async def test_a_lease_outlives_a_slow_engine(redis_url: str) -> None:
    lease = {"lease_ms": 2_000, "heartbeat_ms": 100}
    async with benched(redis_url, MockEngine(lambda _: "silent"), queue=lease) as bench:
        await bench.put("u1n1")
        async with bench.at_work():
            await until(bench.is_asked)
            await asyncio.sleep(3)
            bench.mock.gate.set()
            await until(lambda: caught_up(bench, USER))
        assert bench.mock.met["silent"] == 1
        assert bench.count("alignx_lease_expiries_total") == 0


async def test_an_update_goes_on_while_its_lease_holds(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with benched(
        redis_url, MockEngine(lambda _prompt: "silent"), queue={"heartbeat_ms": 20, "lease_ms": 15_000}
    ) as bench:
        missed = asyncio.Event()

        async def beat(_claim: object) -> bool:
            missed.set()
            raise RedisConnectionError("away for a moment")

        monkeypatch.setattr(bench.queue, "beat", beat)
        await bench.put("u1n1")
        async with bench.at_work():
            await missed.wait()
            bench.mock.gate.set()
            await until(lambda: caught_up(bench, USER))
        assert bench.count("alignx_updates_total", outcome="lost") == 0


async def test_an_update_ends_when_redis_was_away_for_a_lease(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with benched(
        redis_url, MockEngine(lambda _prompt: "silent"), queue={"heartbeat_ms": 300, "lease_ms": 1_000}
    ) as bench:

        async def beat(_claim: object) -> bool:
            raise RedisConnectionError("away")

        monkeypatch.setattr(bench.queue, "beat", beat)
        await bench.put("u1n1")
        async with bench.at_work():
            await until(lambda: bench.ended("lost"))


async def test_a_worker_that_stops_gives_its_users_back(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(lambda _: "silent")) as bench:
        await bench.put("u1n1")
        async with bench.at_work():
            await until(bench.is_asked)
        assert (await bench.due_in() or 0) <= 0
        assert not {"own", "tok", "crash", "fail", "strikes"} & set(await bench.fields())
        assert (await bench.take()).pending == 1


async def test_a_claim_under_way_is_given_back_when_the_worker_stops(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with benched(redis_url) as bench:
        made, claim = asyncio.Event(), bench.queue.claim

        async def slow_answer(*given: Any) -> Any:
            answer = await claim(*given)
            made.set()
            await asyncio.sleep(0.05)
            return answer

        monkeypatch.setattr(bench.queue, "claim", slow_answer)
        await bench.put("u1n1")
        async with bench.at_work():
            await made.wait()
        assert not {"own", "tok", "crash"} & set(await bench.fields())
        assert await bench.due_in() is not None


async def test_running_updates_may_end_before_the_worker_stops(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(lambda _: "silent")) as bench:
        await bench.put("u1n1")
        work = asyncio.create_task(bench.dispatcher.run())
        await until(bench.is_asked)
        bench.dispatcher.stop(work)
        asyncio.get_running_loop().call_later(0.1, bench.mock.gate.set)
        await bench.dispatcher.close(5)
        assert await caught_up(bench, USER)
        await asyncio.gather(work, return_exceptions=True)


async def test_a_user_whose_update_ended_with_redis_is_not_blamed(own_redis: OwnRedis) -> None:
    async with benched(own_redis.url, MockEngine(lambda _: "silent")) as bench:
        await bench.put("u1n1")
        async with bench.at_work():
            await until(bench.is_asked)
            own_redis.stop()
            bench.mock.gate.set()
            await until(lambda: bench.ended("lost"))
            own_redis.start()
            await until(lambda: caught_up(bench, USER))
        assert bench.count("alignx_lease_expiries_total") == 0
        assert "crash" not in await bench.fields()


async def test_the_process_is_ready_works_and_counts(redis_url: str) -> None:
    async with benched(redis_url) as bench:
        await bench.put("u1n1")
        async with working(settings_for(redis_url, "profile", queue={"poll_ms": 5})) as client:
            checks = (await client.get("/readyz")).json()["checks"]
            assert checks == dict.fromkeys(
                ("drain", "redis", "work", "items", "webhooks", "expiry", "look", "engine"), "ok"
            )

            async def is_counted() -> bool:
                return 'alignx_updates_total{outcome="committed"} 1.0' in (await client.get("/metrics")).text

            await until(is_counted)  # just after the summary can be read
            metrics = (await client.get("/metrics")).text
        assert "alignx_queue_users_waiting" in metrics
        assert USER not in metrics


async def test_the_number_of_shards_is_fixed(redis_url: str) -> None:
    async with benched(redis_url) as bench:
        await bench.store.claim_shards()
        with pytest.raises(Exception, match="this Redis holds 1 shards"):
            async with working(settings_for(redis_url, "profile", queue={"shards": 2})):
                pass
