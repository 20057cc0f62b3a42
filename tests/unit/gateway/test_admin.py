from datetime import UTC, datetime
from typing import Any

import pytest
import redis.exceptions
from redis.asyncio import Redis

from gateway.keys import KeyStore
from services.errors import StoreUnavailable
from services.settings import Settings
from services.storage.key_names import tokens_key
from tests.unit.gateway.conftest import ADMIN_KEY, INTERNAL_TOKEN, Suite
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio


async def test_a_key_is_made_listed_and_revoked(suite: Suite) -> None:
    created = await suite.make_key(name="backend", tenant="books", rate=5, burst=7)
    assert created["key"].startswith(f"ax_{created['id']}_")
    assert (created["rate"], created["burst"], created["admin"]) == (5, 7, False)
    _, _, listed = await suite.json("GET", "/admin/keys?tenant=books", key=ADMIN_KEY)
    (info,) = listed["keys"]
    assert info == {name: value for name, value in created.items() if name != "key"}
    async with suite.call("DELETE", f"/admin/keys/{created['id']}", key=ADMIN_KEY) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
        assert "RateLimit" in answer.headers
    assert (await suite.json("GET", "/v1/quality", key=created["key"]))[0] == 401
    async with suite.call("DELETE", f"/admin/keys/{created['id']}", key=ADMIN_KEY) as answer:
        assert answer.status == 204
    _, _, listed = await suite.json("GET", "/admin/keys?tenant=books", key=ADMIN_KEY)
    assert listed["keys"][0]["revoked_at"]
    status, _, problem = await suite.json("DELETE", "/admin/keys/nobody", key=ADMIN_KEY)
    assert (status, problem["type"]) == (404, "urn:alignx:problem:key_unknown")


@with_settings(gateway={"rate": 50, "burst": 60})
async def test_a_key_without_limits_has_the_deployments(suite: Suite) -> None:
    created = await suite.make_key()
    assert (created["rate"], created["burst"]) == (50, 60)
    _, headers, _ = await suite.json("GET", "/v1/quality", key=created["key"])
    assert headers["RateLimit-Policy"] == '"key";q=60;w=2'


async def test_lists_are_paged(suite: Suite) -> None:
    created = {(await suite.make_key(tenant=f"t{number % 3}"))["id"] for number in range(7)}
    listed: list[str] = []
    path = "/admin/keys?limit=2"
    while path:
        _, _, page = await suite.json("GET", path, key=ADMIN_KEY)
        listed += [key["id"] for key in page["keys"]]
        path = f"/admin/keys?limit=2&after={page['next']}" if page["next"] else ""
    assert listed == sorted(listed)
    assert created < set(listed)
    assert len(listed) == 9  # with the bootstrap key and the suite's own
    _, _, page = await suite.json("GET", "/admin/tenants?limit=3", key=ADMIN_KEY)
    assert page == {
        "tenants": [{"tenant": "default", "keys": 1}, {"tenant": "shop", "keys": 1}, {"tenant": "t0", "keys": 3}],
        "next": "t0",
    }
    _, _, page = await suite.json("GET", "/admin/tenants?after=t0", key=ADMIN_KEY)
    assert [entry["tenant"] for entry in page["tenants"]] == ["t1", "t2"]
    assert page["next"] is None


async def test_admin_paths_need_an_admin_key(suite: Suite) -> None:
    calls = (
        ("GET", "/admin/keys"),
        ("POST", "/admin/keys"),
        ("DELETE", "/admin/keys/root"),
        ("POST", "/admin/keys/root/rotate"),
        ("GET", "/admin/tenants"),
        ("GET", "/v1/audit"),
    )
    for method, path in calls:
        status, headers, problem = await suite.json(method, path, json={})
        assert (status, problem["type"]) == (403, "urn:alignx:problem:forbidden"), (method, path)
        assert problem["scope"] == "admin"
        assert "RateLimit" in headers
        assert (await suite.json(method, path, key="", json={}))[0] == 401
    admin = (await suite.make_key(admin=True))["key"]
    assert (await suite.json("GET", "/admin/keys", key=admin))[0] == 200


async def test_an_admin_key_has_a_tenant_under_v1(suite: Suite) -> None:
    await suite.json("GET", "/v1/quality", key=ADMIN_KEY)
    assert suite.preference.seen[0].header("x-alignx-tenant") == "default"


@with_settings(limits={"body_bytes": 1_024})
async def test_requests_are_checked(suite: Suite) -> None:
    for request in ({"tenant": "shop"}, {"name": "a", "tenant": "a b"}, {"name": "a", "tenant": "a", "rate": 1e-4}):
        status, _, problem = await suite.json("POST", "/admin/keys", key=ADMIN_KEY, json=request)
        assert (status, problem["type"]) == (422, "urn:alignx:problem:invalid_request")
    status, _, problem = await suite.json("POST", "/admin/keys", key=ADMIN_KEY, json={"name": "a" * 2_000})
    assert (status, problem["type"]) == (413, "urn:alignx:problem:payload_too_large")
    assert problem["limit_bytes"] == 1_024
    assert (await suite.json("GET", "/admin/nothing", key=ADMIN_KEY))[0] == 404
    status, headers, _ = await suite.json("PATCH", "/admin/keys", key=ADMIN_KEY)
    assert (status, set(headers["Allow"].split(", "))) == (405, {"GET", "POST"})


