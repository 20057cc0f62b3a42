import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis.exceptions

from gateway.keys import KeyStore
from services.errors import StoreUnavailable
from services.settings import Settings

Play = Callable[..., None]

ADMIN_KEY = "ax_root_" + "a" * 52


def test_a_key_is_made_listed_and_revoked(play: Play) -> None:
    async def scenario(suite: Any) -> None:
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

    play(scenario)


def test_a_key_without_limits_has_the_deployments(play: Play) -> None:
    async def scenario(suite: Any) -> None:
        created = await suite.make_key()
        assert (created["rate"], created["burst"]) == (50, 60)
        _, headers, _ = await suite.json("GET", "/v1/quality", key=created["key"])
        assert headers["RateLimit-Policy"] == '"key";q=60;w=2'

    play(scenario, gateway={"rate": 50, "burst": 60})


def test_lists_are_paged(play: Play) -> None:
    async def scenario(suite: Any) -> None:
        made = {(await suite.make_key(tenant=f"t{number % 3}"))["id"] for number in range(7)}
        found: list[str] = []
        path = "/admin/keys?limit=2"
        while path:
            _, _, page = await suite.json("GET", path, key=ADMIN_KEY)
            found += [key["id"] for key in page["keys"]]
            path = f"/admin/keys?limit=2&after={page['next']}" if page["next"] else ""
        assert found == sorted(found)
        assert made < set(found)
        assert len(found) == 9  # with the bootstrap key and the suite's own
        _, _, page = await suite.json("GET", "/admin/tenants?limit=3", key=ADMIN_KEY)
        assert page == {
            "tenants": [{"tenant": "default", "keys": 1}, {"tenant": "shop", "keys": 1}, {"tenant": "t0", "keys": 3}],
            "next": "t0",
        }
        _, _, page = await suite.json("GET", "/admin/tenants?after=t0", key=ADMIN_KEY)
        assert [entry["tenant"] for entry in page["tenants"]] == ["t1", "t2"]
        assert page["next"] is None

    play(scenario)


def test_admin_paths_need_an_admin_key(play: Play) -> None:
    async def scenario(suite: Any) -> None:
        calls = (
            ("GET", "/admin/keys"),
            ("POST", "/admin/keys"),
            ("DELETE", "/admin/keys/root"),
            ("GET", "/admin/tenants"),
        )
        for method, path in calls:
            status, headers, problem = await suite.json(method, path, json={})
            assert (status, problem["type"]) == (403, "urn:alignx:problem:forbidden"), (method, path)
            assert "RateLimit" in headers
            assert (await suite.json(method, path, key="", json={}))[0] == 401
        admin = (await suite.make_key(admin=True))["key"]
        assert (await suite.json("GET", "/admin/keys", key=admin))[0] == 200

    play(scenario)


def test_an_admin_key_has_a_tenant_under_v1(play: Play) -> None:
    async def scenario(suite: Any) -> None:
        await suite.json("GET", "/v1/quality", key=ADMIN_KEY)
        assert suite.preference.seen[0].header("x-alignx-tenant") == "default"

    play(scenario)


def test_requests_are_checked(play: Play) -> None:
    async def scenario(suite: Any) -> None:
        for request in ({"tenant": "shop"}, {"name": "a", "tenant": "a b"}, {"name": "a", "tenant": "a", "rate": 1e-4}):
            status, _, problem = await suite.json("POST", "/admin/keys", key=ADMIN_KEY, json=request)
            assert (status, problem["type"]) == (422, "urn:alignx:problem:invalid_request")
        status, _, problem = await suite.json("POST", "/admin/keys", key=ADMIN_KEY, json={"name": "a" * 2_000})
        assert (status, problem["type"]) == (413, "urn:alignx:problem:payload_too_large")
        assert problem["limit_bytes"] == 1_024
        assert (await suite.json("GET", "/admin/nothing", key=ADMIN_KEY))[0] == 404
        status, headers, _ = await suite.json("PATCH", "/admin/keys", key=ADMIN_KEY)
        assert (status, set(headers["Allow"].split(", "))) == (405, {"GET", "POST"})

    play(scenario, limits={"body_bytes": 1_024})


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (redis.exceptions.ConnectionError(), StoreUnavailable),
        (ConnectionResetError(), StoreUnavailable),
        (redis.exceptions.ResponseError("WRONGTYPE"), redis.exceptions.ResponseError),
    ],
)
def test_only_a_store_that_cannot_serve_is_called_unavailable(error: Exception, seen: type[Exception]) -> None:
    class Broken:
        async def ping(self) -> None:
            raise error

    store: Any = Broken()
    with pytest.raises(seen):
        asyncio.run(KeyStore(store, Settings(internal_token="internal-token-of-the-tests")).ping())
