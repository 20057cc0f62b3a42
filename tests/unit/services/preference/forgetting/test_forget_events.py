"""Events that are forgotten: no byte of them is left, whatever they had come to."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

from alignx.schemas.webhooks import WebhookRequest
from services.admin.backup import write_backup
from services.admin.restore import Restore, Selection
from services.preference import queue_records
from services.preference.forgetting.trim_log import trim_log
from services.preference.live import LiveText
from services.preference.webhooks.endpoint_store import EndpointStore
from services.preference.webhooks.signing import WebhookSecrets
from services.storage.users import encode_record
from tests.chaos.mock_engine import MockEngine
from tests.unit.services.preference.forgetting.traces import (
    MARK,
    SAID,
    count_calls,
    is_as_folded,
    places,
    raw,
    serving_a_cluster,
    settle,
    trimmed,
)
from tests.unit.services.preference.rig import TENANT, OwnRedis, change, draft, record
from tests.unit.services.preference.served import PREFERENCES, Served, serving
from tests.unit.services.preference.working import until

pytestmark = pytest.mark.anyio


async def fill(served: Served) -> str:
    """A user with the marked event in a version, claims, reasoning, a draft, the live stream, a change; its id."""
    before = (await served.learn("I like green tea u7n0."))["ids"]
    assert before
    event_id = (await served.learn(SAID))["ids"][0]
    bench = served.bench
    keys = bench.keys()
    await bench.redis.lpush(keys.rejected, encode_record(draft(SAID)))
    current = await bench.store.version(TENANT, "ada", 2)
    assert MARK in current.text
    await bench.redis.set(keys.summary, encode_record(current.model_copy(update={"reasoning": SAID})))
    await bench.redis.xadd(keys.live, {"e": "delta", "d": SAID})
    await bench.redis.hset(keys.state, "changed", change(SAID).model_dump_json())
    await served.learn("I like long walks u7n2.")
    return event_id


async def test_nothing_is_left_of_an_event_anywhere(suite: Served, redis_url: str) -> None:
    event_id = await fill(suite)
    expected = {"log", "profile", "sum", "vers", "rej", "live", "st"}
    assert expected <= places(redis_url, MARK, "zephyrine")
    answer = await suite.http.delete(f"/v1/users/ada/events/{event_id}")
    receipt = answer.json()
    assert answer.status_code == 200, answer.text
    assert receipt["event_ids"] == [event_id]
    assert (receipt["versions"], receipt["rejected_drafts"], receipt["version"]) == (2, 1, 4)
    assert receipt["update_queued"]
    assert not places(redis_url, MARK, "zephyrine")
    await settle(suite)
    assert not places(redis_url, MARK, "zephyrine")
    current = (await suite.http.get(PREFERENCES)).json()
    assert current["version"] == 5
    assert "u7n0" in current["text"]
    assert "u7n2" in current["text"]
    assert await is_as_folded(suite)
    versions = (await suite.http.get(f"{PREFERENCES}/versions?limit=1")).json()
    rest = (await suite.http.get(f"{PREFERENCES}/versions?before={versions['next']}")).json()
    assert [one["version"] for one in rest["versions"]] == [4, 1]
    again = await suite.http.delete(f"/v1/users/ada/events/{event_id}")
    assert (again.status_code, again.json()["type"].rpartition(":")[2]) == (404, "event_unknown")
    assert (await suite.http.delete("/v1/users/nobody/events/1-0")).status_code == 404
    assert (await suite.http.delete("/v1/users/ada/events/x")).status_code == 422


async def test_one_call_of_the_engine_follows(suite: Served) -> None:
    event_id = await fill(suite)
    before = count_calls(suite)
    await suite.http.delete(f"/v1/users/ada/events/{event_id}")
    await settle(suite)
    assert count_calls(suite) - before == 1


async def test_a_waiting_event_leaves_the_queue_and_costs_no_call(redis_url: str) -> None:
    async with serving(redis_url, MockEngine()) as served:
        ids = (await served.put("I like tea.", SAID)).json()["ids"]
        receipt = (await served.http.delete(f"/v1/users/ada/events/{ids[1]}")).json()
        assert (receipt["pending"], receipt["versions"], receipt["update_queued"]) == (1, 0, False)
        assert await served.bench.texts() == ["I like tea."]
        assert not places(redis_url, MARK, "zephyrine")
        receipt = (await served.http.delete(f"/v1/users/ada/events/{ids[0]}")).json()
        assert receipt["pending"] == 0
        assert await served.bench.idle()
        appended = await served.put("later")
        assert appended.json()["ids"][0] > ids[1]


async def test_endpoints_are_told_of_the_version_that_follows(plain_suite: Served) -> None:
    event_id = await fill(plain_suite)
    bench = plain_suite.bench
    secrets = WebhookSecrets("t" * 16)
    store = EndpointStore(bench.redis, allow_private=True)
    webhook, _ = await store.create(TENANT, WebhookRequest(url="http://127.0.0.1:9/"), secrets)
    receipt = (await plain_suite.http.delete(f"/v1/users/ada/events/{event_id}")).json()
    keys = [key async for key in bench.redis.scan_iter(f"*{webhook.id}:log")]
    told = [text for key in keys for text in await bench.redis.hvals(key)]
    assert any(f'"version":{receipt["version"]}' in text for text in told), told


async def test_a_rebuild_that_waited_for_forgotten_events_is_due(redis_url: str) -> None:
    async with serving(redis_url, MockEngine()) as served:
        ids = (await served.put("I like tea.", SAID)).json()["ids"]
        state = served.bench.keys().state
        await served.bench.redis.hset(state, mapping={"postponed": "1.000001", "pend": 1, "cur": ids[0]})
        await served.http.delete(f"/v1/users/ada/events/{ids[1]}")
        assert await served.bench.redis.hget(state, "rebuild") == "1.000001"
        assert not await served.bench.idle()


async def test_what_was_read_before_a_log_was_trimmed_is_read_again(redis_url: str) -> None:
    async with serving(redis_url, summary={"keep_events": 1}) as served:
        await served.put(*(f"dish{number}" for number in range(150)))
        bench = served.bench
        await bench.redis.hset(bench.keys().state, "pend", 0)
        before, _ = await bench.store.profile(TENANT, "ada")
        await trim_log(bench.store, bench.queue, TENANT, "ada")
        assert await bench.redis.exists(bench.keys().checkpoint)
        assert (await bench.store.profile(TENANT, "ada"))[0] != before


async def test_an_update_in_flight_brings_nothing_back(served: Served, redis_url: str) -> None:
    await served.put("I like tea.")
    event_id = (await served.put(SAID)).json()["ids"][0]
    bench = served.bench
    claim = await bench.take()
    await served.http.delete(f"/v1/users/ada/events/{event_id}")
    assert not await bench.queue.commit(claim, record(SAID), claim.last_id, claim.pending)
    assert await bench.queue.fail(claim, "data", first_id=event_id, batch=1, error="e") == "FENCED"
    await LiveText(bench.queue, claim).show(SAID)
    await bench.queue.keep_rejected(claim, draft(SAID))
    assert not places(redis_url, MARK, "zephyrine")
    assert (await bench.take()).pending == 1


async def test_a_change_that_an_append_noticed_before_is_not_written_after(served: Served, redis_url: str) -> None:
    event_id = (await served.put(SAID)).json()["ids"][0]
    bench = served.bench
    stamp, _ = await bench.store.profile(TENANT, "ada")
    await served.http.delete(f"/v1/users/ada/events/{event_id}")
    await bench.queue.record_change(TENANT, "ada", stamp, change(SAID))
    assert not places(redis_url, MARK)


async def test_a_commit_between_the_reading_and_the_removal_is_seen(
    served: Served, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = (await served.put(SAID)).json()["ids"][0]
    queue = served.bench.queue
    forget, first = type(queue).forget_events, [True]

    async def late(self: Any, *arguments: Any) -> int | None:
        if first.pop() if first else False:
            claim = await served.bench.take()
            assert await queue.commit(claim, record(SAID), claim.last_id, claim.pending)
        return await forget(self, *arguments)

    monkeypatch.setattr(type(queue), "forget_events", late)
    receipt = (await served.http.delete(f"/v1/users/ada/events/{event_id}")).json()
    assert (receipt["versions"], receipt["update_queued"]) == (1, False)
    assert not places(redis_url, MARK, "zephyrine")
    assert await served.bench.idle()


async def test_a_dead_letter_is_forgotten_and_one_tried_again_too(plain_suite: Served, redis_url: str) -> None:
    await plain_suite.learn("I like tea.")
    await plain_suite.set_aside(SAID)
    letters = (await plain_suite.http.get("/v1/users/ada/dead-letters")).json()["events"]
    assert places(redis_url, MARK) >= {"dlq"}
    receipt = (await plain_suite.http.post("/v1/users/ada/forget", json={"about": MARK})).json()
    assert (receipt["event_ids"], receipt["dead_letters"]) == ([letters[0]["event_id"]], 1)
    assert not places(redis_url, MARK, "zephyrine")
    await plain_suite.set_aside(SAID)
    retried = (await plain_suite.http.post("/v1/users/ada/dead-letters/retry")).json()["events"]
    await settle(plain_suite)
    await plain_suite.http.delete(f"/v1/users/ada/events/{retried[0]['new_event_id']}")
    assert not places(redis_url, MARK, "zephyrine")


@pytest.mark.parametrize("by_first_id", [True, False])
async def test_an_event_that_was_tried_again_goes_with_the_versions_since_it_first_came(
    plain_suite: Served, redis_url: str, by_first_id: bool
) -> None:
    await plain_suite.learn("I like tea.")
    await plain_suite.set_aside(SAID)
    first = (await plain_suite.http.get("/v1/users/ada/dead-letters")).json()["events"][0]["event_id"]
    await plain_suite.learn("I like rice.")  # the profile writes a version, which tells of the event
    await plain_suite.bench.redis.hset(plain_suite.bench.keys().state, "suspect", "1")
    await plain_suite.http.post("/v1/users/ada/dead-letters/retry")
    await settle(plain_suite)
    # It is a dead letter again, under another id.
    (letter,) = (await plain_suite.http.get("/v1/users/ada/dead-letters")).json()["events"]
    assert letter["event_id"] != first
    retried = (await plain_suite.http.post("/v1/users/ada/dead-letters/retry")).json()["events"]
    await settle(plain_suite)
    assert places(redis_url, "zephyrine") >= {"vers", "log"}
    event_id = first if by_first_id else retried[0]["new_event_id"]
    receipt = (await plain_suite.http.delete(f"/v1/users/ada/events/{event_id}")).json()
    assert receipt["event_ids"] == [retried[0]["new_event_id"]]
    assert receipt["versions"] >= 2
    assert not places(redis_url, MARK, "zephyrine")
    assert "rice" in (await plain_suite.http.get(PREFERENCES)).json()["text"]


@pytest.mark.parametrize("place", [0, 1, 4, 8])
async def test_a_log_is_copied_in_parts(
    served: Served, redis_url: str, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setattr(queue_records, "_PART", 2)
    texts = [f"I like dish{number}." if number != place else SAID for number in range(9)]
    ids = (await served.put(*texts)).json()["ids"]
    assert (await served.http.delete(f"/v1/users/ada/events/{ids[place]}")).status_code == 200
    assert await served.bench.texts() == [text for text in texts if text != SAID]
    assert not places(redis_url, MARK)
    assert await served.bench.redis.ttl(served.bench.keys().log) == -1
    assert not await served.bench.redis.exists(*served.bench.keys().copies)
    assert (await served.put("later")).json()["ids"][0] > ids[-1]


@pytest.mark.parametrize("fault", ["expired", "erased", "another"])
async def test_a_copy_that_is_not_whole_takes_no_logs_place(
    served: Served, redis_url: str, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(queue_records, "_PART", 2)
    texts = [*(f"I like dish{number}." for number in range(5)), SAID]
    event_id = (await served.put(*texts)).json()["ids"][-1]
    bench, calls = served.bench, [0]
    run = type(bench.queue)._run

    async def late(self: Any, script: str, *arguments: Any, **named: Any) -> Any:
        calls[0] += script == "copy_stream"
        if script == "copy_stream" and calls[0] == 3:  # between the first part and the second
            match fault:
                case "expired":
                    await bench.redis.delete(bench.keys().copies[0])
                case "erased":
                    await bench.queue.forget(TENANT, "ada")
                case "another":
                    await bench.redis.hset(bench.keys().state, "copying", "another")
        return await run(self, script, *arguments, **named)

    monkeypatch.setattr(type(bench.queue), "_run", late)
    answer = await served.http.delete(f"/v1/users/ada/events/{event_id}")
    assert calls[0] > 4 or answer.status_code == 404
    assert not places(redis_url, MARK)
    assert await bench.texts() == ([] if fault == "erased" else texts[:-1])
    assert not await bench.redis.exists(*bench.keys().copies)


async def test_what_events_are_about(suite: Served, redis_url: str) -> None:
    item = {"id": "sku-7", "title": "Zephyrine vase"}
    await suite.learn("I like tea.")
    body = {"events": [{"type": "purchase", "item": item}, {"type": "rating", "item": item, "value": 5}]}
    ids = (await suite.http.post("/v1/users/ada/events", json=body, headers={"Prefer": "wait=5"})).json()["ids"]
    path = "/v1/users/ada/forget"
    shown = (await suite.http.post(path, json={"about": "vase ZEPHYRINE", "dry_run": True})).json()
    assert (shown["event_ids"], shown["dry_run"]) == (ids, True)
    assert (await suite.bench.store.state(TENANT, "ada")).version == 2
    assert (await suite.http.post(path, json={"about": "zephyr"})).json()["event_ids"] == []
    assert (await suite.http.post(path, json={"about": "?!"})).status_code == 422
    removed = (await suite.http.post(path, json={"about": "sku-7"})).json()
    assert removed["event_ids"] == ids
    assert not places(redis_url, "Zephyrine", "zephyrine", "sku-7")
    assert (await suite.http.post(path, json={"about": "sku-7"})).json()["event_ids"] == []


async def test_a_claim_leads_to_its_events(plain_suite: Served, redis_url: str) -> None:
    event_id = (await plain_suite.learn("I like tea."))["ids"][0]
    version = await plain_suite.bench.store.version(TENANT, "ada", 1)
    claim = version.claims[0].model_copy(update={"text": "Enjoys infusions.", "support": (event_id,)})
    stored = encode_record(version.model_copy(update={"claims": (claim,)}))
    await plain_suite.bench.redis.set(plain_suite.bench.keys().summary, stored)
    receipt = (await plain_suite.http.post("/v1/users/ada/forget", json={"about": "infusions"})).json()
    assert receipt["event_ids"] == [event_id]
    assert not places(redis_url, "nfusions", "tea")


async def test_of_a_claim_that_gathers_statements_one_goes(plain_suite: Served, redis_url: str) -> None:
    await plain_suite.learn("I love rice.")
    event_id = (await plain_suite.learn(SAID))["ids"][0]
    kept = await plain_suite.bench.store.preferences(TENANT, "ada")
    assert any(MARK in claim.text and len(claim.support) == 2 for claim in kept.claims)
    receipt = (await plain_suite.http.post("/v1/users/ada/forget", json={"about": MARK})).json()
    assert receipt["event_ids"] == [event_id]
    assert not places(redis_url, MARK)
    assert "I love rice." in (await plain_suite.bench.store.preferences(TENANT, "ada")).text


@pytest.mark.parametrize("own", ["Zephyrine things, please.", "Answer in rhymes."])
async def test_the_users_own_text_stays_where_nothing_forgotten_is_in_it(
    plain_suite: Served, redis_url: str, own: str
) -> None:
    await plain_suite.learn("I like tea.")
    event_id = (await plain_suite.learn(SAID))["ids"][0]
    (await plain_suite.http.put(PREFERENCES, json={"text": own}, headers={"If-Match": "*"})).raise_for_status()
    await plain_suite.learn("I like rice.")
    receipt = (await plain_suite.http.delete(f"/v1/users/ada/events/{event_id}")).json()
    is_kept = own.startswith("Answer")
    assert receipt["own_texts"] == (not is_kept)
    await settle(plain_suite)
    text = (await plain_suite.http.get(PREFERENCES)).json()["text"]
    assert text.startswith(own) == is_kept
    assert not places(redis_url, MARK, "zephyrine", "Zephyrine")
    assert "rice" in text


async def test_a_trimmed_log_leaves_its_profile_behind(redis_url: str) -> None:
    async with serving(redis_url, work=True, summary={"keep_events": 20}) as served:
        ids = (
            await served.learn(*(SAID if number == 125 else f"I like dish{number} a lot." for number in range(151)))
        )["ids"]
        bench = served.bench
        await trimmed(served, 20)
        checkpoint = await bench.store.checkpoint(TENANT, "ada")
        assert (checkpoint.first, checkpoint.last, checkpoint.profile.events) == (ids[0], ids[130], 131)
        assert await is_as_folded(served)

        receipt = (await served.http.delete(f"/v1/users/ada/events/{ids[150]}")).json()
        assert (receipt["event_ids"], receipt["checkpoint"]) == ([ids[150]], False)
        assert (await bench.store.profile(TENANT, "ada"))[1].events == 150
        assert not places(redis_url, "dish150")
        await settle(served)

        assert "base" in places(redis_url, "zephyrine")
        receipt = (await served.http.delete(f"/v1/users/ada/events/{ids[125]}")).json()
        assert (receipt["event_ids"], receipt["checkpoint"]) == ([], True)
        assert not places(redis_url, MARK, "zephyrine")
        assert (await served.http.delete(f"/v1/users/ada/events/{ids[125]}")).status_code == 404
        assert (await bench.store.profile(TENANT, "ada"))[1].events == 19


async def test_a_log_is_not_trimmed_by_a_profile_of_before(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(redis_url, summary={"keep_events": 1}) as served:
        await served.put(*(f"dish{number}" for number in range(150)))
        bench = served.bench
        await bench.redis.hset(bench.keys().state, "pend", 0)
        trim = type(bench.queue).trim

        async def late(*arguments: Any) -> bool:
            await bench.redis.hincrby(bench.keys().state, "edits", 1)
            return await trim(*arguments)

        monkeypatch.setattr(type(bench.queue), "trim", late)
        await trim_log(bench.store, bench.queue, TENANT, "ada")
        assert await bench.redis.xlen(bench.keys().log) == 150
        assert not await bench.redis.exists(bench.keys().checkpoint)


async def test_after_the_restore_of_a_backup(suite: Served, redis_url: str) -> None:
    event_id = await fill(suite)
    bench, file = suite.bench, io.BytesIO()
    await write_backup(bench.redis, bench.store.keys, file, tenant=None, progress=lambda *_: None)
    await suite.http.delete(f"/v1/users/ada/events/{event_id}")
    await settle(suite)
    await Restore(bench.redis, bench.store.keys, Selection()).run(file, "again", lambda *_: None)
    assert {"log", "profile", "vers"} <= places(redis_url, MARK)
    receipt = (await suite.http.delete(f"/v1/users/ada/events/{event_id}")).json()
    assert receipt["event_ids"] == [event_id]
    assert not places(redis_url, MARK, "zephyrine")


def is_clean(folder: Path) -> bool:
    try:
        files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    except FileNotFoundError:  # of a rewrite that has just ended
        return False
    return not any(word in content for content in files for word in (MARK.encode(), b"zephyrine"))


async def test_nothing_is_left_on_disk_after_the_rewrite(own_redis: OwnRedis) -> None:
    url = own_redis.url

    async def is_gone() -> bool:
        return await asyncio.to_thread(is_clean, own_redis.folder)

    settings = {"url": url, "rewrite_after_erase_s": 0.1}
    with raw(url) as client:
        async with serving(url, MockEngine(), work=True, redis=settings) as served:
            event_id = await fill(served)
            client.config_set("rdbcompression", "no")
            assert not await is_gone()
            await served.http.delete(f"/v1/users/ada/events/{event_id}")
            await until(is_gone)


@pytest.mark.xdist_group("cluster")
async def test_events_are_forgotten_on_a_cluster(tmp_path: Path) -> None:
    async with serving_a_cluster(tmp_path, mock=MockEngine(), work=True) as served:
        for user in ("ada", "bob", "cy"):
            await served.learn("I like tea.", user=user)
            event_id = (await served.learn(SAID, user=user))["ids"][0]
            receipt = (await served.http.delete(f"/v1/users/{user}/events/{event_id}")).json()
            assert (receipt["event_ids"], receipt["versions"]) == ([event_id], 1)
