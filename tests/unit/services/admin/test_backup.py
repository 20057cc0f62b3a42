"""Backups of the tests' Redis, put back into it: what comes back is compared as a user's export."""

import asyncio
import gzip
import io
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignx.schemas.summaries import RejectedDraft
from alignx.schemas.tenants import KeyRequest, RotateRequest, TenantSettings
from alignx.schemas.webhooks import WebhookChange, WebhookRequest
from gateway.keys import ApiKey, KeyStore, parse_key
from services.admin.backup import write_backup
from services.admin.records import BackupInvalid, BackupWriter, read_records
from services.admin.restore import Restore, Selection, UsersExist, check, key_space
from services.admin.user_records import Existing, UserRecords
from services.preference.export import export_lines
from services.preference.queue_records import PrequentialSums
from services.preference.webhooks.endpoint_store import EndpointStore
from services.preference.webhooks.signing import WebhookSecrets
from services.settings import Settings
from services.storage.key_names import UserKeys
from services.storage.migrations import MIGRATIONS, Migration, Schema
from services.storage.tenant_settings import TenantSettingsStore
from tests.unit.services.preference.rig import TENANT, Rig, opened

pytestmark = pytest.mark.anyio

ODD = ("ada:st", "a}b{0", "*", "пользователь", "💡", "%3A", "..", " ", "u:acme:x", "\\", "[a-z]?")
BY_ANOTHER = "Another user's text"


@asynccontextmanager
async def open_suite(url: str, shards: int = 3) -> AsyncIterator[Rig]:
    async with asyncio.timeout(60), opened(url, shards=shards) as rig:
        await rig.redis.flushall()
        await Schema(rig.redis).claim()
        await rig.store.claim_shards()
        yield rig


def ignored(*_: object) -> None:
    pass


async def backed_up(rig: Rig, tenant: str | None = None) -> io.BytesIO:
    out = io.BytesIO()
    await write_backup(rig.redis, rig.store.keys, out, tenant=tenant, progress=ignored)
    return out


async def run_restore(rig: Rig, file: io.BytesIO, existing: Existing = "refuse", **wanted: Any) -> Counter[str]:
    keys = await key_space(rig.redis, rig.store.keys.shards)
    return await Restore(rig.redis, keys, Selection(**wanted)).run(file, existing, ignored)


async def exported(rig: Rig, user: str, tenant: str = TENANT) -> bytes:
    """The whole export but for the time in its header."""
    head, *rest = [line async for line in export_lines(rig.store, tenant, user)]
    return orjson.dumps(orjson.loads(head) | {"exported_at": ""}) + b"".join(rest)


async def lived(rig: Rig, user: str, tenant: str = TENANT) -> None:
    """A user with two versions, a rejected draft, an event set aside, and one that waits."""
    await rig.put("one", f"I am {user}", user=user, tenant=tenant, scored=PrequentialSums(1, 1.0, 0.7))
    await commit_of(rig, user, tenant)
    await rig.put("poison", user=user, tenant=tenant, idempotency_key="k", digest="d")
    claim = await claimed(rig, user, tenant)
    moment = datetime.now(UTC)
    draft = RejectedDraft(check="about", reason="too short", text="No.", source="llm:m", created_at=moment)
    await rig.queue.keep_rejected(claim, draft)
    while await rig.queue.fail(claim, "data", first_id=claim.last_id, batch=1, error="broken") != "DEAD":
        claim = await claimed(rig, user, tenant)
    await rig.put("two", user=user, tenant=tenant)
    await commit_of(rig, user, tenant)
    await rig.put("waits", user=user, tenant=tenant)
    # Out of the way of the next user's claims.
    await rig.redis.zadd(rig.keys(user, tenant).ready, {rig.keys(user, tenant).member: 9e15})


async def claimed(rig: Rig, user: str, tenant: str) -> Any:
    keys = rig.keys(user, tenant)
    await rig.redis.zadd(keys.ready, {keys.member: 1})
    return await rig.take(user, tenant)


