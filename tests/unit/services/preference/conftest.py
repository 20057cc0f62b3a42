"""What most tests of the preference service begin with; a test with settings of its own opens it itself."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.chaos.mock_engine import MockEngine
from tests.unit.services.preference.rig import OwnRedis, Rig, opened
from tests.unit.services.preference.served import Served, serving
from tests.unit.services.preference.working import Bench, benched


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with opened(redis_url) as rig:
        yield rig


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    own = OwnRedis(tmp_path)
    yield own
    own.process.send_signal(signal.SIGCONT)
    own.stop()


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    async with benched(redis_url, MockEngine()) as bench:
        yield bench


@pytest.fixture
async def served(redis_url: str) -> AsyncIterator[Served]:
    """Nobody writes summaries."""
    async with serving(redis_url) as served:
        yield served


@pytest.fixture
async def plain_suite(redis_url: str) -> AsyncIterator[Served]:
    """With a worker, and no engine."""
    async with serving(redis_url, work=True) as served:
        yield served


@pytest.fixture
async def suite(redis_url: str) -> AsyncIterator[Served]:
    """With a worker and an engine."""
    async with serving(redis_url, MockEngine(), work=True) as served:
        yield served
