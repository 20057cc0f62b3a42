"""Reading a summary, whole and conditionally, through the gateway and directly by turns; then pages of the list of
100,000 users of one tenant, whom appends for many users have brought."""

import gzip
import time
from collections.abc import Iterator

import orjson
from redis import Redis

from bench.harness import Caller, by_turns, callers, comparison, resident_mb, running_suite
from bench.page import Row, median_ms, percentile
from tests.live.suite import Suite

READS = 500
USERS = 100_000
LINES = 2_000
"""Users of a call."""
PAGE = 100


def measure() -> list[Row]:
    with running_suite() as suite:
        return [*read_summaries(suite), *list_users(suite)]


def read_summaries(suite: Suite) -> list[Row]:
    with suite.client("reads") as client:
        events = {"events": [comparison(number) for number in range(20)]}
        client.post("/v1/users/ada/events", json=events, headers={"Prefer": "wait=20"}).raise_for_status()
        path = "/v1/users/ada/preferences"
        tag = client.get(path).headers["ETag"]
    gateway, service = callers(suite, "preference", "reads")
    through, direct, unchanged = by_turns(
        READS,
        lambda _: gateway("GET", path),
        lambda _: service("GET", path),
        lambda _: gateway("GET", path, headers={"If-None-Match": tag}),
    )
    return [
        Row("read a summary through the gateway, p50", median_ms(through), "ms", "≤ 2"),
        Row("read a summary through the gateway, p99", percentile(through, 0.99) * 1000, "ms"),
        Row("the same directly at the service, p50", median_ms(direct), "ms"),
        Row("gateway / direct", median_ms(through) / median_ms(direct), "ratio"),
        Row("unchanged (304) / whole", median_ms(unchanged) / median_ms(through), "ratio"),
    ]


def list_users(suite: Suite) -> list[Row]:
    gateway, _ = callers(suite, "preference", "crowd")
    started = time.perf_counter()
    for body in bodies():
        gateway("POST", "/v1/events", body, {"Content-Encoding": "gzip"})
    seconds = time.perf_counter() - started
    suite.kill("worker")  # what it does to 100,000 new users is not what is measured
    pid = suite.processes["preference"].pid
    before = resident_mb(pid)
    pages = list(walk(gateway))
    prefixes = [gateway("GET", f"/v1/users?limit={PAGE}&prefix=user-{number % 100:02}") for number in range(READS)]
    with Redis.from_url(suite.redis_url) as redis:
        index = sum(redis.memory_usage(key, samples=0) or 0 for key in redis.scan_iter("pi:*:users:crowd", count=5_000))
    return [
        Row("append for many users, one event each, gzip", USERS / seconds, "users/s"),
        Row(f"list {USERS:,} users, a page of {PAGE} through the gateway, p50", median_ms(pages), "ms", "≤ 5"),
        Row("the same, p99", percentile(pages, 0.99) * 1000, "ms"),
        Row("the first page of a prefix, p50", median_ms(prefixes), "ms", "≤ 5"),
        Row("memory of the service that all pages add", resident_mb(pid) - before, "MiB"),
        Row("Redis's memory of the list, a user", index / USERS, "bytes"),
    ]


def bodies() -> Iterator[bytes]:
    for start in range(0, USERS, LINES):
        lines = [
            {"user": f"user-{number:06}", "events": [{"type": "post", "text": f"I am number {number}."}]}
            for number in range(start, start + LINES)
        ]
        yield gzip.compress(b"\n".join(map(orjson.dumps, lines)), 1)


def walk(gateway: Caller) -> Iterator[float]:
    """Seconds of each page, to the last; the cursor is known: the ids are numbers."""
    for start in range(0, USERS, PAGE):
        after = f"&after=user-{start - 1:06}" if start else ""
        yield gateway("GET", f"/v1/users?limit={PAGE}{after}")
