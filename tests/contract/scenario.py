"""A fixed life of a few users and API keys, which leaves every kind of key in Redis.

Updates are made one after the other, with an engine whose replies are fixed (playing.py), so the order of all
is the same each time. Every Lua script is called. There are three parts: KEYS, what Redis holds at the end;
SCRIPTS, what each script answered, in order; ANSWERS, those of the HTTP calls, and what admins are given.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from alignx.schemas.summaries import TokenCounts
from alignx.schemas.tenants import KeyRequest, RotateRequest, TenantSettings
from gateway.keys import KeyStore, UserBucket, parse_key
from services.admin.rebuild_profiles import rebuild_profiles
from services.admin.user_records import UserRecords
from services.engine.guard import Progress
from services.errors import BudgetSpent, StaleVersion
from services.server.token_budgets import TokenBudgets, count_refusals
from services.storage.audit_log import AuditLog
from services.storage.connection import Script, read_script
from services.storage.key_names import tokens_key
from services.storage.tenant_settings import TenantSettingsStore
from services.storage.timed_cache import TimedCache
from tests.contract.playing import ACME, ADA, BOB, CAROL, DAN, EVE, GLOBEX, Play, SteadyEngine
from tests.contract.recording import GIVEN_YEAR, describe_keys, recorded_scripts, with_placeholders
from tests.unit.services.preference.rig import record
from tests.unit.services.preference.served import serving

SHARDS, BACKLOG = 4, 8
BLOCKS: dict[str, dict[str, Any]] = {
    "queue": {"shards": SHARDS, "debounce_ms": 0, "user_backlog": BACKLOG, "data_retries": 1, "event_failures": 1},
    "redis": {"rewrite_after_erase_s": 0},
}
ADMIN_KEY = "ax_root_" + "a" * 52


async def play_scenario(url: str) -> str:
    """What the scenario leaves in the Redis at `url`, which is emptied first, and what it was answered."""
    mock = SteadyEngine()
    async with Redis.from_url(url, decode_responses=True) as redis:
        await redis.flushall()
        await redis.script_flush()
        with recorded_scripts() as scripts:
            async with serving(url, mock, **BLOCKS) as served:
                play = Play(served, mock)
                for act in (
                    ada_is_learned,
                    ada_writes,
                    ada_is_refused,
                    others_come_and_go,
                    tokens_are_spent,
                    many_at_once,
                    admin_works,
                    keys_open,
                ):
                    await act(play)
                keys = await describe_keys(redis)
    parts = {"KEYS": keys, "SCRIPTS": scripts, "ANSWERS": play.answers}
    text = "\n\n".join("\n".join([f"== {title}", *lines]) for title, lines in parts.items()) + "\n"
    return with_placeholders(text, play.known)


# --- events ------------------------------------------------------------------------------------


def at(second: int) -> dict[str, Any]:
    """What any event may carry."""
    when = f"{GIVEN_YEAR}-02-03T04:05:{second:02d}Z"
    return {"id": f"event-{second}", "occurred_at": when, "source": "shop", "metadata": {"page": second, "new": True}}


def says(text: str) -> dict[str, Any]:
    return {"type": "statement", "text": text}


def chose(chosen: str, rejected: str) -> dict[str, Any]:
    return {"type": "comparison", "query": "What shall I read?", "chosen": chosen, "rejected": rejected}


NOVEL = {"id": "b1", "title": "Solaris", "category": "novels", "price": 9.5, "year": 1961, "popularity": 40}
MANUAL = {"title": "Wiring at home", "description": "With plans.", "category": "manuals", "price": "12 EUR"}
FIRST = (
    chose("A good plain answer.", "Great question! Let us take our time.") | at(1),
    {"type": "click", "query": "space", "clicked": NOVEL, "shown": [NOVEL, MANUAL]} | at(2),
    {"type": "rating", "item": NOVEL, "value": 9, "scale": [0, 10], "review": "Long and good."} | at(3),
)
SECOND = (
    chose("A good short reply.", "A reply that goes on and on, and then goes on."),
    {"type": "purchase", "item": {**NOVEL, "title": "good old Ubik"}, "considered": [MANUAL]} | at(4),
)
THIRD = (
    {"type": "post", "prompt": "Say hello.", "text": "Hello, I read a lot."} | at(5),
    {"type": "dialogue", "messages": [{"role": "user", "content": "Shorter, please."}]} | at(6),
    {"type": "demographic", "text": "Lives in Turin."} | at(7),
    says("I do not like manuals.") | at(8),
)


# --- acts --------------------------------------------------------------------------------------


async def ada_is_learned(play: Play) -> None:
    """Events, the same call again, and versions; the second is tested on new choices first."""
    once = {"Idempotency-Key": "order-1"}
    await play.put(*FIRST, **once)
    await play.put(*FIRST, **once)
    await play.put(*SECOND, **once)
    await play.update()
    await play.put(*SECOND, **{"Idempotency-Key": "order-2"})
    await play.update(choosing=4)
    await play.put(*THIRD)
    await play.call("GET", "/preferences")
    await play.update()
    await play.call("GET", "/events?limit=3")


async def ada_writes(play: Play) -> None:
    """A text by hand, two that come too late, and a way back."""
    text = {"text": "I like short answers.\nNo manuals, please."}
    await play.call("PUT", "/preferences", json=text, headers={"If-Match": '"3"'})
    await play.call("PUT", "/preferences", json=text, headers={"If-Match": '"3"'})
    with suppress(StaleVersion):
        await play.bench.queue.edit(ACME, ADA, 3, record("late", 4))
    await play.bench.queue.edit(ACME, ADA, 4, record("late", 5), stamp="0:0:9", profile=b"{}")
    await play.call("POST", "/preferences/rollback", json={"version": 2})
    await play.call("GET", "/preferences/versions?limit=2")
    await play.call("GET", "/preferences/diff?from=1&to=4")


async def ada_is_refused(play: Play) -> None:
    """Events that the engine refuses are set aside, tried again, and part of a rebuild; one stays."""
    await _refused(play, says("REFUSE this."), user=ADA)
    letters = (await play.call("GET", "/dead-letters")).json()["events"]
    await play.call("POST", "/dead-letters/retry", json={"event_ids": [letters[0]["event_id"]]})
    await _update_while_mild(play, ADA)
    await _refused(play, says("REFUSE that.") | at(9), user=ADA)
    await play.call("POST", "/preferences/rebuild")
    await _update_while_mild(play, ADA)
    await _refused(play, says("REFUSE it again.") | at(10), user=ADA)
    await play.put(*(says(f"I wait, number {n}.") for n in range(BACKLOG)))
    await play.put(says("One too many."))
    await play.call("POST", "/dead-letters/retry")
    await play.call("GET", "/export")


async def _refused(play: Play, *events: dict[str, Any], user: str) -> None:
    """The engine takes a canary and other users' prompts, so the data are to blame."""
    if events:
        await play.put(*events, user=user)
    await play.put(says("I am served."), user=BOB, tenant=GLOBEX)
    await play.update(BOB, GLOBEX)
    await play.update(user)


