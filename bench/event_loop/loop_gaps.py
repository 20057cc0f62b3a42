"""How long one large request keeps a service from answering others: the longest gap of a 1 ms ticker on its loop.

Each body is new: 1,000 short events, 1,000 events of 2 KB, 1,000 candidates, 1,000 items of a catalogue, 1,000 events
that are all invalid. Other processes of the machine do not count: a gap is at most the processor time that the process
took in it, and without the time for which the loop's thread waited for a core. Needs Linux.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any, Final

from fastapi import FastAPI

from bench.harness import Caller, running_redis
from bench.page import ROOT, Row
from services.preference.__main__ import create_preference_app
from services.response.__main__ import create_response_app
from services.server.app import create_server
from services.settings import load_settings
from tests.conftest import free_port

TICK_S: Final = 0.001
ROUNDS: Final = 20
TENANT, TOKEN = "gaps", "t" * 32
MUST_MS: Final = 10
SAID = (
    "I love long walks in the park with my dog",
    "I hate crowded places and loud music",
    "jazz is what I listen to while cooking pasta",
    "please keep your answers short, no emojis",
    "we went to Kyoto by train and stayed for a week",
    "I am vegan, and my brother likes horror films",
)
"""Of which the texts are made."""


# --- the measured process, this module ------------------------------------------------------------


class Ticker:
    """The longest gap (s) between two ticks since `read`."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._schedule = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)

    async def run(self) -> None:
        while True:
            wall, cpu = self._times()
            await asyncio.sleep(TICK_S)
            wall_after, cpu_after = self._times()
            self.longest = max(self.longest, min(wall_after - wall, cpu_after - cpu + TICK_S) - TICK_S)

    def _times(self) -> tuple[float, float]:
        """Seconds: of the clock, less those in which this thread waited for a core; of the process on its cores."""
        waited_ns = int(os.pread(self._schedule, 100, 0).split()[1])
        return time.perf_counter() - waited_ns / 1e9, time.process_time()

    def read(self) -> float:
        longest, self.longest = self.longest, 0.0
        return longest


async def _serve(service: str, port: int) -> None:
    """Serves the service, and its longest gap as /longest-gap."""
    settings = load_settings()
    app: FastAPI = {"preference": create_preference_app, "response": create_response_app}[service](settings)
    ticker = Ticker()

    async def longest_gap() -> float:
        return ticker.read()

    app.add_api_route("/longest-gap", longest_gap)
    ticking = asyncio.create_task(ticker.run())
    await create_server(app, settings, port=port).serve()
    ticking.cancel()


# --- the bodies ----------------------------------------------------------------------------------


def _text(rng: random.Random, size: int) -> str:
    text = f"{rng.getrandbits(32):x}"
    while len(text) < size:
        text += f". {rng.choice(SAID)} {rng.getrandbits(16):x}"
    return text[:size]


def _item(rng: random.Random) -> dict[str, Any]:
    number = rng.randrange(10_000)
    return {"id": f"i{number}", "title": _text(rng, 40), "category": f"kind {number % 20}", "price": number / 100}


def _short(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(("statement", "purchase", "click"))
    if kind == "statement":
        return {"type": kind, "text": _text(rng, 60)}
    if kind == "purchase":
        return {"type": kind, "item": _item(rng)}
    return {"type": kind, "clicked": _item(rng), "shown": [_item(rng) for _ in range(3)]}


def _long(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {"type": "post", "text": _text(rng, 2_000)}
    return {"type": "comparison", "chosen": _text(rng, 1_000), "rejected": _text(rng, 1_000)}


CALLS: Final = {
    "events": ("preference", "POST", "/v1/users/{user}/events"),
    "items": ("preference", "PUT", "/v1/items"),
    "query": ("response", "POST", "/v1/users/{user}/recommend"),
}
"""Service, method and path by the first field of the body."""
Body = Callable[[random.Random], dict[str, Any]]
BODIES: Mapping[str, Body] = {
    "1,000 short events": lambda rng: {"events": [_short(rng) for _ in range(1_000)]},
    "1,000 events of 2 KB": lambda rng: {"events": [_long(rng) for _ in range(1_000)]},
    "1,000 invalid events": lambda rng: {"events": [_short(rng) | {"typo": 1} for _ in range(1_000)]},
    "1,000 items of a catalogue": lambda rng: {"items": [_item(rng) for _ in range(1_000)]},
    "1,000 candidates": lambda rng: {
        "query": "jazz",
        "candidates": [_item(rng) for _ in range(1_000)],
        "k": 1_000,
        "explain": True,
    },
}


# --- the measuring process -----------------------------------------------------------------------


@contextmanager
def running_services() -> Iterator[dict[str, Caller]]:
    """Callers of the services that are measured."""
    with running_redis() as redis_url, ExitStack() as stack:
        environment = os.environ | {
            "ALIGNX_INTERNAL_TOKEN": TOKEN,
            "ALIGNX_REDIS__URL": redis_url,
            "ALIGNX_LOG__ACCESS": "false",
            "ALIGNX_LOG__LEVEL": "WARNING",
        }
        callers: dict[str, Caller] = {}
        for service in ("preference", "response"):
            port = free_port()
            command = [sys.executable, "-m", "bench.event_loop.loop_gaps", service, str(port)]
            process = subprocess.Popen(command, cwd=ROOT, env=environment)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            callers[service] = Caller(
                port, {"Content-Type": "application/json", "X-AlignX-Internal": TOKEN, "X-AlignX-Tenant": TENANT}
            )
            _wait(callers[service])
        yield callers


def _wait(call: Caller) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            call("GET", "/readyz")
        except (OSError, AssertionError):
            call.connection.close()
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("a service does not start")


def ask(callers: Mapping[str, Caller], name: str, number: int) -> float:
    """The longest gap (ms)."""
    document = BODIES[name](random.Random(f"{name} {number}"))
    service, method, path = CALLS[next(iter(document))]
    call, path = callers[service], path.format(user=f"{len(name)}-{number}")
    call.connection.close()  # it may have been idle for longer than a service keeps it
    _longest_gap(call)
    call.connection.request(method, path, json.dumps(document).encode(), call.headers)
    answer = call.connection.getresponse()
    answer.read()
    assert answer.status in (200, 202, 422), answer.status
    return _longest_gap(call)


def _longest_gap(call: Caller) -> float:
    time.sleep(0.01)
    call.connection.request("GET", "/longest-gap")
    return 1000 * float(call.connection.getresponse().read())


def measure() -> list[Row]:
    rows: list[Row] = []
    with running_services() as callers:
        for name in BODIES:
            gaps = [ask(callers, name, number) for number in range(-2, ROUNDS)][2:]  # the first two warm up
            rows.append(Row(f"{name}: longest gap, p50", median(gaps), "ms"))
            rows.append(Row(f"{name}: longest gap, most of {ROUNDS}", max(gaps), "ms", f"≤ {MUST_MS}"))
    return rows


if __name__ == "__main__":
    served, served_port = sys.argv[1:]
    asyncio.run(_serve(served, int(served_port)))
