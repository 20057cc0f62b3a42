import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.engine.client import open_session
from services.engine.limits import Engine
from services.settings import EngineSettings
from tests.unit.services.engine.fake_engine import Calls, FakeEngine

FAKE = "the fake engine"
"""Stands for its URL in the settings."""


@pytest.fixture
def settings() -> dict[str, Any]:
    """What differs from the defaults; see `with_settings`."""
    return {}


@pytest.fixture
def calls() -> Calls:
    """The engine's calls that have ended."""
    return []


@pytest.fixture
async def fake() -> AsyncIterator[FakeEngine]:
    fake = FakeEngine()
    async with fake.serving():
        yield fake


@pytest.fixture
async def engine(fake: FakeEngine, calls: Calls, settings: dict[str, Any]) -> AsyncIterator[Engine]:
    fields = {name: fake.url if value == FAKE else value for name, value in {"url": FAKE, **settings}.items()}
    async with asyncio.timeout(60), open_session() as session:  # no canary before a refusal
        yield Engine(EngineSettings(**fields), session, calls.append)
