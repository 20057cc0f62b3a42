"""User tokens: what is signed, what is read, and what a token of one user reaches at the gateway."""

import base64
import json
import time
from typing import Any

import pytest

from gateway.routing import CHATS, OPERATIONS, USER_SCOPES, is_for_user
from gateway.user_tokens import UserClaims, UserTokens
from tests.unit.gateway.conftest import ADMIN_KEY, Suite
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

TOKENS = UserTokens("a token of the inside")
SECONDS = int(time.time()) + 600
CLAIMS = UserClaims("k1", 2, "ann/é", frozenset(("chat", "select")), SECONDS)
ALL = sorted(USER_SCOPES)


async def mint(suite: Suite, user: str = "ann", key: str | None = None, **fields: Any) -> str:
    body = {"user": user, "scopes": ALL, **fields}
    status, _, minted = await suite.json("POST", "/v1/tokens", key=key, json=body)
    assert status == 201, minted
    return str(minted["token"])


def test_a_token_is_read_as_it_was_minted_and_is_a_json_web_token() -> None:
    text = TOKENS.mint(CLAIMS)
    assert TOKENS.read(text) == CLAIMS
    header, content, _ = (part + "=" * (-len(part) % 4) for part in text.split("."))
    assert json.loads(base64.urlsafe_b64decode(header)) == {"alg": "HS256", "typ": "JWT"}
    shown = json.loads(base64.urlsafe_b64decode(content))
    assert (shown["sub"], shown["scope"], shown["exp"]) == ("ann/é", "chat select", SECONDS)


def test_no_other_text_is_a_token() -> None:
    text = TOKENS.mint(CLAIMS)
    header, content, signature = text.split(".")
    other = TOKENS.mint(UserClaims("k1", 2, "bob", CLAIMS.scopes, SECONDS)).split(".")[1]
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    flipped = signature[:-2] + ("A" if signature[-2] != "A" else "B") + signature[-1]
    texts = (
        f"{header}.{other}.{signature}", f"{header}.{content}.{flipped}", f"{header}.{content}.", f"{header}.{content}",
        f"{none}.{content}.", f"{none}.{content}.{signature}", f"{text}.", f"{text}é", f"{header}..", f"{header}.",
        f"{header}.{'a' * 5000}.{signature}", "",
    )  # fmt: skip
    assert [TOKENS.read(other) for other in texts] == [None] * len(texts)
    assert UserTokens("another token").read(text) is None


def test_a_user_s_hash_differs_by_tenant_and_deployment() -> None:
    names = {tokens.hash_user(tenant, "ann") for tokens in (TOKENS, UserTokens("other")) for tenant in ("a", "b")}
    assert {len(name) for name in names} == {32}
    assert len(names) == 4


async def test_a_token_makes_the_calls_of_its_user_and_scopes(suite: Suite) -> None:
    token = await mint(suite, scopes=["preferences:read"])
    status, headers, _ = await suite.json("GET", "/v1/users/ann/preferences", key=token)
    assert (status, headers["RateLimit-Policy"]) == (200, '"user";q=40;w=4')
    (seen,) = suite.preference.seen
    assert (seen.header("x-alignx-tenant"), seen.header("x-alignx-user")) == ("shop", "ann")
    assert seen.header("authorization") is None
    status, _, problem = await suite.json("PUT", "/v1/users/ann/preferences", key=token, json={})
    assert (status, problem["scope"]) == (403, "preferences:write")
    assert "user token" in problem["detail"]
    status, _, problem = await suite.json("GET", "/v1/users/bob/preferences", key=token)
    assert (status, problem["type"]) == (403, "urn:alignx:problem:forbidden")
    assert "its own user" in problem["detail"]
    assert len(suite.preference.seen) == 1


async def test_a_caller_cannot_name_the_token_s_user_itself(suite: Suite) -> None:
    await suite.json("POST", "/v1/chat/completions", json={}, headers={"X-AlignX-User": "bob"})
    token = await mint(suite, "Zoë 1%")
    await suite.json("POST", "/v1/chat/completions", key=token, json={}, headers={"X-AlignX-User": "bob"})
    assert [seen.header("x-alignx-user") for seen in suite.response.seen] == [None, "Zo%C3%AB%201%25"]
    assert (await suite.json("GET", "/v1/users/Zo%C3%AB%201%25/preferences", key=token))[0] == 200
    assert (await suite.json("GET", "/v1/users/Zoe%201%25/preferences", key=token))[0] == 403


async def test_a_chat_tells_its_service_whether_the_caller_may_append(suite: Suite) -> None:
    key = (await suite.make_key(scopes=["tokens:mint", "chat"]))["key"]
    forged = {"X-AlignX-May-Append": "1"}
    for path in CHATS:
        for caller in (None, await mint(suite), key, await mint(suite, scopes=["chat"])):
            await suite.json("POST", path, key=caller, json={}, headers=forged)
    told = [seen.header("x-alignx-may-append") for seen in suite.response.seen]
    assert told == ["1", "1", None, None] * len(CHATS)
    await suite.json("POST", "/v1/users/ann/events", json={}, headers=forged)
    assert suite.preference.seen[-1].header("x-alignx-may-append") is None


