"""The life of an API key on real processes: made, used, rotated and revoked at every gateway.

The blocks of docs/how-to/keys.md are run as they stand there.
"""

import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import free_port
from tests.live.suite import ROOT, Suite, run

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs" / "how-to" / "keys.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PATH = "/v1/users/ann/preferences"


@pytest.fixture
def gateways(suite: Suite) -> Iterator[list[str]]:
    """The addresses of two."""
    suite.ports["gateway-2"] = free_port()
    suite.start("gateway-2")
    suite.wait_ready(("gateway-2",))
    yield [suite.url, f"http://127.0.0.1:{suite.ports['gateway-2']}"]
    suite.kill("gateway-2", signal.SIGTERM)


def ask(url: str, credential: str, method: str, path: str, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {credential}", **more.pop("headers", {})}
    answer = httpx.request(method, url + path, headers=headers, timeout=30, **more)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def mint(suite: Suite, key: str) -> str:
    body = {"user": "ann", "scopes": ["preferences:read"]}
    return str(ask(suite.url, key, "POST", "/v1/tokens", json=body)["token"])


def tell(suite: Suite, key: str, user: str, text: str) -> None:
    events = {"events": [{"type": "statement", "text": text}]}
    ask(suite.url, key, "POST", f"/v1/users/{user}/events", json=events, headers={"Prefer": "wait=20"})


def test_a_key_is_scoped_rotated_and_revoked_at_every_gateway(suite: Suite, gateways: list[str]) -> None:
    def statuses(*credentials: str) -> list[int]:
        """What both gateways answer, each credential in turn."""
        headers = [{"Authorization": f"Bearer {credential}"} for credential in credentials]
        return [httpx.get(url + PATH, headers=own).status_code for own in headers for url in gateways]

    def rotate(**body: Any) -> str:
        return str(ask(suite.url, suite.admin_key, "POST", f"/admin/keys/{key_id}/rotate", json=body)["key"])

    first = suite.new_key("life", scopes=["events:write", "preferences:read", "tokens:mint"])
    key_id = first.split("_")[1]
    tell(suite, first, "ann", "I like tea.")
    assert statuses(first) == [200, 200]
    refused = httpx.put(suite.url + PATH, json={"text": "Likes coffee."}, headers={"Authorization": f"Bearer {first}"})
    assert (refused.status_code, refused.json()["scope"]) == (403, "preferences:write")
    assert refused.headers["content-type"] == "application/problem+json"
    token = mint(suite, first)
    second = rotate()
    assert statuses(first, second, token) == [200] * 6
    third = rotate(overlap_s=0)
    assert statuses(first, second, token, third) == [401] * 6 + [200] * 2
    token = mint(suite, third)
    assert statuses(token) == [200] * 2
    ask(suite.url, suite.admin_key, "DELETE", f"/admin/keys/{key_id}")
    assert statuses(third, token) == [401] * 4


def test_the_blocks_of_the_page(suite: Suite) -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "sh", "python", "sh"]
    outputs = [run_block(suite, language, text) for language, text in BLOCKS]
    assert "events:write" in outputs[0]
    assert outputs[1].count("ax_") == 1
    assert outputs[2].strip() in ("0", "1")
    assert "key.rotated" in outputs[3]


def run_block(suite: Suite, language: str, text: str) -> str:
    """Standard output of a block against `suite`."""
    key = suite.admin_key if language == "sh" else suite.new_key("acme")
    text = text.replace(".venv/bin/alignx ", f"{sys.executable} -m alignx.cli ")
    program = ["bash", "-ec", text] if language == "sh" else [sys.executable, "-c", text]
    if language == "python":
        tell(suite, key, "ada", "I like oak.")
    return run(*program, ALIGNX_URL=suite.url, ALIGNX_API_KEY=key, COLUMNS="200").stdout
