"""The suite at work for the scenario: the preference service over HTTP, updates one by one, a steady engine."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import orjson
from aiohttp import web

from services.preference.queue_records import Claim
from tests.chaos.mock_engine import USAGE, Fault, MockEngine
from tests.contract.declared import check_status
from tests.unit.services.preference.served import Served
from tests.unit.services.preference.working import Bench

ACME, GLOBEX = "acme", "globex"
ADA, BOB, CAROL, DAN, EVE = "ada", "bob {1}:é", "carol", "dan", "eve"


class SteadyEngine(MockEngine):
    """Refuses what says REFUSE, while it is refusing. A summary comes in one piece, and only after `choosing`
    choices and the time to read them, so that what is stored does not depend on how fast a machine is."""

    def __init__(self) -> None:
        super().__init__(self._fault)
        self.refusing, self.choosing = True, 0
        self.written = 0

    def _fault(self, prompt: str) -> Fault:
        return "refused" if self.refusing and "REFUSE" in prompt else ""

    async def _write(
        self, request: web.Request, text: str, finish: str = "stop", *, cut: bool = False
    ) -> web.StreamResponse:
        self.written += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_chunk({"delta": {"content": f"<think>Reply {self.written}: they say a lot.</think>"}}))
        while len(self.choices) < self.choosing:  # noqa: ASYNC110  # they come by another connection
            await asyncio.sleep(0.002)
        for _ in range(20):  # turns of the loop that this engine shares with the worker
            await asyncio.sleep(0.002)
        summary = f"Summary {self.written}: the user likes short answers, plain words and long novels about space."
        await response.write(_chunk({"delta": {"content": summary}}))
        await response.write(_chunk({"delta": {}, "finish_reason": finish}))
        await response.write(b"data: " + orjson.dumps({"choices": [], "usage": USAGE}) + b"\n\ndata: [DONE]\n\n")
        return response


def _chunk(choice: dict[str, Any]) -> bytes:
    whole = {"index": 0, "finish_reason": None, **choice}
    return b"data: " + orjson.dumps({"model": "mock-1", "choices": [whole]}) + b"\n\n"


@dataclass
class Play:
    """The suite at work, and what it has answered."""

    served: Served
    mock: SteadyEngine
    answers: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    """Random texts with what stands for them."""

    @property
    def bench(self) -> Bench:
        return self.served.bench

    async def call(self, method: str, path: str, user: str = ADA, tenant: str = ACME, **options: Any) -> httpx.Response:
        """A request that concerns a user, or one by its whole path; what it answers goes into the text."""
        headers = {"X-AlignX-Tenant": tenant, "X-Request-Id": f"call-{len(self.answers)}"} | options.pop("headers", {})
        url = path if path.startswith("/v1/") else f"/v1/users/{quote(user)}{path}"
        answer = await self.served.http.request(method, url, headers=headers, **options)
        check_status(method, url, answer.status_code)
        tag = f" ETag {answer.headers['etag']}" if "etag" in answer.headers else ""
        self.answers.append(f"{method} {url} -> {answer.status_code}{tag} {answer.text}")
        await _moment()
        return answer

    async def put(self, *events: dict[str, Any], user: str = ADA, tenant: str = ACME, **headers: str) -> None:
        await self.call("POST", "/events", user, tenant, json={"events": events}, headers=headers)

    async def update(self, user: str = ADA, tenant: str = ACME, choosing: int = 0) -> None:
        """An update in which the engine is asked for so many choices."""
        self.mock.choosing = len(self.mock.choices) + choosing
        claim = await self.take(user, tenant)
        ended = await self.bench.updater.run(claim)
        await self.bench.updater.tests.record(claim, ended.test, ended.tested_source)
        self.answers.append(f"update of {user} -> {ended.outcome}")
        await _moment()

    async def take(self, user: str, tenant: str = ACME) -> Claim:
        """The user, who waits, comes first."""
        await _moment()
        keys = self.bench.keys(user, tenant)
        await self.bench.redis.zadd(keys.ready, {keys.member: 0}, xx=True)
        return await self.bench.take(user, tenant)


async def _moment() -> None:
    """No two steps share a millisecond."""
    await asyncio.sleep(0.003)
