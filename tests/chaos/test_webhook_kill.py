"""Every version and every erasure reaches an endpoint at least once, whichever process is killed in between.

    pytest tests/chaos/test_webhook_kill.py

The endpoint refuses every third request and verifies each by the public library of Standard Webhooks.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.chaos.crowd import FAST
from tests.conftest import wait_until
from tests.live.receiver import receiving
from tests.live.suite import Suite

pytestmark = pytest.mark.live

SETTINGS = FAST | {
    "ALIGNX_ENGINE__URL": "profile",
    "ALIGNX_QUEUE__DEBOUNCE_MS": "0",
    "ALIGNX_WEBHOOKS__ALLOW_PRIVATE": "true",
    "ALIGNX_WEBHOOKS__TIMEOUT_S": "0.5",
    "ALIGNX_WEBHOOKS__BACKOFF_S": "0.2",
    "ALIGNX_WEBHOOKS__ATTEMPTS": "50",
    "ALIGNX_WEBHOOKS__BACKOFF_MAX_S": "1",
}
USERS = [f"person-{number}" for number in range(12)]
WITHIN_S = 60.0


@dataclass
class Received:
    """What the endpoint has accepted; `secret` is known once it is registered."""

    secret: str = ""
    versions: set[tuple[str, int]] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    requests: int = 0
    faults: list[str] = field(default_factory=list)

    def take(self, _: str, headers: Mapping[str, str], body: bytes) -> int:
        self.requests += 1
        if self.requests % 3 == 0:
            return 503
        try:
            event = Webhook(self.secret).verify(body, dict(headers))
        except Exception as error:  # the thread's own would go unseen
            self.faults.append(repr(error))
            return 204
        if event["type"] == "preferences.version":
            self.versions.add((event["data"]["user"], event["data"]["version"]))
        elif event["type"] == "user.erased":
            self.erased.add(event["data"]["user"])
        return 204


def send(client: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    """Sends until the call is answered; a 404 is an answer."""
    answers: list[httpx.Response] = []

    def is_answered() -> bool:
        try:
            answers.append(client.request(method, path, **more))
        except httpx.HTTPError:
            return False
        return answers[-1].is_success or answers[-1].status_code == 404

    wait_until(is_answered, WITHIN_S)
    return answers[-1]


def written(client: httpx.Client) -> set[tuple[str, int]]:
    """Every version of every user, once no event waits."""
    found = set[tuple[str, int]]()
    for user in USERS:
        path = f"/v1/users/{user}/preferences"
        wait_until(lambda path=path: send(client, "GET", path).json()["pending"] == 0, WITHIN_S)
        listed = send(client, "GET", f"{path}/versions").json()["versions"]
        found |= {(user, version["version"]) for version in listed}
    return found


def test_every_version_and_erasure_is_told_of_through_kills(tmp_path: Path) -> None:
    suite, received = Suite(tmp_path, SETTINGS), Received()
    with receiving(received.take) as url, suite.running(), suite.client("hooked") as client:
        received.secret = send(client, "POST", "/v1/webhooks", json={"url": f"{url}/hook"}).json()["secret"]
        victims = ("worker", "preference", "worker", "gateway", "redis", "worker")
        for number, victim in enumerate(victims):
            for user in USERS:
                events = [{"type": "statement", "text": f"I like number {number}."}]
                key = {"Idempotency-Key": f"{user}-{number}"}
                send(client, "POST", f"/v1/users/{user}/events", json={"events": events}, headers=key)
            suite.kill(victim)
            suite.start(victim)
            suite.wait_alive(victim) if victim != "redis" else time.sleep(0.5)
        versions = written(client)
        wait_until(lambda: received.versions >= versions, WITHIN_S)
        for user in USERS[::2]:
            send(client, "DELETE", f"/v1/users/{user}")
            if user == USERS[4]:
                suite.kill("worker")
                suite.start("worker")
        wait_until(lambda: received.erased >= set(USERS[::2]), WITHIN_S)
    assert received.faults == []
    assert received.versions == versions
    assert len(versions) >= len(USERS) * 3
    told = len(received.versions) + len(received.erased)
    assert received.requests >= told