async def _update_while_mild(play: Play, user: str) -> None:
    play.mock.refusing = False
    await play.update(user)
    play.mock.refusing = True


async def others_come_and_go(play: Play) -> None:
    """A batch halved and rebuilds that fail, a lease that runs out and one that stays, a user erased meanwhile."""
    bench = play.bench
    await _refused(play, says("REFUSE one."), says("REFUSE two."), user=DAN)
    await play.call("POST", "/preferences/rebuild", DAN)
    await _refused(play, user=DAN)
    await play.put(says("REFUSE me later."), user=CAROL)
    await _update_while_mild(play, CAROL)
    await play.call("POST", "/preferences/rebuild", CAROL)
    await _refused(play, user=CAROL)

    await play.put(says("I am in good hands."), user=CAROL)
    await bench.queue.fail(await play.take(CAROL), "release")
    await bench.expire(await play.take(CAROL))
    await bench.queue.claim(bench.store.keys.shard(ACME, CAROL), "other")  # takes Dan, who waits longer
    claim = await play.take(CAROL)
    await bench.queue.beat(claim)
    await bench.queue.publish(claim, "delta", '{"text":"Half a sen"}')
    await play.call("PUT", "/preferences", CAROL, json={"text": "By hand."}, headers={"If-Match": '"1"'})
    await bench.commit(claim)

    await play.put(*FIRST, user=EVE, **{"Idempotency-Key": "order-3"})
    claim = await play.take(EVE)
    for _ in range(2):
        await play.call("DELETE", "", EVE)
    await bench.queue.beat(claim)
    await bench.commit(claim)
    for path in ("/preferences/rebuild", "/dead-letters/retry"):
        await play.call("POST", path, EVE)
    await play.call("POST", "/preferences/rebuild", BOB, GLOBEX)