async def commit_of(rig: Rig, user: str, tenant: str) -> None:
    assert await rig.commit(await claimed(rig, user, tenant), f"summary of {user}")


def test_every_key_of_a_user_is_in_the_backup_or_named_here() -> None:
    """A new key must be said to be kept or not."""
    names = {field.name: field.name for field in fields(UserKeys)}
    left_out = {
        *("member", "ready", "leases", "token", "quality", "live", "calls", "journal", "unread", "index", "hooks"),
        *("served", "outcomes", "arms", "chats", "waiting_chats", "erasures"),
    }
    assert set(UserKeys(**names).permanent) | left_out == set(names)


async def test_webhook_endpoints_come_back_and_stay_with_their_tenant(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        store, secrets = EndpointStore(rig.redis), WebhookSecrets("t" * 16)
        webhook, secret = await store.create(TENANT, WebhookRequest(url="https://shop.example/"), secrets)
        await store.note(TENANT, webhook.id, "gone")
        before = await store.all(TENANT)
        file = await backed_up(rig)
        assert secret.removeprefix("whsec_").encode() not in gzip.decompress(file.getvalue())
        await store.change(TENANT, webhook.id, WebhookChange(url="https://new.example/"))
        await run_restore(rig, file)
        assert [found.url for found in await store.all(TENANT)] == ["https://new.example/"]
        await store.change(TENANT, webhook.id, WebhookChange(enabled=True))
        await run_restore(rig, file)
        assert (await store.read(TENANT, webhook.id)).webhook.disabled is None
        await store.note(TENANT, webhook.id, "gone")
        await rig.redis.flushall()
        await run_restore(rig, file, tenant=TENANT, into="copy")
        assert await store.all("copy") == ()
        await run_restore(rig, file)
        assert await store.all(TENANT) == before
        assert (await store.read(TENANT, webhook.id)).fingerprint == secrets.fingerprint(TENANT, webhook.id, 0)


async def test_one_tenant_comes_back_and_the_erased_user_of_another_does_not(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        for tenant in ("acme", "books"):
            for user in ("ada", "bob"):
                await lived(rig, user, tenant)
        before = {user: await exported(rig, user, "books") for user in ("ada", "bob")}
        file = await backed_up(rig)
        for user, tenant in (("ada", "acme"), ("ada", "books"), ("bob", "books")):
            assert await rig.queue.forget(tenant, user)
        await rig.put("later", user="bob", tenant="acme")
        live = await exported(rig, "bob", "acme")

        assert await run_restore(rig, file, tenant="books") == {"NEW": 2, "API_KEYS": 0}
        assert await exported(rig, "ada", "books") == before["ada"]
        assert await exported(rig, "bob", "books") == before["bob"]
        assert await exported(rig, "bob", "acme") == live
        assert not await rig.fields("ada", "acme")


async def test_an_empty_redis_gets_everything_back_and_works_on(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        for user in ODD:
            await lived(rig, user)
        before = [await exported(rig, user) for user in ODD]
        quality = await rig.store.tenant_quality(TENANT)
        await rig.queue.record_comparisons(TENANT, [{"texts.n": 1.0, "texts.gain": -0.5}])
        file = await backed_up(rig)
        await rig.redis.flushall()
        assert (await run_restore(rig, file))["NEW"] == len(ODD)
        assert [await exported(rig, user) for user in ODD] == before
        assert await rig.store.tenant_quality(TENANT) == quality
        assert await rig.store.weight_sums(TENANT) == {"texts.n": 1.0, "texts.gain": -0.5}
        again = await backed_up(rig)
        assert users_of(again) == users_of(file)

        # What waited is due; what was acknowledged is known; new ids go on behind the old ones.
        replay = await rig.add("{}", user=ODD[0], idempotency_key="k", digest="d")
        assert replay.replayed
        claim = await claimed(rig, ODD[0], TENANT)
        assert (claim.pending, claim.version) == (1, 2)
        assert await rig.commit(claim, "the third")


def users_of(file: io.BytesIO) -> list[dict[str, Any]]:
    file.seek(0)
    return [record for record in read_records(file) if record["kind"] == "user"]


async def test_it_goes_into_another_number_of_shards(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        for user in ODD:
            await lived(rig, user)
        before = [await exported(rig, user) for user in ODD]
        file = await backed_up(rig)
        await rig.redis.flushall()
        async with opened(redis_url, {"shards": 7}) as other:
            assert (await run_restore(other, file))["NEW"] == len(ODD)
            assert [await exported(other, user) for user in ODD] == before


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tenant=st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable()),
    user=st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=12),
    texts=st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40), min_size=1, max_size=5),
)
async def test_any_name_and_any_text_make_the_round(redis_url: str, tenant: str, user: str, texts: list[str]) -> None:
    async with open_suite(redis_url) as rig:
        words = [text if text.strip() else f"x{text}" for text in texts]
        await rig.put(*words, user=user, tenant=tenant)
        said, before = await rig.texts(user, tenant), await exported(rig, user, tenant)
        file = await backed_up(rig, tenant)
        await rig.redis.flushall()
        assert (await run_restore(rig, file))["NEW"] == 1
        assert await exported(rig, user, tenant) == before
        assert await rig.texts(user, tenant) == said


