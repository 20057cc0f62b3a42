"""The life of an API key on real processes: made, used, rotated, revoked; tokens of users; guessing; the audit log.

The blocks of docs/how-to/keys.md are run as they stand there.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.conftest import free_port
from tests.live.suite import ROOT, SERVICES, Suite

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs" / "how-to" / "keys.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ADA = "ada.lovelace@example.org"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The suite with two gateways."""
    settings = {"ALIGNX_GATEWAY__USER_RATE": "10000", "ALIGNX_GATEWAY__USER_BURST": "10000"}
    with Suite(tmp_path_factory.mktemp("keyed"), settings).running() as suite:
        suite.ports["gateway-2"] = free_port()
        suite.start("gateway-2")
        suite.wait_ready(("gateway-2",))
        yield suite


def client(suite: Suite, credential: str, gateway: str = "gateway", address: str | None = None) -> httpx.Client:
    """Calls from `address`, any of the loopback's, so that the failures of other tests do not count."""
    return httpx.Client(
        base_url=f"http://127.0.0.1:{suite.ports[gateway]}",
        headers={"Authorization": f"Bearer {credential}"},
        transport=httpx.HTTPTransport(local_address=address),
        timeout=30,
    )


def admin(suite: Suite, method: str, path: str, **body: Any) -> Any:
    with client(suite, suite.admin_key) as caller:
        answer = caller.request(method, path, json=body or None)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def make_key(suite: Suite, tenant: str, **fields: Any) -> tuple[str, str]:
    """Id and text of a fresh key."""
    created = admin(suite, "POST", "/admin/keys", name="test", tenant=tenant, **fields)
    return created["id"], created["key"]


