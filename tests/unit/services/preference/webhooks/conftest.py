from collections.abc import AsyncIterator

import pytest

from tests.unit.services.preference.webhooks.receiving import Receiver, Sending, receiving, sending


@pytest.fixture
async def out(redis_url: str) -> AsyncIterator[Sending]:
    async with sending(redis_url) as out:
        yield out


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver
