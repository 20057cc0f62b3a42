"""The preference service's HTTP with a worker beside it, both in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import httpx

from services.preference.__main__ import create_preference_app
from services.server.app import TENANT_HEADER, TOKEN_HEADER
from tests.chaos.mock_engine import MockEngine
from tests.contract.declared import problems_watched
from tests.unit.services.preference.rig import TENANT
from tests.unit.services.preference.working import Bench, benched, until

EVENTS = "/v1/users/ada/events"
PREFERENCES = "/v1/users/ada/preferences"


@dataclass(frozen=True)
class Served:
    http: httpx.AsyncClient
    bench: Bench

    async def put(self, *texts: str, user: str = "ada", **headers: str) -> httpx.Response:
        events = [{"type": "statement", "text": text} for text in texts]
        return await self.http.post(f"/v1/users/{user}/events", json={"events": events}, headers=headers)

    async def learn(self, *texts: str, user: str = "ada") -> dict[str, Any]:
        """Appends and waits for the version; needs a worker."""
        answer = await self.put(*texts, user=user, Prefer="wait=30")
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def set_aside(self, *texts: str) -> None:
        """Appends events that each become a dead letter; needs a worker."""
        for text in texts:
            await self.bench.redis.hset(self.bench.keys().state, "suspect", "1")
            await self.put(text)
            await until(self._settled)

    async def _settled(self) -> bool:
        return (await self.bench.store.state(TENANT, "ada")).pending == 0


@asynccontextmanager
async def serving(
    url: str, mock: MockEngine | None = None, *, work: bool = False, **blocks: dict[str, Any]
) -> AsyncIterator[Served]:
    """`work` starts a worker; `mock=None` is a deployment without an engine."""
    async with benched(url, mock, **{"queue": {"poll_ms": 2}, **blocks}) as bench:
        app = create_preference_app(bench.settings)
        headers = {TOKEN_HEADER: bench.settings.internal_token.get_secret_value(), TENANT_HEADER: TENANT}
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://preference", headers=headers)
        async with app.router.lifespan_context(app), client, bench.at_work() if work else nullcontext():
            with problems_watched():
                yield Served(client, bench)
