"""A suite, a Redis or a mock service for a benchmark, and calls to the services behind the gateway's back."""

import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson

from tests.conftest import free_port
from tests.live.suite import ROOT, Suite
from tests.unit.services.preference.rig import start_redis, stop_redis

AS_SHIPPED = {
    "ALIGNX_GATEWAY__RATE": "200",
    "ALIGNX_GATEWAY__BURST": "400",
    "ALIGNX_GATEWAY__TENANT_REQUESTS": "128",
    "ALIGNX_GATEWAY__TENANT_BULK": "8",
    "ALIGNX_GATEWAY__SERVICE_REQUESTS": "256",
}
"""The limits of a deployment, which tests/live/suite.py lifts."""
SELECT = b'{"query": "q", "items": ["a short one", "a long one, with many words"]}'
"""The body of a selection."""


@contextmanager
def running_suite(settings: Mapping[str, str] | None = None) -> Iterator[Suite]:
    """The suite with quiet logs, gone afterwards with all it wrote."""
    quiet = {"ALIGNX_LOG__ACCESS": "false", **(settings or {})}
    with tempfile.TemporaryDirectory() as home, Suite(Path(home), quiet).running() as suite:
        yield suite


@contextmanager
def running_redis() -> Iterator[str]:
    """The URL of a Redis of its own, gone afterwards with all it held."""
    with tempfile.TemporaryDirectory() as home:
        process = start_redis(Path(home), port := free_port())
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            stop_redis(process)


def fill(url: str, key: str, users: Iterable[str]) -> None:
    """Gives each user a history with a summary."""
    events = {"events": [comparison(number) for number in range(40)]}
    headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=20"}
    for user in users:
        httpx.post(f"{url}/v1/users/{user}/events", json=events, headers=headers, timeout=30).raise_for_status()


def resident_mb(pid: int) -> float:
    """Memory of a process that is not swapped out, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def mock_service(module: str, *arguments: str) -> Iterator[str]:
    """The root URL of a server that starts as `python -m MODULE PORT …`."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", module, str(port), *arguments], cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{url}/health")
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


class Caller:
    """One kept-alive connection with as little client as the standard library allows, so that what
    is timed is the service. Through the gateway with an API key, or at a service as the gateway
    would call it."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.headers = {"Content-Type": "application/json", **headers}

    def __call__(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> float:
        """Seconds of one call; a 4xx or 5xx is an error."""
        start = time.perf_counter()
        self.connection.request(method, path, body, {**self.headers, **(headers or {})})
        answer = self.connection.getresponse()
        answer.read()
        seconds = time.perf_counter() - start
        assert answer.status < 400, answer.status
        return seconds


def callers(suite: Suite, service: str, tenant: str) -> tuple[Caller, Caller]:
    """(through the gateway, directly at the service)."""
    gateway = Caller(suite.ports["gateway"], {"Authorization": f"Bearer {suite.new_key(tenant)}"})
    token = suite.environment["ALIGNX_INTERNAL_TOKEN"]
    return gateway, Caller(suite.ports[service], {"X-AlignX-Internal": token, "X-AlignX-Tenant": tenant})


def by_turns(rounds: int, *calls: Callable[[int], float]) -> list[list[float]]:
    """Seconds of each of the calls, all of them in each round."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds):
        for call, seconds in zip(calls, times, strict=True):
            seconds.append(call(number))
    return times


def post_event(call: Caller) -> Callable[[int], float]:
    """Appends the n-th comparison to one of 20 users."""
    return lambda number: call(
        "POST", f"/v1/users/u{number % 20}/events", orjson.dumps({"events": [comparison(number)]})
    )


def comparison(number: int, size: int = 200) -> dict[str, str]:
    """A comparison of about `size` bytes of text, all different."""
    query = f"Question {number}: how do I keep basil alive?"
    chosen = f"Water it daily, give it light, and cut it often. ({number})"
    filler = "There are many things that one could say about basil, and some of them matter! "
    rejected = (filler * (size // len(filler) + 1))[: max(10, size - len(query) - len(chosen))]
    return {"type": "comparison", "query": query, "chosen": chosen, "rejected": rejected}
