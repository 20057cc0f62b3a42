"""How many calls a second a suite serves, and what happens beyond.

    python -m bench.run knee

Half of the calls read, a quarter select, a quarter append one event, over 200 users of four tenants, at given times
whether earlier ones are answered or not. The rate rises until less than 98 % are served; the knee is the last rate
before. Then twice the knee is offered. All processes, the generator at low priority among them, share the machine;
times count from when a call was sent, and how late the generator sent it is a figure of its own.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from tempfile import TemporaryFile

from bench.harness import AS_SHIPPED, SELECT, comparison, fill, resident_mb, running_suite
from bench.page import Row, percentile
from bench.traffic.open_loop import Outcome, Request, call_at_rate
from tests.live.suite import Suite

SECONDS = 8.0
RATES = (100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 1_000, 1_200)
USERS = 50
"""Of each tenant."""


@dataclass(frozen=True)
class Step:
    """What was offered for `SECONDS`, and what came of it."""

    offered: float
    """Calls a second; so is `served`."""
    served: float
    p50_ms: float
    p99_ms: float
    refusal_ms: float
    """99th percentile of the refusals."""
    failed: int
    """Calls that got no answer."""
    memory_mb: float
    """Of the gateway, at its largest."""
    late_ms: float
    """99th percentile of how late the generator sent a call."""


def measure() -> list[Row]:
    with running_suite(AS_SHIPPED) as suite:
        keys = new_tenants(suite)
        step(suite, keys, 100)  # warm
        steps = list(climb(suite, keys))
        knee = max((one for one in steps if is_served(one)), key=lambda one: one.offered)
        peak = max(one.served for one in steps)
        beyond = step(suite, keys, 2 * knee.offered)
    return [
        Row("the knee", knee.offered, "calls/s"),
        Row("there: median", knee.p50_ms, "ms"),
        Row("there: 99th percentile", knee.p99_ms, "ms"),
        Row("most that was served", peak, "calls/s"),
        Row("at twice the knee: served of the most", 100 * beyond.served / peak, "%", "at least 80 %"),
        Row("at twice the knee: 99th percentile of what was served", beyond.p99_ms, "ms", "at most 300 ms"),
        Row("at twice the knee: 99th percentile of refusals", beyond.refusal_ms, "ms", "at most 20 ms"),
        Row("at twice the knee: calls without an answer", beyond.failed, "", "0"),
        Row("the generator's own lag at the knee, 99th percentile", knee.late_ms, "ms"),
        Row("the generator's own lag at twice the knee, 99th percentile", beyond.late_ms, "ms"),
        Row("the gateway's memory at the knee", knee.memory_mb, "MB"),
        Row("the gateway's memory at twice the knee", beyond.memory_mb, "MB"),
    ]


def new_tenants(suite: Suite) -> list[str]:
    """The key of each tenant, whose users have histories."""
    keys = [suite.new_key(f"tenant{number}", rate=100_000, burst=100_000) for number in range(4)]
    for key in keys:
        fill(suite.url, key, (f"u{user}" for user in range(USERS)))
    return keys


def climb(suite: Suite, keys: list[str]) -> Iterator[Step]:
    """Steps of rising rates, two beyond the first that is not served."""
    left = 3
    for rate in RATES:
        yield (one := step(suite, keys, rate))
        left -= not is_served(one)
        if not left:
            return


def is_served(one: Step) -> bool:
    return one.served >= 0.98 * one.offered


def step(suite: Suite, keys: list[str], rate: float) -> Step:
    """Offers a rate for `SECONDS`; the generator is a process of its own, this module."""
    command = ["nice", "-n", "5", sys.executable, "-m", "bench.traffic.knee", suite.url, str(rate), *keys]
    most = 0.0
    with TemporaryFile("w+") as answers:  # a pipe would fill up before the generator has ended
        generator = subprocess.Popen(command, stdout=answers, text=True)
        while generator.poll() is None:
            most = max(most, resident_mb(suite.processes["gateway"].pid))
            time.sleep(0.1)
        answers.seek(0)
        outcome = Outcome(**json.load(answers))
    refused, admitted = outcome.refused, outcome.admitted
    found = Step(
        offered=rate,
        served=len(admitted) / SECONDS,
        p50_ms=percentile(admitted, 0.5) * 1e3,
        p99_ms=percentile(admitted, 0.99) * 1e3,
        refusal_ms=percentile(refused, 0.99) * 1e3 if refused else 0.0,
        failed=outcome.statuses.total() - len(admitted) - len(refused),
        memory_mb=most,
        late_ms=percentile(outcome.late, 0.99) * 1e3,
    )
    print(found, dict(outcome.statuses), flush=True)
    time.sleep(2.0)
    return found


def offer(url: str, rate: float, keys: list[str]) -> Outcome:
    """Calls of all tenants by turns."""

    def request(number: int) -> Request:
        user = f"/v1/users/u{number * 7 % USERS}"
        match number // len(keys) % 4:
            case 0 | 2:
                return Request("GET", f"{user}/preferences")
            case 1:
                return Request("POST", f"{user}/select", SELECT)
        return Request("POST", f"{user}/events", json.dumps({"events": [comparison(number)]}).encode())

    return asyncio.run(call_at_rate(url, keys, request, rate=rate, seconds=SECONDS))


if __name__ == "__main__":
    address, per_second, *all_keys = sys.argv[1:]
    print(json.dumps(asdict(offer(address, float(per_second), all_keys))))
