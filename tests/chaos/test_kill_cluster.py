"""The same on a Redis Cluster, with two of each service: primaries are killed as well.

    pytest tests/chaos/test_kill_cluster.py -s

Three primaries without replicas hold the users. A primary that is killed comes back with its
append-only file; meanwhile its users' calls answer 503 and those of the others are served.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos import crowd as people
from tests.chaos.crowd import Crowd
from tests.live.many import ManySuite
from tests.live.suite import Suite, mock_engine

pytestmark = pytest.mark.live

CROWD = Crowd(int(os.environ.get("ALIGNX_CHAOS_SEED", "1")))
KILLED = ("worker-0", "preference-0", "primary-0", "primary-1", "primary-2")
AWAY_S = 2.5
"""Longer than the nodes' timeout: the others take note that the primary has failed."""


async def kill_in_turn(suite: Suite, counts: Counter[str]) -> None:
    assert isinstance(suite, ManySuite)
    assert suite.servers
    dice = random.Random(CROWD.seed)
    for name in dice.sample(KILLED, len(KILLED)):
        await asyncio.sleep(dice.uniform(1.0, 2.0))
        kind, _, number = name.partition("-")
        counts[f"fault {kind} killed"] += 1
        if kind == "primary":
            await asyncio.to_thread(suite.servers.kill, int(number))
            await asyncio.sleep(AWAY_S)
            await asyncio.to_thread(suite.servers.start, int(number))
            await asyncio.to_thread(suite.servers.wait_ok)
        else:
            await asyncio.to_thread(suite.kill, name, signal.SIGKILL)
            await asyncio.sleep(0.4)
            suite.start(name)
            await asyncio.to_thread(suite.wait_ready, [name])


def test_nothing_is_lost_on_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts, started = Counter[str](), time.monotonic()
    with mock_engine(tmp_path, str(CROWD.seed)) as engine:
        settings = people.FAST | {"ALIGNX_ENGINE__URL": f"{engine}/v1"}
        suite = ManySuite(tmp_path, settings, cluster=True, silence_ms=1500)
        with suite.running(), capsys.disabled():
            asyncio.run(people.send(suite, CROWD, counts, kill_in_turn))
            suite.wait_ready(suite.names)
            people.check_all(suite, engine, CROWD, counts, started)
    assert counts["fault primary killed"] == 3
