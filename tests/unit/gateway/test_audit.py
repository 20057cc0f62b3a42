"""The audit log: what gets in, who reads it, and what is not in it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from redis import Redis

from gateway.routing import ROUTES
from gateway.user_tokens import UserTokens
from services.storage import audit_log
from tests.unit.gateway.conftest import ADMIN_KEY, INTERNAL_TOKEN, Seen, Suite, hang_up, http_answer
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

USER = "ann.smith@example.org"
LOG = "gw:audit:shop"


async def read(suite: Suite, query: str = "?tenant=shop") -> list[tuple[str, str, str]]:
    status, _, page = await suite.json("GET", f"/v1/audit{query}", key=ADMIN_KEY)
    assert status == 200, page
    return [(entry["key_id"], entry["action"], entry["target"]) for entry in page["entries"]]


async def test_admin_calls_exports_and_erasures_are_logged(suite: Suite, redis_url: str) -> None:
    backend = await suite.make_key()
    suite.preference.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    body = {"user": USER, "scopes": ["users:export"]}
    token = (await suite.json("POST", "/v1/tokens", key=backend["key"], json=body))[2]["token"]
    for method, path, key in (
        ("GET", f"/v1/users/{USER}/export", token),
        ("DELETE", f"/v1/users/{USER}", backend["key"]),
        ("GET", f"/v1/users/{USER}/events", backend["key"]),
        ("POST", f"/admin/keys/{backend['id']}/rotate", ADMIN_KEY),
        ("DELETE", f"/admin/keys/{backend['id']}", ADMIN_KEY),
        ("GET", "/admin/keys", ADMIN_KEY),
    ):
        async with suite.call(method, path, key=key) as answer:
            assert answer.status < 300, path
    for method, changes in (("PUT", {"denied_topics": ["a secret"]}), ("PATCH", {"traffic": None})):
        assert (await suite.json(method, "/admin/tenants/shop/settings", key=ADMIN_KEY, json=changes))[0] == 200
    user, key_id = UserTokens(INTERNAL_TOKEN).hash_user("shop", USER), backend["id"]
    whole = await read(suite)
    assert whole[:7] == [
        ("root", "settings.changed", "traffic"),
        ("root", "settings.replaced", "denied_topics"),
        ("root", "key.revoked", key_id),
        ("root", "key.rotated", key_id),
        (key_id, "user.erased", user),
        (key_id, "user.exported", user),
        ("root", "key.created", key_id),
    ]
    assert [entry[1] for entry in whole[7:]] == ["key.created"]  # the suite's own
    assert await read(suite, f"?tenant=shop&user={USER}") == whole[4:6]
    assert await read(suite, "?tenant=books") == []
    with Redis.from_url(redis_url) as redis:
        for name in redis.scan_iter():
            assert b"ann" not in name
            assert b"ann.smith" not in redis.dump(name)
            if name.startswith(b"gw:audit"):
                assert b"a secret" not in b"".join(str(entry).encode() for entry in redis.xrange(name))


async def test_each_user_who_is_erased_with_others_is_logged(suite: Suite) -> None:
    backend = await suite.make_key()
    body = orjson.dumps({"erased": [USER, "bob"], "unknown": 1, "left": 0})
    suite.preference.answer(http_answer(body))
    async with suite.call("POST", "/v1/erasures", key=backend["key"], json={"users": [USER, "bob", "x"]}) as answer:
        assert (answer.status, await answer.read()) == (200, body)
    hashes = [UserTokens(INTERNAL_TOKEN).hash_user("shop", user) for user in (USER, "bob")]
    assert (await read(suite))[:2] == [(backend["id"], "user.erased", user) for user in reversed(hashes)]
    assert await read(suite, "?tenant=shop&user=x") == []
    suite.preference.answer(http_answer(b'{"erased":[],"unknown":3,"left":0}'))
    before = await read(suite)
    assert (await suite.json("POST", "/v1/erasures", json={"users": ["x"]}))[0] == 200
    assert await read(suite) == before


async def test_changes_of_webhooks_are_logged_and_no_secret(suite: Suite) -> None:
    backend = await suite.make_key()
    suite.preference.answer(http_answer(b'{"id":"wh_1","secret":"whsec_x"}'))
    for method, path in (
        ("POST", "/v1/webhooks"),
        ("PATCH", "/v1/webhooks/wh_1"),
        ("POST", "/v1/webhooks/wh_1/rotate"),
        ("DELETE", "/v1/webhooks/wh_1"),
        ("POST", "/v1/webhooks/wh_1/test"),
    ):
        assert (await suite.json(method, path, key=backend["key"], json={}))[0] == 200, path
    assert (await read(suite))[:4] == [
        (backend["id"], "webhook.deleted", "wh_1"),
        (backend["id"], "webhook.rotated", "wh_1"),
        (backend["id"], "webhook.changed", "wh_1"),
        (backend["id"], "webhook.created", "new"),
    ]


async def test_what_is_forgotten_is_logged_without_its_text(suite: Suite) -> None:
    key = await suite.make_key()
    hashed = UserTokens(INTERNAL_TOKEN).hash_user("shop", "ann")
    for dry_run in (True, False):
        suite.preference.answer(http_answer(orjson.dumps({"dry_run": dry_run, "event_ids": []})))
        body = {"about": "a canary", "dry_run": dry_run}
        async with suite.call("POST", "/v1/users/ann/forget", key=key["key"], json=body) as answer:
            assert orjson.loads(await answer.read())["dry_run"] is dry_run
        entries = [entry for entry in await read(suite) if entry[1] == "event.forgotten"]
        assert entries == ([] if dry_run else [(key["id"], "event.forgotten", hashed)])
    suite.preference.answer(http_answer(b'{"dry_run":false}'))
    async with suite.call("DELETE", "/v1/users/ann/events/1-0", key=key["key"]) as answer:
        assert answer.status == 200
    assert (await read(suite))[0] == (key["id"], "event.forgotten", hashed)


CHANGES = [
    (method, route.path.format(user="bob", event_id="1-0", webhook="wh_1"), operation.audited)
    for route in ROUTES
    for method, operation in route.operations.items()
    if operation.audited and method != "GET"
]


@pytest.mark.parametrize(("method", "path", "action"), CHANGES)
async def test_a_change_is_logged_though_its_caller_has_gone(suite: Suite, method: str, path: str, action: str) -> None:
    """What the service has done is done; a caller who leaves must not keep it out of the log."""
    asked, leave = asyncio.Event(), asyncio.Event()

    async def change(_: Seen, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await leave.wait()
        writer.write(http_answer(b'{"erased":["bob"],"unknown":0,"left":0}'))
        await writer.drain()

    suite.preference.handler = change
    calling = asyncio.create_task(suite.json(method, path, json={"users": ["bob"]}))
    await asyncio.wait_for(asked.wait(), 10)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    await asyncio.sleep(0.1)  # longer than the gateway takes to see that the caller has gone
    leave.set()
    async with asyncio.timeout(10):
        while not [entry for entry in await read(suite) if entry[1] == action]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_call_that_fails_is_not_logged(suite: Suite) -> None:
    suite.preference.answer(http_answer(b"{}", "404 Not Found"))
    before = await read(suite)
    await suite.json("DELETE", f"/v1/users/{USER}")
    await suite.json("DELETE", "/admin/keys/nobody", key=ADMIN_KEY)
    await suite.json("PATCH", "/admin/tenants/shop/settings", key=ADMIN_KEY, json={"nothing": 1})
    assert await read(suite) == before


async def test_an_erasure_without_an_answer_is_logged_as_such(suite: Suite) -> None:
    suite.preference.handler = hang_up
    assert (await suite.json("DELETE", f"/v1/users/{USER}"))[0] == 503
    assert (await read(suite))[0][1] == "user.erased.unanswered"


async def test_pages_of_the_log(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "_PAGE", 2)
    made = [(await suite.make_key(tenant="books"))["id"] for _ in range(5)]
    listed: list[str] = []
    query = "?tenant=books&limit=2"
    while query:
        _, _, page = await suite.json("GET", f"/v1/audit{query}", key=ADMIN_KEY)
        assert len(page["entries"]) <= 2
        listed += [entry["target"] for entry in page["entries"]]
        query = f"?tenant=books&limit=2&before={page['next']}" if page["next"] else ""
    assert listed == made[::-1]
    assert [entry[2] for entry in await read(suite, "?tenant=books")] == made[::-1]
    for before in ("x", "0-0"):
        assert (await suite.json("GET", f"/v1/audit?before={before}", key=ADMIN_KEY))[0] == 422
    _, _, page = await suite.json("GET", "/v1/audit?tenant=books", key=ADMIN_KEY)
    at = datetime.fromisoformat(page["entries"][0]["at"])
    assert abs((datetime.now(UTC) - at).total_seconds()) < 600


@with_settings(gateway={"audit_days": 2, "audit_entries": 100})
async def test_the_log_is_bounded_in_days_and_entries(suite: Suite, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.delete(LOG)
        day_ms, now_ms = 86_400_000, int(datetime.now(UTC).timestamp() * 1000)
        entry: dict[Any, Any] = {"key": "k1", "action": "key.created", "target": "k2"}
        redis.xadd(LOG, entry, id=f"{now_ms - 3 * day_ms}-0")
        redis.xadd(LOG, entry, id=f"{now_ms - 1 * day_ms}-0")
        assert len(await read(suite)) == 1  # an older one is not shown, even before it is dropped
        await suite.make_key()
        assert redis.xlen(LOG) == 2
        assert 0 < redis.ttl(LOG) <= 2 * 86_400
        for _ in range(500):
            redis.xadd(LOG, entry)
        await suite.make_key()
        assert redis.xlen(LOG) < 300  # Redis trims whole nodes


async def test_a_log_that_cannot_be_written_stops_no_erasure(suite: Suite, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.config_set("maxmemory", 1)
        try:
            suite.preference.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
            async with suite.call("DELETE", f"/v1/users/{USER}") as answer:
                assert answer.status == 204
        finally:
            redis.config_set("maxmemory", 0)
    assert "alignx_gateway_audit_failures_total 1.0" in await suite.metrics()
