"""What bench/scale.py stands on: its simulation against a real suite, and CPU time of each service.

    python -m bench.run scale

The same events at the same times go to a real suite, whose engine is a mock that answers after 200 ms,
and into the simulation; events of one update and the mean delay from event to summary are compared.
The CPU time that each process and Redis used meanwhile, by what they did, is the price list of
docs/capacity.md. Answers have 300 tokens, each streamed as a piece of its own; Redis writes its file
before it answers (appendfsync always), which is the dearest way.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
import httpx
from redis import Redis

from bench.harness import comparison, mock_engine, running_suite
from bench.result import Row
from bench.simulation import Policy, Simulation, Traffic, arrivals
from tests.live.suite import SERVICES, Suite

TRAFFIC = Traffic(users=400, visit_events=6, gap_s=0.4)
EVENTS_PER_S = 40.0
SECONDS = 20.0
LATENCY_S = 0.2
REPLY_TOKENS = 300
TENANT_IN_FLIGHT = 1_000
"""More than there ever are: all users are one tenant's, and the simulation knows no limit of a tenant."""
CHATS = 100
READS = 400
IDLE_S = 3.0
SEED = 7
TICKS = os.sysconf("SC_CLK_TCK")

Cpu = dict[str, float]
"""Seconds of CPU by process."""


def measure() -> list[Row]:
    events = arrivals(TRAFFIC, EVENTS_PER_S, SECONDS, random.Random(SEED))
    with mock_engine(LATENCY_S, REPLY_TOKENS) as engine:
        settings = {"ALIGNX_ENGINE__URL": f"{engine}/v1", "ALIGNX_QUEUE__TENANT_IN_FLIGHT": str(TENANT_IN_FLIGHT)}
        with running_suite(settings) as suite, Redis.from_url(suite.redis_url) as redis:
            key = suite.new_key("scale")
            asyncio.run(_replay(suite, key, events[:20]))  # connections, caches, first imports
            before = _worker(suite)
            looked = _commands(redis)
            _, idle = _timed(suite, lambda: time.sleep(IDLE_S))
            commands = _commands(redis)
            looks_per_s = (commands - looked) / IDLE_S
            took, cpu = _timed(suite, lambda: asyncio.run(_replay(suite, key, events)))
            after = _worker(suite)
            commands = int(_commands(redis) - commands - looks_per_s * took)
            cpu = {name: cpu[name] - idle[name] / IDLE_S * took for name in cpu}
            _, chat = _timed(suite, lambda: asyncio.run(_chat(suite, key)))
            _, read = _timed(suite, lambda: asyncio.run(_read(suite, key)))
    real = {name: after[name] - before[name] for name in after}
    updates = real["alignx_update_events_count"]
    service_s = real["alignx_update_duration_seconds_sum"] / updates
    simulated = Simulation(Policy(), service_s, random.Random(SEED)).run(events)
    coalescing = real["alignx_update_events_sum"] / updates
    delay = real["alignx_event_to_summary_seconds_sum"] / real["alignx_event_to_summary_seconds_count"]
    guess = sum(simulated.delays) / len(simulated.delays)
    return [
        Row("events sent", len(events), "events"),
        Row("events of one update, real", coalescing, "events"),
        Row("events of one update, simulated", simulated.coalescing, "events"),
        Row("events of one update, simulated / real", simulated.coalescing / coalescing, "ratio", "0.9 to 1.1"),
        Row("mean delay from event to summary, real", delay, "s"),
        Row("mean delay from event to summary, simulated", guess, "s"),
        Row("mean delay from event to summary, simulated / real", guess / delay, "ratio", "0.85 to 1.15"),
        Row("an update besides the engine's 200 ms", (service_s - LATENCY_S) * 1000, "ms"),
        *_costs(cpu, chat, read, len(events), updates),
        Row("Redis commands an event, its update included", commands / len(events), "commands"),
        Row("Redis commands of a worker that looks for work", looks_per_s, "commands/s"),
        Row("CPU of Redis for a worker that looks for work", idle["redis"] / IDLE_S * 1000, "ms/s"),
    ]


def _costs(cpu: Cpu, chat: Cpu, read: Cpu, events: int, updates: float) -> list[Row]:
    prices = [
        ("CPU of the gateway a call with one event", cpu["gateway"] / events),
        ("CPU of the preference service a call with one event", cpu["preference"] / events),
        ("CPU of a worker an update of 300 tokens", cpu["worker"] / updates),
        ("CPU of Redis an event, its update included", cpu["redis"] / events),
        ("CPU of the gateway a streamed chat of 300 tokens", chat["gateway"] / CHATS),
        ("CPU of the response service a streamed chat of 300 tokens", chat["response"] / CHATS),
        ("CPU of the gateway a read of a summary", read["gateway"] / READS),
        ("CPU of the preference service a read of a summary", read["preference"] / READS),
    ]
    return [Row(figure, seconds * 1000, "ms") for figure, seconds in prices]


async def _replay(suite: Suite, key: str, events: Sequence[tuple[float, int]]) -> None:
    """Every event at its time, then a while for the last updates."""
    connector = aiohttp.TCPConnector(limit=64)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session, asyncio.TaskGroup() as calls:
        start = time.monotonic()
        for number, (at, user) in enumerate(events):
            await asyncio.sleep(max(0.0, start + at - time.monotonic()))
            calls.create_task(_post(session, f"{suite.url}/v1/users/u{user}/events", number))
    await asyncio.sleep(3.0)


async def _post(session: aiohttp.ClientSession, url: str, number: int) -> None:
    async with session.post(url, json={"events": [comparison(number)]}) as answer:
        answer.raise_for_status()


async def _chat(suite: Suite, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for number in range(CHATS):
            asked = {"model": "mock", "user": f"u{number % 20}", "stream": True}
            asked |= {"messages": [{"role": "user", "content": "How do I keep basil alive?"}]}
            async with session.post(f"{suite.url}/v1/chat/completions", json=asked) as answer:
                answer.raise_for_status()
                await answer.read()


async def _read(suite: Suite, key: str) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for number in range(READS):
            async with session.get(f"{suite.url}/v1/users/u{number % 20}/preferences") as answer:
                await answer.read()


def _worker(suite: Suite) -> dict[str, float]:
    """Sums and counts of the worker's histograms."""
    text = httpx.get(f"http://127.0.0.1:{suite.ports['worker']}/metrics").text
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in rows if name.endswith(("_sum", "_count")) and "{" not in name}


def _commands(redis: Redis) -> int:
    return int(redis.info("stats")["total_commands_processed"])


def _timed(suite: Suite, work: Callable[[], None]) -> tuple[float, Cpu]:
    """(seconds, CPU of each process) of the work."""
    before, start = _cpu(suite), time.monotonic()
    work()
    after = _cpu(suite)
    return time.monotonic() - start, {name: after[name] - before[name] for name in after}


def _cpu(suite: Suite) -> Cpu:
    services = {name: _process_cpu(suite.processes[name].pid) for name in SERVICES}
    with Redis.from_url(suite.redis_url) as redis:  # by its own count, which is finer than the kernel's
        used = redis.info("cpu")
    return services | {"redis": used["used_cpu_user"] + used["used_cpu_sys"]}


def _process_cpu(pid: int) -> float:
    fields: Sequence[str] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
