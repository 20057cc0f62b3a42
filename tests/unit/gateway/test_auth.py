import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from gateway.keys import as_stored, new_key, parse_key
from gateway.routing import OPERATIONS
from tests.unit.gateway.conftest import ADMIN_KEY, Suite
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

PATH = "/v1/users/ann/preferences"


async def metric(suite: Suite, name: str, **labels: str) -> float:
    text: str = await suite.metrics()
    sample = name + ("{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else "")
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample + " "))


def test_new_keys_have_the_form_and_256_bits() -> None:
    text, key = new_key()
    assert parse_key(text) == key
    assert len(text.split("_")[2]) * 5 >= 256
    assert new_key()[0] != text


@pytest.mark.parametrize(
    "text",
    ["", "x", "ax__" + "a" * 52, "ax_id_short", "ax_ID_" + "a" * 52, "ax_key1_" + "a_" * 26, "ax_key1_" + "é" * 52],
)
def test_other_texts_are_no_keys(text: str) -> None:
    assert parse_key(text) is None


async def test_the_tenant_comes_from_the_key_alone(suite: Suite) -> None:
    forged = {"X-AlignX-Tenant": "victim", "X-AlignX-Internal": "guess", "X-Forwarded-For": "6.6.6.6"}
    status, _, _ = await suite.json("GET", PATH, headers={**forged, "Cookie": "a=b"})
    assert status == 200
    (seen,) = suite.preference.seen
    assert [value for name, value in seen.headers if name == "x-alignx-tenant"] == ["shop"]
    assert seen.header("x-alignx-internal") == "internal-token-of-the-tests"
    for name in ("authorization", "x-api-key", "cookie", "x-forwarded-for", "user-agent"):
        assert seen.header(name) is None


async def test_x_api_key_works_too(suite: Suite) -> None:
    status, _, _ = await suite.json("GET", PATH, key="", headers={"x-api-key": suite.key})
    assert status == 200
    assert suite.preference.seen[0].header("x-api-key") is None


async def test_refusals_look_alike_and_are_counted_by_reason(suite: Suite) -> None:
    key_id = suite.key.split("_")[1]
    revoked = await suite.make_key()
    status, _, _ = await suite.json("GET", PATH, key=revoked["key"])
    assert status == 200
    async with suite.call("DELETE", f"/admin/keys/{revoked['id']}", key=ADMIN_KEY) as answer:
        assert answer.status == 204
    bad = {
        "malformed": "nonsense",
        "unknown": "ax_nobody_" + "a" * 52,
        "wrong_secret": f"ax_{key_id}_" + "a" * 52,
        "revoked": revoked["key"],
    }
    details = set()
    for reason, key in bad.items():
        status, headers, problem = await suite.json("GET", PATH, key=key)
        assert (status, problem["type"]) == (401, "urn:alignx:problem:unauthenticated")
        assert headers["WWW-Authenticate"] == "Bearer"
        assert "RateLimit" not in headers
        details.add(problem["detail"])
        assert await metric(suite, "alignx_gateway_auth_failures_total", reason=reason) == 1
    assert len(details) == 1
    status, _, problem = await suite.json("GET", PATH, key="")
    assert (status, problem["detail"]) == (401, "Send your API key as 'Authorization: Bearer ax_…'.")
    status, _, _ = await suite.json("GET", PATH, key="", headers={"Authorization": f"Basic {suite.key}"})
    assert status == 401
    assert len(suite.preference.seen) == 1


async def test_a_key_does_what_its_scopes_say(suite: Suite) -> None:
    created = await suite.make_key(scopes=["select", "events:write", "select"])
    assert (created["scopes"], created["admin"]) == (["events:write", "select"], False)
    key = created["key"]
    assert (await suite.json("POST", "/v1/users/ann/select", key=key, json={}))[0] == 200
    status, headers, problem = await suite.json("GET", PATH, key=key)
    assert (status, problem["type"], problem["scope"]) == (403, "urn:alignx:problem:forbidden", "preferences:read")
    assert "preferences:read" in problem["detail"]
    assert headers["Content-Type"] == "application/problem+json"
    status, _, error = await suite.json("POST", "/v1/chat/completions", key=key, json={})
    assert (status, error["error"]["code"]) == (403, "forbidden")
    assert "scope chat" in error["error"]["message"]
    assert len(suite.preference.seen) == 0
    assert (await suite.json("GET", "/admin/keys", key=(await suite.make_key(scopes=["admin"]))["key"]))[0] == 200
    for wrong in ({"scopes": []}, {"scopes": ["all"]}, {"scopes": ["chat"], "admin": True}):
        body = {"name": "x", "tenant": "shop", **wrong}
        assert (await suite.json("POST", "/admin/keys", key=ADMIN_KEY, json=body))[0] == 422


