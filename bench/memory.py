"""Memory: each process when idle, and Redis for a user of 20 events of 200 bytes with a summary.

The pair is the user's bare text: 20 events as JSON. What is above it is the price of the log's
order, the profile, the versions and the queue. The summary is the fast profile's; an engine's longer
text and its reasoning are kept besides, for each of the versions kept.
"""

import orjson
from redis import Redis

from bench.harness import comparison, resident_mb, running_suite
from bench.page import Row
from tests.live.suite import SERVICES

USERS = 300
EVENTS = 20


def measure() -> list[Row]:
    rows: list[Row] = []
    with running_suite() as suite, suite.client("memory") as client, Redis.from_url(suite.redis_url) as redis:
        for name in SERVICES:
            rows.append(Row(f"{name} when idle", resident_mb(suite.processes[name].pid), "MB resident", "≤ 150"))
        events = [comparison(number, size=200 - 60) for number in range(EVENTS)]
        text = sum(len(orjson.dumps(event)) for event in events)
        client.post("/v1/users/warm/events", json={"events": events}, headers={"Prefer": "wait=10"}).raise_for_status()
        before = int(redis.info("memory")["used_memory"])
        for number in range(USERS):
            client.post(f"/v1/users/user-{number}/events", json={"events": events}).raise_for_status()
        client.post(f"/v1/users/user-{USERS - 1}/events", json={"events": events[:1]}, headers={"Prefer": "wait=20"})
        # A live stream goes by itself a minute after the update; it is no part of what stays.
        live = redis.keys("*:live")
        if live:
            redis.delete(*live)
        used = (int(redis.info("memory")["used_memory"]) - before) / USERS
    rows.append(Row(f"Redis for a user of {EVENTS} events of {text // EVENTS} bytes", used / 1024, "KB", "≤ 12"))
    rows.append(Row("Redis / bare JSON of the events", used / text, "ratio"))
    return rows