async def test_a_backup_while_events_come_holds_whole_calls(redis_url: str) -> None:
    """Each call brings three events; a backup with one or two of them would be half a write."""
    users = [f"u{number}" for number in range(40)]
    async with open_suite(redis_url) as rig:
        for user in users:
            await rig.put("a", "b", "c", user=user)
        acknowledged = Counter(dict.fromkeys(users, 1))
        stop = asyncio.Event()

        async def write(user: str) -> None:
            while not stop.is_set():
                await rig.put("a", "b", "c", user=user)
                acknowledged[user] += 1

        async with asyncio.TaskGroup() as tasks:
            for user in users:
                tasks.create_task(write(user))
            await asyncio.sleep(0.1)
            before = dict(acknowledged)
            file = await backed_up(rig)
            stop.set()
        records = users_of(file)
        assert sorted(record["user"] for record in records) == sorted(users)
        for record in records:
            count = len(record["log"])
            assert count % 3 == 0
            assert count == int(record["state"]["n"]) == int(record["state"]["pend"])
            assert 3 * before[record["user"]] <= count <= 3 * acknowledged[record["user"]]
        assert any(acknowledged[user] > before[user] for user in users), "nothing was written meanwhile"


async def test_users_who_exist_are_refused_kept_or_replaced(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        await lived(rig, "ada")
        await lived(rig, "bob")
        before = await exported(rig, "ada")
        file = await backed_up(rig)
        await rig.queue.forget(TENANT, "bob")
        await rig.put(BY_ANOTHER, user="ada")
        live = await exported(rig, "ada")

        with pytest.raises(UsersExist, match=r"^1 of 2 users exist already: acme/ada$"):
            await run_restore(rig, file)
        assert not await rig.fields("bob"), "nothing is written before all is looked at"

        assert (await run_restore(rig, file, "keep"))["EXISTS"] == 1
        assert await exported(rig, "ada") == live

        # Broken off and started again: bob came from this backup and may have gone on since.
        await rig.put("news", user="bob")
        assert (await run_restore(rig, file, "replace", tenant=TENANT, user="ada"))["REPLACED"] == 1
        assert await exported(rig, "ada") == before
        assert (await run_restore(rig, file))["SAME_BACKUP"] == 2
        assert "news" in await rig.texts("bob")


async def test_an_interrupted_replacement_started_again_leaves_what_came_since(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        for user in ("ada", "bob"):
            await lived(rig, user)
        before = await exported(rig, "ada")
        file = await backed_up(rig)
        assert (await run_restore(rig, file, "replace", tenant=TENANT, user="ada"))["REPLACED"] == 1  # and breaks off
        await rig.put("acknowledged since", user="ada")

        assert await run_restore(rig, file, "replace") == {"SAME_BACKUP": 1, "REPLACED": 1, "API_KEYS": 0}
        assert "acknowledged since" in await rig.texts("ada")
        assert (await run_restore(rig, file, "keep"))["SAME_BACKUP"] == 2

        assert (await run_restore(rig, file, "again"))["REPLACED"] == 2
        assert await exported(rig, "ada") == before


async def test_a_worker_whose_user_is_replaced_is_fenced(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        await lived(rig, "ada")
        before = await exported(rig, "ada")
        file = await backed_up(rig)
        claim = await claimed(rig, "ada", TENANT)
        await run_restore(rig, file, "replace")
        assert not await rig.queue.beat(claim)
        assert not await rig.queue.publish(claim, "delta", "{}")
        assert not await rig.commit(claim, BY_ANOTHER)
        assert await exported(rig, "ada") == before
        again = await rig.take("ada")
        assert (again.pending, again.version) == (1, 2)
        assert await rig.commit(again)


async def test_a_worker_from_before_an_empty_redis_gets_no_second_token(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        await lived(rig, "ada")
        zombie = await claimed(rig, "ada", TENANT)
        file = await backed_up(rig)
        await rig.redis.flushall()
        await run_restore(rig, file)
        assert int((await rig.take("ada")).token) > int(zombie.token)


async def test_a_tenants_users_go_to_another_tenant(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        await lived(rig, "ada")
        await lived(rig, "eve", "books")
        file = await backed_up(rig)
        assert await run_restore(rig, file, tenant=TENANT, into="trial") == {"NEW": 1, "API_KEYS": 0}
        assert await exported(rig, "ada", "trial") == await exported(rig, "ada", TENANT)
        assert await rig.store.tenant_quality("trial") == await rig.store.tenant_quality(TENANT)
        with pytest.raises(BackupInvalid, match="holds nothing of nobody"):
            await run_restore(rig, file, tenant="nobody")


async def test_api_keys_come_back_as_they_were_and_never_unrevoked(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        keys = KeyStore(rig.redis, Settings(internal_token="t" * 16))
        ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
        made = await keys.create(KeyRequest(name="shop", tenant="acme", rate=5, scopes=("select",), expires_at=ends))
        made = await keys.rotate(made.id, RotateRequest())
        other = await keys.create(KeyRequest(name="desk", tenant="books"))
        file = await backed_up(rig)
        secret = made.key.rpartition("_")[2]
        assert secret.encode() not in b"".join(map(orjson.dumps, everything(file)))
        await keys.revoke(made.id)
        assert (await run_restore(rig, file))["API_KEYS"] == 0
        assert (await keys.keys("acme", None, 10)).keys[0].revoked_at

        await rig.redis.flushall()
        assert (await run_restore(rig, file, tenant="acme"))["API_KEYS"] == 1
        admitted = await keys.admit(parsed(made.key))
        assert admitted
        assert (admitted.state, admitted.scopes) == ("open", {"select"})
        assert (await keys.keys(None, None, 10)).keys[0].model_dump() == made.model_dump(exclude={"key"})
        assert await keys.admit(parsed(other.key)) is None
        assert (await run_restore(rig, file, api_keys=False))["API_KEYS"] == 0


async def test_a_tenants_settings_come_back_unless_some_are_set(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        settings = TenantSettingsStore(rig.redis, TenantSettings())
        await settings.patch("acme", {"update_events": 5})
        await settings.patch("quiet", {"update_age_s": 60})  # a tenant without users
        file = await backed_up(rig)
        await settings.patch("acme", {"update_events": 6})
        await run_restore(rig, file)
        assert (await settings.view("acme")).settings.update_events == 6
        await rig.redis.flushall()
        await run_restore(rig, file)
        assert (await settings.view("acme")).settings.update_events == 5
        assert (await settings.view("quiet")).overridden == ("update_age_s",)


def parsed(text: str) -> ApiKey:
    key = parse_key(text)
    assert key
    return key


def everything(file: io.BytesIO) -> list[dict[str, Any]]:
    file.seek(0)
    return list(read_records(file))


# --- files that are not as they were written ---------------------------------------------------


def a_file(users: int = 3, **header: Any) -> bytes:
    out = io.BytesIO()
    first = {"id": "b", "schema": 1, "release": "0", "created_at": "", "tenant": None, "shards": 1, "token": 0}
    writer = BackupWriter(out, first | header)
    for number in range(users):
        writer.write({"kind": "user", "tenant": "acme", "user": f"u{number}", "state": {}, "log": []})
    writer.end()
    return out.getvalue()


def damaged(change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    return gzip.compress(b"".join(change(gzip.decompress(a_file()).splitlines(keepends=True))))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"plain text", "no gzip file"),
        (a_file()[:-40], "cut short"),
        (damaged(lambda lines: lines[:-1]), "cut short"),
        (damaged(lambda lines: [*lines[:-1], lines[-1][:50]]), "cut short"),
        (damaged(lambda lines: [*lines[:2], lines[2].replace(b'"u1"', b'"u7"'), *lines[3:]]), "line 3: the checksum"),
        (damaged(lambda lines: [*lines[:2], *lines[3:]]), "2 users; 3 were written"),
        (damaged(lambda lines: [lines[0], lines[2], lines[1], *lines[3:]]), "whole file"),
        (damaged(lambda lines: [*lines, lines[1]]), "follows the end"),
        (damaged(lambda lines: [lines[0], *lines]), "second header"),
        (damaged(lambda lines: lines[1:]), "format None"),
        (a_file(schema=3), "schema version 3"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused_in_words(content: bytes, says: str) -> None:
    with pytest.raises(BackupInvalid, match=says):
        check(io.BytesIO(content), Selection())


async def test_a_damaged_file_writes_nothing(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        await rig.redis.flushall()
        with pytest.raises(BackupInvalid):
            await run_restore(rig, io.BytesIO(a_file()[:-40]), "replace")
        with pytest.raises(BackupInvalid, match="holds nothing"):
            await run_restore(rig, io.BytesIO(a_file()), tenant="nobody")
        assert await rig.redis.keys() == []


async def test_a_backup_of_an_older_schema_is_migrated_on_its_way_in(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        await lived(rig, "ada")
        file = await backed_up(rig)
        await rig.redis.flushall()

        async def unused(*_: object) -> int:
            return 0

        step = Migration("marks users", unused, lambda record: record | {"state": record["state"] | {"mark": "2"}})
        steps = (*MIGRATIONS, step)
        assert (await Restore(rig.redis, rig.store.keys, Selection(), steps).run(file, "refuse", ignored))["NEW"] == 1
        assert (await rig.fields("ada"))["mark"] == "2"


async def test_a_write_during_the_reading_has_it_read_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_suite(redis_url) as rig:
        await rig.put("a", "b", "c")
        users = UserRecords(rig.redis, rig.store.keys)
        look, looks = users._read_once, 0

        async def torn(keys: UserKeys) -> list[Any]:
            """The first look has the history from before a write, and the state from after it."""
            nonlocal looks
            looks += 1
            found = await look(keys)
            if looks == 1:
                await rig.put("d", "e", "f")
                found[-1] = await rig.redis.hgetall(keys.state)
            return found

        monkeypatch.setattr(users, "_read_once", torn)
        record = await users.read(TENANT, "ada")
        assert record
        assert (looks, len(record["log"]), record["state"]["n"]) == (2, 6, "6")


async def test_a_record_leaves_out_the_update_under_way(redis_url: str) -> None:
    async with open_suite(redis_url) as rig:
        await lived(rig, "ada")
        users = UserRecords(rig.redis, rig.store.keys)
        before = await users.read(TENANT, "ada")
        await claimed(rig, "ada", TENANT)
        assert await users.read(TENANT, "ada") == before
        assert await users.read(TENANT, "nobody") is None