async def test_a_key_from_before_scopes_does_what_it_did(suite: Suite, redis_url: str) -> None:
    texts = {}
    with Redis.from_url(redis_url) as redis:
        for admin in (0, 1):
            text, key = new_key()
            record = {"digest": key.digest, "tenant": "shop", "admin": admin, "name": "old", "created_at": "2025-01-01"}
            redis.hset(f"gw:key:{{{key.id}}}", mapping=record | {"created_at": "2025-01-01T00:00:00.000+00:00"})
            redis.zadd("gw:tenant-keys:shop", {key.id: 0})
            texts[admin] = text
    for path, calls in OPERATIONS.items():
        if path.startswith("/v1/") and path != "/v1/audit":
            for method in calls:
                for text in texts.values():
                    status, _, _ = await suite.json(method, path.replace("{", "").replace("}", ""), key=text, json={})
                    assert status == (422 if path == "/v1/tokens" else 200), (method, path)
    statuses = [(await suite.json("GET", "/admin/keys?tenant=shop", key=text))[0] for text in texts.values()]
    assert statuses == [403, 200]
    _, _, listed = await suite.json("GET", "/admin/keys?tenant=shop", key=ADMIN_KEY)
    scopes = {len(info["scopes"]): info["admin"] for info in listed["keys"] if info["name"] == "old"}
    assert scopes == {14: False, 15: True}


async def test_a_key_expires(suite: Suite, redis_url: str) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    created = await suite.make_key(expires_at=ends.isoformat())
    assert datetime.fromisoformat(created["expires_at"]) == ends.replace(microsecond=ends.microsecond // 1000 * 1000)
    assert (await suite.json("GET", PATH, key=created["key"]))[0] == 200
    with Redis.from_url(redis_url) as redis:
        redis.hset(f"gw:key:{{{created['id']}}}", "expires_at", as_stored(datetime.now(UTC)))
    status, headers, problem = await suite.json("GET", PATH, key=created["key"])
    assert (status, problem["type"]) == (401, "urn:alignx:problem:credential_expired")
    assert "RateLimit" not in headers
    status, _, problem = await suite.json("GET", PATH, key=created["key"][:-4] + "aaaa")
    assert (status, problem["type"]) == (401, "urn:alignx:problem:unauthenticated")
    assert await metric(suite, "alignx_gateway_auth_failures_total", reason="expired") == 1


async def test_a_rotated_key_opens_with_both_secrets_until_the_old_one_ends(suite: Suite, redis_url: str) -> None:
    old = await suite.make_key(name="backend", scopes=["preferences:read"], rate=5)
    path = f"/admin/keys/{old['id']}/rotate"
    status, _, new = await suite.json("POST", path, key=ADMIN_KEY)
    assert (status, new["id"], new["scopes"], new["rate"]) == (200, old["id"], ["preferences:read"], 5)
    assert new["key"] != old["key"]
    overlap = datetime.fromisoformat(new["previous_until"]) - datetime.now(UTC)
    assert timedelta(hours=23) < overlap <= timedelta(hours=24)
    assert [(await suite.json("GET", PATH, key=key["key"]))[0] for key in (old, new)] == [200, 200]
    _, _, newest = await suite.json("POST", path, key=ADMIN_KEY, json={"overlap_s": 0})
    assert newest["previous_until"] is None
    assert [(await suite.json("GET", PATH, key=key["key"]))[0] for key in (old, new, newest)] == [401, 401, 200]
    with Redis.from_url(redis_url) as redis:
        for key in (old, new, newest):
            assert key["key"].split("_")[2].encode() not in redis.dump(f"gw:key:{{{old['id']}}}")


async def test_what_cannot_be_rotated(suite: Suite, redis_url: str) -> None:
    key = await suite.make_key()
    path = f"/admin/keys/{key['id']}/rotate"
    assert (await suite.json("POST", "/admin/keys/nobody/rotate", key=ADMIN_KEY))[0] == 404
    for wrong in (
        {"overlap_s": -1},
        {"overlap_s": 31 * 86_400},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "9999-12-31T23:59:59-12:00"},
    ):
        assert (await suite.json("POST", path, key=ADMIN_KEY, json=wrong))[0] == 422
    with Redis.from_url(redis_url) as redis:
        redis.hset(f"gw:key:{{{key['id']}}}", "expires_at", as_stored(datetime.now(UTC)))
    status, _, problem = await suite.json("POST", path, key=ADMIN_KEY)
    assert (status, problem["type"]) == (409, "urn:alignx:problem:key_ended")
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    _, _, renewed = await suite.json("POST", path, key=ADMIN_KEY, json={"expires_at": later})
    assert (await suite.json("GET", PATH, key=renewed["key"]))[0] == 200
    await suite.json("DELETE", f"/admin/keys/{key['id']}", key=ADMIN_KEY)
    assert (await suite.json("POST", path, key=ADMIN_KEY))[0] == 409


