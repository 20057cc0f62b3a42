"""The same on a Redis Cluster, with two of each service: primaries are killed as well.

    pytest tests/chaos/test_kill_cluster.py -s

Three primaries without replicas hold the users. A primary that is killed comes back with its
append-only file; meanwhile its users' calls answer 503 and those of the others are served.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.chaos import test_kill as chaos
from tests.chaos.mock_engine import MARKER
from tests.live.many import ManySuite
from tests.live.suite import Suite, mock_engine

pytestmark = pytest.mark.live

KILLED = ("worker-0", "preference-0", "primary-0", "primary-1", "primary-2")
AWAY_S = 2.5
"""Longer than the nodes' timeout: the others take note that the primary has failed."""


async def kill_in_turn(suite: Suite, counts: Counter[str]) -> None:
    assert isinstance(suite, ManySuite)
    assert suite.servers
    dice = random.Random(chaos.SEED)
    for name in dice.sample(KILLED, len(KILLED)):
        await asyncio.sleep(chaos.BETWEEN_S * dice.uniform(0.5, 1.0))
        kind, _, number = name.partition("-")
        counts[f"killed {kind}"] += 1
        if kind == "primary":
            await asyncio.to_thread(suite.servers.kill, int(number))
            await asyncio.sleep(AWAY_S)
            await asyncio.to_thread(suite.servers.start, int(number))
            await asyncio.to_thread(suite.servers.wait_ok)
        else:
            await asyncio.to_thread(suite.kill, name, signal.SIGKILL)
            await asyncio.sleep(chaos.DOWN_S)
            suite.start(name)
            await asyncio.to_thread(suite.wait_ready, [name])


def test_nothing_is_lost_on_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    started = time.monotonic()
    with mock_engine(tmp_path, str(chaos.SEED)) as engine:
        suite = ManySuite(tmp_path, chaos.FAST | {"ALIGNX_ENGINE__URL": f"{engine}/v1"}, cluster=True)
        try:
            suite.up()
            asyncio.run(chaos.send(suite, counts, kill_in_turn))
            suite.wait_ready(suite.names)
            with suite.client("chaos") as client:
                summaries = chaos.settle(client)
                seen = httpx.get(f"{engine}/seen").json()
                with capsys.disabled():
                    chaos.report(counts, seen, summaries, time.monotonic() - started)
                assert seen["foreign"] == 0
                for user in range(chaos.USERS):
                    assert chaos.log_of(client, user) == chaos.markers_of(user)
                    assert MARKER.findall(summaries[user]["text"]) == chaos.markers_of(user)
                chaos.check_nothing_remains(suite, client)
            chaos.check_logs(suite)
        finally:
            suite.down()
    assert counts["killed primary"] == 3
