"""Nothing is lost, doubled or out of order, and no bad text is kept, while the engine fails in every way.

    pytest tests/chaos/test_engine_faults.py -s
    make chaos-long                       # ALIGNX_CHAOS_REFUSED_S: one phase, in which the engine refuses all, as long

200 users append 10 numbered events each while the engine goes through the phases of `plan`: it refuses all requests,
fails, hangs, replies what is no summary, and breaks off. A worker is killed with SIGKILL in the midst. Then the engine
is well, and each user's log, summary, versions and dead letters tell what became of the events.
"""

import asyncio
import itertools
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from tests.chaos.crowd import FAST, Crowd, Sender, check_logs, log_of
from tests.chaos.mock_engine import MARKER, MockEngine, Outage
from tests.conftest import free_port
from tests.live.suite import Suite

pytestmark = pytest.mark.live

CROWD = Crowd(int(os.environ.get("ALIGNX_CHAOS_SEED", "1")), users=200, events=10)
REFUSED_S = float(os.environ.get("ALIGNX_CHAOS_REFUSED_S", "0"))
SETTINGS = FAST | {
    "ALIGNX_ENGINE__BREAKER_COOLDOWN_S": "1",
    "ALIGNX_ENGINE__READ_TIMEOUT_S": "2",
    "ALIGNX_SUMMARY__UPDATE_AGE_S": "1",
    "ALIGNX_SUMMARY__KEEP_VERSIONS": "1000",
}
AS_BEFORE = dict.fromkeys(("worker", "worker-1", "response"), ("ok", "vllm", True))
"""What the processes that send the engine requests know of it, at the end as in the beginning."""
NOTICED_S = 2.0
"""Requests that are under way when a phase begins have ended."""
SETTLED_WITHIN_S = 60.0

BAD_REPLIES = (
    ('{"status": "ok", "items": [1, 2, 3]}', "stop"),
    ("```json\n{}\n```", "stop"),
    ("I'm sorry, but I can't help with that request.", "stop"),
    ("As an AI language model, I cannot write about private persons.", "stop"),
    ("OK.", "stop"),
    ("The user exists.", "stop"),
    ("", "stop"),
    ("<|im_start|>assistant\n<|im_end|><|endoftext|>", "stop"),
    ("[INST] <<SYS>> obey <</SYS>> [/INST]", "stop"),
    ("<think>They say a lot, and so on", "length"),
    ("parenting +1, " * 1_000, "length"),
    ("The user likes short answers. " * 300, "length"),
    ("The user has shown a liking for short answers. They read trains " + "and trains " * 900, "length"),
)


@dataclass
class Phase:
    name: str
    outage: Sequence[Outage]
    seconds: float
    is_refusal: bool = False
    kills: bool = False
    """A worker is killed in its midst."""
    began: float = 0.0
    calls: list[float] = field(default_factory=list)
    """Seconds from the beginning to each request."""


def refuse(status: int) -> list[Outage]:
    return [(status, "This server does not take it")]


def plan() -> list[Phase]:
    if REFUSED_S:
        return [Phase("well", (), 5), Phase("400", refuse(400), REFUSED_S, is_refusal=True, kills=True)]
    refusals = [
        (Phase("well", (), 1.5), Phase(str(status), refuse(status), 3.5, is_refusal=True)) for status in (400, 422, 413)
    ]
    return [
        *itertools.chain(*refusals),
        Phase("500", refuse(500), 2),
        Phase("hang", ("silent",), 2.5, kills=True),
        Phase("well", (), 2),
        Phase("bad replies", BAD_REPLIES, 3),
        Phase("well", (), 2),
        Phase("cut", ("cut",), 2),
    ]


async def go_through(phases: Sequence[Phase], mock: MockEngine, suite: Suite, counts: Counter[str]) -> None:
    for phase in phases:
        before, phase.began = len(mock.calls_at), time.monotonic()
        mock.gate.clear()
        mock.outage = phase.outage
        await asyncio.sleep(phase.seconds / 2)
        if phase.kills:
            await asyncio.to_thread(suite.kill, "worker", signal.SIGKILL)
            suite.start("worker")
            counts["kills"] += 1
        await asyncio.sleep(phase.seconds / 2)
        mock.gate.set()
        phase.calls = [moment - phase.began for moment in mock.calls_at[before:]]
    mock.outage = ()


async def append(sender: Sender, seconds: float) -> None:
    """One user's events, each at a moment of its own."""
    started = time.monotonic()
    moments = sorted(sender.dice.uniform(0, seconds) for _ in range(CROWD.events))
    for marker, moment in zip(CROWD.markers(sender.user), moments, strict=True):
        await asyncio.sleep(started + moment - time.monotonic())
        await sender.send(marker, [{"type": "post", "text": f"I wrote {marker}."}])


async def use(session: aiohttp.ClientSession, counts: Counter[str]) -> None:
    """Reads users and selects for them until this is cancelled."""
    dice = random.Random(CROWD.seed)
    while True:
        await asyncio.sleep(0.1)
        path = f"/v1/users/{CROWD.name(user := dice.randrange(CROWD.users))}"
        async with session.get(f"{path}/preferences") as answer:
            counts[f"read {answer.status}"] += 1
            if answer.status in (404, 503):  # the user has no event yet, or more calls came than this machine serves
                continue
            check_text(user, await answer.json())
        async with session.post(f"{path}/select", json={"items": ["a good one", "another"]}) as answer:
            counts[f"select {answer.status}"] += 1
            assert answer.status == 503 or (await answer.json())["method"] in ("fused", "profile")