@with_settings(gateway={"user_rate": 1000, "user_burst": 1000})
async def test_no_call_reaches_another_user_or_tenant_with_a_token(suite: Suite) -> None:
    """Every call of the table, which test_routing holds to the OpenAPI document."""
    token = await mint(suite, "ann")
    for path, calls in OPERATIONS.items():
        for method in calls:
            own = path.replace("{user}", "ann").replace("{version}", "1").replace("{key_id}", "root")
            own = own.replace("{tenant}", "shop").replace("{model}", "tiny").replace("{event_id}", "1-0")
            own = own.replace("{webhook}", "wh_1").replace("{delivery}", "msg_1")
            other = own.replace("/ann", "/bob")
            before = len(suite.preference.seen) + len(suite.response.seen)
            status, _, problem = await suite.json(method, own, key=token, json={})
            assert status == (200 if is_for_user(path) else 403), (method, path)
            if "{user}" in path:
                status, _, problem = await suite.json(method, other, key=token, json={})
                assert (status, "its own user" in problem["detail"]) == (403, True), (method, path)
            seen = [*suite.preference.seen, *suite.response.seen][before:] if is_for_user(path) else []
            assert len(suite.preference.seen) + len(suite.response.seen) == before + is_for_user(path)
            assert [entry.header("x-alignx-tenant") for entry in seen if "bob" in entry.line] == []
    tenants = {entry.header("x-alignx-tenant") for entry in (*suite.preference.seen, *suite.response.seen)}
    assert tenants == {"shop"}


async def test_what_a_key_may_mint(suite: Suite) -> None:
    narrow = (await suite.make_key(scopes=["tokens:mint", "select"]))["key"]
    assert await mint(suite, key=narrow, scopes=["select"])
    body = {"user": "ann", "scopes": ["select", "chat"]}
    status, _, problem = await suite.json("POST", "/v1/tokens", key=narrow, json=body)
    assert (status, problem["scope"]) == (403, "chat")
    for scope in ("admin", "tokens:mint", "quality:read", "catalogue:write"):
        status, _, problem = await suite.json("POST", "/v1/tokens", key=ADMIN_KEY, json={**body, "scopes": [scope]})
        assert (status, problem["errors"][0]["field"]) == (422, "scopes")
    for wrong in ({"user": "a/b"}, {"scopes": []}, {"scopes": ["root"]}, {"expires_in_s": 3601}, {"expires_in_s": 0}):
        assert (await suite.json("POST", "/v1/tokens", json=body | wrong))[0] == 422
    without = (await suite.make_key(scopes=["select"]))["key"]
    status, _, problem = await suite.json("POST", "/v1/tokens", key=without, json=body)
    assert (status, problem["scope"]) == (403, "tokens:mint")


async def test_a_token_expires_and_says_so(suite: Suite) -> None:
    key = await suite.make_key()
    claims = UserClaims(key["id"], 0, "ann", frozenset(("preferences:read",)), int(time.time()) - 1)
    token = UserTokens("internal-token-of-the-tests").mint(claims)
    status, headers, problem = await suite.json("GET", "/v1/users/ann/preferences", key=token)
    assert (status, problem["type"]) == (401, "urn:alignx:problem:credential_expired")
    assert headers["WWW-Authenticate"] == "Bearer"
    status, _, problem = await suite.json("GET", "/v1/users/ann/preferences", key=token + "A")
    assert (status, problem["type"]) == (401, "urn:alignx:problem:unauthenticated")


async def test_a_token_ends_with_the_key_that_minted_it(suite: Suite) -> None:
    path = "/v1/users/ann/preferences"
    key = await suite.make_key()
    token = await mint(suite, key=key["key"])
    assert (await suite.json("GET", path, key=token))[0] == 200
    _, _, rotated = await suite.json("POST", f"/admin/keys/{key['id']}/rotate", key=ADMIN_KEY, json={"overlap_s": 60})
    assert (await suite.json("GET", path, key=token))[0] == 200
    late = await mint(suite, key=key["key"])
    newer = await mint(suite, key=rotated["key"])
    await suite.json("POST", f"/admin/keys/{key['id']}/rotate", key=ADMIN_KEY, json={"overlap_s": 60})
    assert [(await suite.json("GET", path, key=text))[0] for text in (token, late, newer)] == [401, 401, 200]
    async with suite.call("DELETE", f"/admin/keys/{key['id']}", key=ADMIN_KEY) as answer:
        assert answer.status == 204
    status, _, problem = await suite.json("GET", path, key=newer)
    assert (status, problem["type"]) == (401, "urn:alignx:problem:unauthenticated")
    assert "revoked" in problem["detail"]


async def test_a_token_never_outlives_its_key(suite: Suite) -> None:
    ends = time.time() + 60
    key = await suite.make_key(expires_at=ends)
    body = {"user": "ann", "scopes": ["select"], "expires_in_s": 3600}
    _, _, minted = await suite.json("POST", "/v1/tokens", key=key["key"], json=body)
    claims = UserTokens("internal-token-of-the-tests").read(minted["token"])
    assert claims is not None
    assert claims.expires_at <= ends


@with_settings(gateway={"user_rate": 0.001, "user_burst": 2})
async def test_one_user_s_tokens_cannot_use_up_the_key(suite: Suite) -> None:
    path = "/v1/users/ann/preferences"
    first, second = await mint(suite), await mint(suite)
    answers = [await suite.json("GET", path, key=token) for token in (first, second, first)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[2][1]["RateLimit-Policy"].startswith('"user";')
    assert "One user's tokens" in answers[2][2]["detail"]
    other = await mint(suite, "bob")
    assert (await suite.json("GET", "/v1/users/bob/preferences", key=other))[0] == 200
    assert (await suite.json("GET", path))[0] == 200


async def test_a_key_without_rate_left_holds_back_its_tokens_too(suite: Suite) -> None:
    key = (await suite.make_key(rate=0.01, burst=2))["key"]
    token = await mint(suite, key=key)
    statuses = [(await suite.json("GET", "/v1/users/ann/preferences", key=token)) for _ in range(2)]
    assert [status for status, _, _ in statuses] == [200, 429]
    assert statuses[1][1]["RateLimit-Policy"].startswith('"key";')
