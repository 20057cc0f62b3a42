"""Every version and every erasure reaches an endpoint at least once, whichever process is killed in between.

    pytest tests/chaos/test_webhook_kill.py

The endpoint refuses every third request and verifies each by the public library of Standard Webhooks.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.chaos.crowd import FAST
from tests.conftest import wait_until
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

    url: str = ""
    secret: str = ""
    versions: set[tuple[str, int]] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    requests: int = 0
    faults: list[str] = field(default_factory=list)


@contextmanager
def receiving() -> Iterator[Received]:
    received, numbers = Received(), itertools.count()

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            refused = next(numbers) % 3 == 2
            received.requests += 1
            if not refused:
                take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(503 if refused else 204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name in the base class
            pass

    def take(body: bytes, headers: dict[str, str]) -> None:
        try:
            event = Webhook(received.secret).verify(body, headers)
        except Exception as error:  # the thread's own would go unseen
            received.faults.append(repr(error))
            return
        if event["type"] == "preferences.version":
            received.versions.add((event["data"]["user"], event["data"]["version"]))
        elif event["type"] == "user.erased":
            received.erased.add(event["data"]["user"])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()


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


def test_every_version_and_erasure_is_told_of_through_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = Suite(tmp_path, SETTINGS)
    with receiving() as received, suite.running(), suite.client("hooked") as client:
        received.secret = send(client, "POST", "/v1/webhooks", json={"url": received.url}).json()["secret"]
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