async def load(suite: Suite, mock: MockEngine, phases: Sequence[Phase], counts: Counter[str]) -> None:
    headers = {"Authorization": f"Bearer {await asyncio.to_thread(suite.new_key, 'chaos')}"}
    session = aiohttp.ClientSession(suite.url, headers=headers, timeout=aiohttp.ClientTimeout(total=20))
    async with session:
        uses = [asyncio.create_task(use(session, counts)) for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            seconds = sum(phase.seconds for phase in phases)
            for user in range(CROWD.users):
                group.create_task(append(Sender(session, CROWD, user, counts), seconds))
            group.create_task(go_through(phases, mock, suite, counts))
        well = time.monotonic()
        deadline = well + SETTLED_WITHIN_S
        async with asyncio.timeout(SETTLED_WITHIN_S):
            for user in range(CROWD.users):
                while await pending(session, user):  # noqa: ASYNC110  # in another process
                    await asyncio.sleep(0.2)
            counts["settled_ms"] = round(1_000 * (time.monotonic() - well))
        while (known := await asyncio.to_thread(known_engines, suite)) != AS_BEFORE:
            assert time.monotonic() < deadline, known
            await asyncio.sleep(0.2)
        for task in uses:
            task.cancel()
        for ended in await asyncio.gather(*uses, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended


async def pending(session: aiohttp.ClientSession, user: int) -> int:
    async with session.get(f"/v1/users/{CROWD.name(user)}/preferences") as answer:
        return 1 if answer.status == 503 else int((await answer.json())["pending"])


def check_text(user: int, version: dict[str, Any]) -> int:
    """How many events a version holds: the user's first ones, in order, and nothing else."""
    if version["source"] == "profile":
        return 0
    count = len(MARKER.findall(version["text"]))
    assert version["text"] == f"The user has shown {' '.join(CROWD.markers(user)[:count])}.", "a bad text is current"
    assert count
    return count


def check_user(client: httpx.Client, user: int) -> Counter[str]:
    """What became of a user's events; every version that was ever written is read."""
    path = f"/v1/users/{CROWD.name(user)}"
    assert log_of(client, CROWD.name(user)) == CROWD.markers(user)
    versions = client.get(f"{path}/preferences/versions", params={"limit": 100}).json()["versions"]
    assert check_text(user, client.get(f"{path}/preferences").json()) == CROWD.events
    counts = [check_text(user, version) for version in reversed(versions)]
    assert counts == sorted(counts)
    assert (len(versions), counts[-1]) == (versions[0]["version"], CROWD.events)
    assert client.get(f"{path}/dead-letters").json()["events"] == []
    rejected = client.get(f"{path}/preferences/rejected").json()["drafts"]
    return Counter(events=CROWD.events, versions=len(versions), rejected=len(rejected))


def check_calls(phases: Sequence[Phase]) -> None:
    """An engine that refuses all gets at most one request a second from each process, beside two of each that can lie
    at the ends of the time that is looked at."""
    for phase in phases:
        if phase.is_refusal:
            late = [seconds for seconds in phase.calls if seconds > NOTICED_S]
            assert len(late) <= len(AS_BEFORE) * (phase.seconds - NOTICED_S + 2), phase.name


def known_engines(suite: Suite) -> dict[str, tuple[str, str, bool]]:
    """What each process knows of the engine."""
    engines = {name: httpx.get(f"http://127.0.0.1:{suite.ports[name]}/readyz").json()["engine"] for name in AS_BEFORE}
    return {name: (engine["state"], engine["dialect"], engine["letters"]) for name, engine in engines.items()}


def report(phases: Sequence[Phase], counts: Counter[str], kept: Counter[str], seconds: float) -> None:
    calls = ", ".join(f"{phase.name} {len(phase.calls)} in {phase.seconds:g} s" for phase in phases)
    lines = (
        f"seed {CROWD.seed}: {kept['events']} events of {CROWD.users} users in {seconds:.0f} s, 0 lost, 0 doubled, "
        "0 dead letters",
        f"engine calls: {calls}; worker killed {counts.pop('kills')}",
        f"all summaries are whole {counts.pop('settled_ms') / 1_000:.1f} s after the engine is well",
        f"versions {kept['versions']}, none of them bad; rejected drafts {kept['rejected']}",
        f"clients saw {dict(sorted(counts.items()))}",
    )
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


async def go(suite: Suite, mock: MockEngine, phases: Sequence[Phase], counts: Counter[str]) -> Counter[str]:
    async with mock.serving() as engine:
        suite.environment |= {"ALIGNX_ENGINE__URL": engine, "ALIGNX_ENGINE__CHOOSE": "letters"}
        suite.ports["worker-1"] = free_port()
        await asyncio.to_thread(suite.up)
        suite.start("worker-1")
        await asyncio.to_thread(suite.wait_ready, ["worker-1"])
        await load(suite, mock, phases, counts)
        assert min(counts["read 200"], counts["select 200"]) > 0
        return await asyncio.to_thread(check_users, suite)


def check_users(suite: Suite) -> Counter[str]:
    with suite.client("chaos") as client:
        return sum((check_user(client, user) for user in range(CROWD.users)), Counter[str]())


def test_an_engine_that_fails_in_every_way_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phases, counts, started = plan(), Counter[str](), time.monotonic()
    suite = Suite(tmp_path, SETTINGS)
    try:
        kept = asyncio.run(go(suite, MockEngine(), phases, counts))
        with capsys.disabled():
            report(phases, counts, kept, time.monotonic() - started)
        check_calls(phases)
        check_logs(suite)
    finally:
        suite.down()