async def tokens_are_spent(play: Play) -> None:
    """A budget: a call that is settled, one whose process was killed, one that does not fit, and an update that waits
    for the next day."""
    redis, defaults = play.bench.redis, TenantSettings(tokens_per_day=400, tokens_per_month=9_000)
    then = datetime(2201, 2, 3, 4, 5, tzinfo=UTC)
    cache = TimedCache(TenantSettingsStore(redis, defaults).read)
    budgets = TokenBudgets(redis, cache, count_refusals(CollectorRegistry()), lambda: then)
    progress = Progress(sent_at=0.0)
    async with budgets.reserve("chat", ACME, {"prompt": "Hello.", "max_tokens": 300}, progress):
        progress.finish(TokenCounts(prompt=40, completion=60))
    key = tokens_key(ACME, f"{then:%Y-%m}")
    await Script(redis, read_script("services.storage", "reserve_tokens")).run(
        [key], day="03", id="killed", tokens=200, ends=int(then.timestamp())
    )
    with suppress(BudgetSpent):
        async with budgets.reserve("chat", ACME, {"prompt": "Hello.", "max_tokens": 300}, Progress()):
            raise AssertionError("it does not fit")
    await redis.persist(key)  # until then are so many minutes, another number each day

    await TenantSettingsStore(redis, TenantSettings()).patch(GLOBEX, {"tokens_per_day": 1})
    tenants = play.bench.store.tenants
    assert tenants
    tenants.drop(GLOBEX)
    await play.put(says("I wait for tomorrow."), user=BOB, tenant=GLOBEX)
    with suppress(BudgetSpent):
        await play.update(BOB, GLOBEX)
    await play.call("GET", "/preferences", BOB, GLOBEX)


async def many_at_once(play: Play) -> None:
    """Lines for several users, a bad one among them; the users are listed, and one is erased."""
    line = {"user": BOB, "events": [says("I like quiet rooms.")], "idempotency_key": "import-1"}
    lines = b"\n".join([orjson.dumps(line), b"", b"{", orjson.dumps(line | {"user": "a/b"})])
    await play.call("POST", "/v1/events", tenant="hotel", content=lines)
    await play.call("POST", "/v1/events", tenant="hotel", content=orjson.dumps(line | {"user": EVE}))
    await play.call("GET", "/v1/users?limit=1", tenant="hotel")
    for user in (EVE, ADA):  # in one call they are erased side by side, in an order that differs
        await play.call("POST", "/v1/erasures", tenant="hotel", json={"users": [user]})
    await play.call("GET", "/v1/users?prefix=b", tenant="hotel")


async def admin_works(play: Play) -> None:
    """A backup's record of a user, put back as another's, and a profile of an older release made again."""
    redis, keys = play.bench.redis, play.bench.store.keys
    records = UserRecords(redis, keys)
    saved = await records.read(ACME, ADA)
    assert saved
    play.answers.append(f"record -> {orjson.dumps(saved).decode()}")
    for backup, mode in (
        ("backup-1", "refuse"),
        ("backup-1", "refuse"),
        ("backup-2", "refuse"),
        ("backup-2", "replace"),
    ):
        await records.write(saved | {"tenant": "copy"}, backup, mode)
    await redis.set(play.bench.keys(DAN).profile, '{"v":1}')
    await rebuild_profiles(redis, SHARDS, lambda *_: None, dry_run=False)


async def keys_open(play: Play) -> None:
    """The first key, one with limits of its own, and those that open nothing."""
    store = KeyStore(play.bench.redis, play.bench.settings)
    root = parse_key(ADMIN_KEY)
    assert root
    await store.admit(root)
    await store.register(root, tenant=ACME, name="bootstrap")
    await store.admit(root)
    await store.admit(root._replace(digest="0" * 64))
    created = await store.create(KeyRequest(name="shop", tenant=GLOBEX, rate=0.001, burst=2))
    key = parse_key(created.key)
    assert key
    play.known |= {created.key: "<key>", key.digest: "<digest>", key.id: "<key id>"}
    for _ in range(3):
        await store.admit(key)
    await asyncio.sleep(0.05)  # the first key's bucket is full again
    await store.admit_user(root.id, 0, UserBucket("<user>", 10, 40))
    rotated = await store.rotate(key.id, RotateRequest(overlap_s=0))
    newer = parse_key(rotated.key)
    assert newer
    play.known |= {rotated.key: "<rotated key>", newer.digest: "<rotated digest>"}
    await store.admit(key)
    await store.revoke(key.id)
    await store.admit(newer)
    await AuditLog(play.bench.redis, play.bench.settings.gateway).add(GLOBEX, root.id, "key.revoked", key.id)
    play.answers.append(f"created -> {created.model_dump_json()}")
    play.answers.append(f"keys -> {(await store.keys(None, None, 10)).model_dump_json()}")
    play.answers.append(f"tenants -> {(await store.tenants(None, 10)).model_dump_json()}")