@with_settings(gateway={"body_timeout_s": 0.3})
@pytest.mark.parametrize("path", ["/v1/tokens", "/admin/keys"])
async def test_who_calls_is_known_before_the_body_is_read(suite: Suite, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    cut = b"Content-Length: 9\r\n\r\n{"
    for key, status in (("", 401), (suite.key.replace("ax_", "ax_no"), 401), (ADMIN_KEY, 400)):
        answer = await suite.raw(f"{head}Authorization: Bearer {key}\r\n".encode() + cut)
        assert int(answer.split(b" ", 2)[1]) == status, (key, answer)
    assert b"did not arrive within 0.3 s" in answer
    for media in ("application/json", "text/plain"):
        assert (await suite.json("POST", path, key="", data=b"{", headers={"Content-Type": media}))[0] == 401
        status = (await suite.json("POST", path, key=ADMIN_KEY, data=b"{", headers={"Content-Type": media}))[0]
        assert status == (400 if media == "application/json" else 415)


@with_settings(gateway={"rate": 0.01, "burst": 9})
async def test_a_call_of_the_gateway_counts_once(suite: Suite) -> None:
    body = {"user": "ann", "scopes": ["select"]}
    _, headers, _ = await suite.json("POST", "/v1/tokens", json=body)
    assert headers["RateLimit"].startswith('"key";r=8')


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (redis.exceptions.ConnectionError(), StoreUnavailable),
        (ConnectionResetError(), StoreUnavailable),
        (redis.exceptions.ResponseError("WRONGTYPE"), redis.exceptions.ResponseError),
    ],
)
async def test_only_a_store_that_cannot_serve_is_called_unavailable(error: Exception, raised: type[Exception]) -> None:
    class Broken:
        async def ping(self) -> None:
            raise error

    store: Any = Broken()
    with pytest.raises(raised):
        await KeyStore(store, Settings(internal_token=INTERNAL_TOKEN)).ping()


async def test_what_is_spent_of_a_token_budget_stands_beside_its_limits(suite: Suite, redis_url: str) -> None:
    path = "/admin/tenants/books/settings"
    assert (await suite.json("GET", path, key=ADMIN_KEY))[2]["spent"] is None
    _, _, view = await suite.json("PATCH", path, key=ADMIN_KEY, json={"tokens_per_month": 500})
    assert (view["settings"]["tokens_per_month"], view["spent"]) == (500, {"day": 0, "month": 0})
    now = datetime.now(UTC)
    async with Redis.from_url(redis_url) as client:
        await client.hset(tokens_key("books", f"{now:%Y-%m}"), mapping={f"{now:%d}": 7, "month": 90, "id": "01 5"})
    assert (await suite.json("GET", path, key=ADMIN_KEY))[2]["spent"] == {"day": 7, "month": 90}
    for wrong in (0, -1, 10**16, "many"):
        assert (await suite.json("PATCH", path, key=ADMIN_KEY, json={"tokens_per_day": wrong}))[0] == 422
    _, _, view = await suite.json("PATCH", path, key=ADMIN_KEY, json={"tokens_per_month": None})
    assert view["spent"] is None


async def test_a_tenants_settings_are_read_set_and_changed_by_admins_alone(suite: Suite) -> None:
    path = "/admin/tenants/books/settings"
    _, _, view = await suite.json("GET", path, key=ADMIN_KEY)
    assert (view["tenant"], view["overridden"], view["settings"]["update_events"]) == ("books", [], 20)
    status, _, view = await suite.json("PUT", path, key=ADMIN_KEY, json={"update_events": 5, "update_bits": 3})
    assert (status, view["overridden"]) == (200, ["update_bits", "update_events"])
    _, _, view = await suite.json("PATCH", path, key=ADMIN_KEY, json={"update_events": None, "update_age_s": 60})
    assert view == (await suite.json("GET", path, key=ADMIN_KEY))[2]
    assert (view["overridden"], view["settings"]["update_events"]) == (["update_age_s", "update_bits"], 20)
    for method in ("PUT", "PATCH"):
        status, _, problem = await suite.json(method, path, key=ADMIN_KEY, json={"cadence": 1, "update_events": 0})
        assert (status, problem["type"]) == (422, "urn:alignx:problem:invalid_request")
        assert {error["field"].rpartition(".")[2] for error in problem["errors"]} == {"cadence", "update_events"}
        assert (await suite.json(method, path, json={}))[0] == 403