async def test_a_wrong_secret_leaves_the_bucket_alone(suite: Suite) -> None:
    key = (await suite.make_key(rate=0.01, burst=2))["key"]
    forged = key[:-4] + "aaaa"
    for _ in range(5):
        assert (await suite.json("GET", PATH, key=forged))[0] == 401
    statuses = [(await suite.json("GET", PATH, key=key))[0] for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_rate_limits_are_told_on_every_answer(suite: Suite) -> None:
    key = (await suite.make_key(rate=0.1, burst=2))["key"]
    _, headers, _ = await suite.json("GET", PATH, key=key)
    assert headers["RateLimit-Policy"] == '"key";q=2;w=20'
    assert headers["RateLimit"] == '"key";r=1;t=10'
    await suite.json("GET", PATH, key=key)
    status, headers, problem = await suite.json("GET", PATH, key=key)
    assert (status, problem["type"]) == (429, "urn:alignx:problem:rate_limited")
    assert headers["RateLimit"].startswith('"key";r=0;t=')
    assert 9 <= int(headers["Retry-After"]) <= 10
    status, headers, error = await suite.json("POST", "/v1/chat/completions", key=key, json={})
    assert (status, error["error"]["code"]) == (429, "rate_limited")
    assert "Retry-After" in headers
    assert (await suite.json("GET", PATH))[0] == 200  # other keys have their own bucket
    assert await metric(suite, "alignx_gateway_rate_limited_total") == 2


async def test_a_bucket_fills_up_again(suite: Suite) -> None:
    key = (await suite.make_key(rate=0.5, burst=1))["key"]
    statuses = [(await suite.json("GET", PATH, key=key))[0] for _ in range(2)]
    assert statuses == [200, 429]
    async with asyncio.timeout(10):
        while (await suite.json("GET", PATH, key=key))[0] != 200:  # noqa: ASYNC110  # a refusal takes no token
            await asyncio.sleep(0.05)


async def test_the_script_is_loaded_again_when_redis_forgets_it(suite: Suite, redis_url: str) -> None:
    assert (await suite.json("GET", PATH))[0] == 200
    with Redis.from_url(redis_url) as redis:
        redis.script_flush()
    assert (await suite.json("GET", PATH))[0] == 200


async def test_redis_keeps_no_secret(suite: Suite, redis_url: str) -> None:
    await suite.json("GET", PATH)
    secret = suite.key.split("_")[2].encode()
    with Redis.from_url(redis_url) as redis:
        for name in redis.scan_iter():
            assert name.startswith(b"gw:")
            assert secret not in redis.dump(name)


@with_settings(redis={"url": "redis://127.0.0.1:1/0"})
async def test_without_redis_requests_are_503_and_the_gateway_lives(suite: Suite) -> None:
    status, headers, problem = await suite.json("GET", PATH, key="ax_nobody_" + "a" * 52)
    assert (status, problem["type"]) == (503, "urn:alignx:problem:store_unavailable")
    assert headers["Retry-After"] == "1"
    assert (await suite.json("GET", "/livez"))[0] == 200
    status, _, body = await suite.json("GET", "/readyz")
    assert status == 503
    assert body["checks"]["redis"] == "Redis does not answer"


async def test_the_metrics_are_for_their_token_or_an_admin(suite: Suite) -> None:
    assert "alignx_build_info" in await suite.metrics()
    for key, status in (("", 401), ("nonsense", 401), (suite.key, 403), (ADMIN_KEY, 200)):
        async with suite.call("GET", "/metrics", key=key) as answer:
            assert (answer.status, "alignx_" in await answer.text()) == (status, status == 200), key
    assert await metric(suite, "alignx_gateway_auth_failures_total", reason="missing") == 1
    assert await metric(suite, "alignx_gateway_auth_failures_total", reason="scope") == 1
    _, _, document = await suite.json("GET", "/openapi.json", key="")
    assert document["paths"]["/metrics"]["get"]["security"] == [{"key": ["admin"]}]


@with_settings(redis={"url": "redis://127.0.0.1:1/0"})
async def test_their_token_reads_the_metrics_without_redis_and_nothing_else(suite: Suite) -> None:
    assert "alignx_build_info" in await suite.metrics()
    assert (await suite.json("GET", PATH, key="metrics-token-of-the-tests"))[0] == 401


@with_settings(gateway={"metrics_token": None})
async def test_without_a_metrics_token_no_text_passes_for_one(suite: Suite) -> None:
    for key in ("", "None", "metrics-token-of-the-tests"):
        assert (await suite.json("GET", "/metrics", key=key))[0] == 401
    assert (await suite.json("GET", "/metrics", key="", headers={"Authorization": "Basic eDp5"}))[0] == 401