def mint(suite: Suite, key: str, user: str, scopes: list[str], **more: Any) -> str:
    with client(suite, key) as caller:
        answer = caller.post("/v1/tokens", json={"user": user, "scopes": scopes, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def statuses(suite: Suite, credentials: list[str], path: str) -> list[int]:
    """What both gateways answer, each credential in turn."""
    found = []
    for credential in credentials:
        for gateway in ("gateway", "gateway-2"):
            with client(suite, credential, gateway) as caller:
                found.append(caller.get(path).status_code)
    return found


def tell(suite: Suite, key: str, user: str, text: str) -> None:
    with client(suite, key) as caller:
        events = {"events": [{"type": "statement", "text": text}]}
        answer = caller.post(f"/v1/users/{user}/events", json=events, headers={"Prefer": "wait=20"})
    assert answer.status_code == 202, answer.text


def test_a_key_is_scoped_rotated_and_revoked_at_every_gateway(keyed: Suite) -> None:
    key_id, first = make_key(keyed, "life", scopes=["events:write", "preferences:read", "tokens:mint"])
    tell(keyed, first, "ann", "I like tea.")
    path = "/v1/users/ann/preferences"
    assert statuses(keyed, [first], path) == [200, 200]
    with client(keyed, first) as caller:
        refused = caller.put(path, json={"text": "Likes coffee."})
        assert (refused.status_code, refused.json()["scope"]) == (403, "preferences:write")
        assert refused.headers["content-type"] == "application/problem+json"
    token = mint(keyed, first, "ann", ["preferences:read"])
    second = admin(keyed, "POST", f"/admin/keys/{key_id}/rotate")["key"]
    assert statuses(keyed, [first, second, token], path) == [200] * 6
    third = admin(keyed, "POST", f"/admin/keys/{key_id}/rotate", overlap_s=0)["key"]
    assert statuses(keyed, [first, second, token, third], path) == [401] * 6 + [200] * 2
    token = mint(keyed, third, "ann", ["preferences:read"])
    assert statuses(keyed, [token], path) == [200] * 2
    admin(keyed, "DELETE", f"/admin/keys/{key_id}")
    assert statuses(keyed, [third, token], path) == [401] * 4


def test_keys_and_tokens_end_by_themselves(keyed: Suite) -> None:
    _, lasting = make_key(keyed, "brief")
    tell(keyed, lasting, "ann", "I like tea.")
    token = mint(keyed, lasting, "ann", ["preferences:read"], expires_in_s=1)
    ends = time.time() + 10  # the call itself may take a while
    _, key = make_key(keyed, "brief", expires_at=ends)
    time.sleep(max(0.0, ends - time.time()) + 0.1)
    for credential in (key, token):
        with client(keyed, credential) as caller:
            answer = caller.get("/v1/users/ann/preferences")
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:alignx:problem:credential_expired")


def test_the_audit_log_tells_who_erased_and_not_whom(keyed: Suite) -> None:
    key_id, key = make_key(keyed, "audited", scopes=["events:write", "users:export", "users:erase", "tokens:mint"])
    tell(keyed, key, ADA, "I like tea.")
    token = mint(keyed, key, ADA, ["users:export"])
    with client(keyed, token) as caller:
        assert "I like tea." in caller.get(f"/v1/users/{ADA}/export").text
    with client(keyed, key) as caller:
        assert caller.delete(f"/v1/users/{ADA}").status_code == 204
    admin(keyed, "PATCH", "/admin/tenants/audited/settings", denied_topics=["a secret topic"])
    entries = admin(keyed, "GET", "/v1/audit?tenant=audited")["entries"]
    told = [(entry["key_id"], entry["action"]) for entry in entries]
    root = keyed.admin_key.split("_")[1]
    assert told == [
        (root, "settings.changed"),
        (key_id, "user.erased"),
        (key_id, "user.exported"),
        (root, "key.created"),
    ]
    found = admin(keyed, "GET", f"/v1/audit?tenant=audited&user={ADA}")["entries"]
    assert [entry["action"] for entry in found] == ["user.erased", "user.exported"]
    with Redis.from_url(keyed.redis_url) as redis:
        for name in redis.scan_iter("gw:*"):
            for word in (b"lovelace", b"secret topic"):
                assert word not in name
                assert word not in (redis.dump(name) or b"")
    for name in SERVICES:
        assert "lovelace" not in keyed.log(name)
        assert "lovelace" not in keyed.metrics(name)


def test_a_guesser_is_held_back_and_the_owner_is_not(keyed: Suite) -> None:
    key_id, key = make_key(keyed, "guessed")
    tell(keyed, key, "ann", "I like tea.")
    found: list[int] = []
    while 429 not in found and len(found) < 100:  # failures fade meanwhile
        with client(keyed, f"ax_{key_id}_{len(found):052d}", address="127.0.0.9") as caller:
            answer = caller.get("/v1/users/ann/preferences")
            found.append(answer.status_code)
    assert len(found) > 20
    assert found == [401] * (len(found) - 1) + [429]
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["type"] == "urn:alignx:problem:too_many_failures"
    assert statuses(keyed, [key], "/v1/users/ann/preferences") == [200, 200]


def test_the_blocks_of_the_page(keyed: Suite) -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "sh", "python", "sh"]
    outputs = [run_block(keyed, language, text) for language, text in BLOCKS]
    assert "events:write" in outputs[0]
    assert outputs[1].count("ax_") == 1
    assert outputs[2].strip() in ("0", "1")
    assert "key.rotated" in outputs[3]


def run_block(suite: Suite, language: str, text: str) -> str:
    """Standard output of a block against `suite`."""
    key = suite.admin_key if language == "sh" else make_key(suite, "acme")[1]
    environment = {**os.environ, "ALIGNX_URL": suite.url, "ALIGNX_API_KEY": key, "COLUMNS": "200"}
    text = text.replace(".venv/bin/alignx ", f"{sys.executable} -m alignx.cli ")
    program = ["bash", "-ec", text] if language == "sh" else [sys.executable, "-c", text]
    if language == "python":
        tell(suite, key, "ada", "I like oak.")
    done = subprocess.run(program, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
