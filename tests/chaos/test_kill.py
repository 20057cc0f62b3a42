"""Nothing is lost, doubled or out of order under a seed of faults: the part of the campaign that each test run has.

    pytest tests/chaos/test_kill.py -s               # ALIGNX_CHAOS_SEED picks another run

100 users send 5,000 events through the gateway, each call with an Idempotency-Key and tried again until it is accepted
(crowd.py), while processes are killed and stopped and Redis fails in its ways (campaign.py).
"""

import os
from pathlib import Path

import pytest

from tests.chaos import campaign
from tests.chaos.crowd import FAST, Crowd
from tests.live.suite import Suite, mock_engine

pytestmark = pytest.mark.live

SEED = int(os.environ.get("ALIGNX_CHAOS_SEED", "1"))


def test_nothing_is_lost_doubled_or_out_of_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mock_engine(tmp_path, str(SEED)) as engine:
        suite = Suite(tmp_path, FAST | {"ALIGNX_ENGINE__URL": f"{engine}/v1"})
        with suite.running(), capsys.disabled():
            counts = campaign.run_seed(suite, engine, Crowd(SEED))
    for name in ("worker", "preference", "redis"):
        assert counts[f"fault {name} killed"] >= 1
        assert counts[f"fault {name} stopped"] >= 1
