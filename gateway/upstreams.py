"""The replicas of each service, and which of them are asked first.

A service has one URL or several, separated by commas. Requests go round robin to the healthy replicas. A
replica that refuses a connection or is shutting down is skipped: nothing has happened, so the next one gets the
request, whatever the method. After a broken connection only GET and HEAD are repeated. A host name with several
addresses is one URL; the HTTP client tries each address.

Each replica is asked every `replica_check_s` whether it runs. One that hangs, which takes connections and answers
nothing for `hung_after_s`, gets no requests until it answers again, and those that wait for it end: a caller is not
to wait for minutes for what will not come, nor to hold a connection. Of several replicas each is polled for its
readiness too, so that requests leave one that drains before it closes its listener.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import aiohttp
from pydantic import ValidationError

from alignx.schemas.status import Readiness
from gateway.routing import SERVICES, Service
from services.settings import GatewaySettings

_LOOKS: Final = 3
"""Looks in a row without an answer after which a replica hangs."""


class ReplicaHung(aiohttp.ClientConnectionError):
    """The replica takes connections and does not answer."""


NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""The service has seen nothing of the request."""
SEVERED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ReplicaHung)
"""The connection broke before an answer: the service may have done the request, or not."""


@dataclass(slots=True)
class Replica:
    url: str
    is_healthy: bool = True
    is_hung: bool = False
    waiting: set["asyncio.Task[object]"] = field(default_factory=set)
    """Requests that have no answer yet."""

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Around a request, until its answer begins. Raises ReplicaHung once the replica hangs."""
        if self.is_hung:
            raise ReplicaHung
        task = asyncio.current_task()
        assert task is not None
        self.waiting.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task in self.waiting or task.uncancel():
                raise
            raise ReplicaHung from None
        finally:
            self.waiting.discard(task)

    def hang(self) -> None:
        self.is_hung, self.is_healthy = True, False
        while self.waiting:
            self.waiting.pop().cancel()

    def recover(self, *, alone: bool) -> None:
        """`alone`: nothing else says whether it is healthy."""
        self.is_healthy = self.is_healthy or (self.is_hung and alone)
        self.is_hung = False


class Upstreams:
    """The replicas of all services."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._every_s = settings.replica_check_s
        self._look_s = settings.hung_after_s / _LOOKS
        self._replicas = {
            "preference": [Replica(url) for url in settings.preference_urls],
            "response": [Replica(url) for url in settings.response_urls],
        }
        self._turn: dict[Service, int] = dict.fromkeys(SERVICES, 0)

    def order(self, service: Service) -> list[Replica]:
        """The replicas to try, in order. The only replica of a service stands twice, since its host name may
        have several addresses."""
        replicas = self._replicas[service]
        if len(replicas) == 1:
            return replicas * 2
        turn = self._turn[service] = (self._turn[service] + 1) % len(replicas)
        return sorted([*replicas[turn:], *replicas[:turn]], key=lambda replica: not replica.is_healthy)

    def urls(self) -> Mapping[Service, list[str]]:
        return {service: [replica.url for replica in self._replicas[service]] for service in SERVICES}

    async def watch(self, session: aiohttp.ClientSession) -> None:
        """Updates `is_healthy` and `is_hung` until it is cancelled."""
        async with asyncio.TaskGroup() as looks:  # one that hangs does not hold up the look at the others
            for replicas in self._replicas.values():
                for replica in replicas:
                    looks.create_task(self._watch_life(session, replica, alone=len(replicas) == 1))
                    if len(replicas) > 1:
                        looks.create_task(self._watch_readiness(session, replica))

    async def _watch_life(self, session: aiohttp.ClientSession, replica: Replica, *, alone: bool) -> None:
        silent = 0
        while True:
            silent = 0 if await responds(session, replica.url, timeout_s=self._look_s) else silent + 1
            if not silent:
                replica.recover(alone=alone)
            elif silent == _LOOKS:
                replica.hang()
            await asyncio.sleep(0 if silent else self._every_s)

    async def _watch_readiness(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        while True:
            answer = await readiness(session, replica.url, timeout_s=max(1.0, self._every_s))
            replica.is_healthy = answer is not None and answer.status == "ready"
            await asyncio.sleep(self._every_s)


async def responds(session: aiohttp.ClientSession, url: str, *, timeout_s: float) -> bool:
    """False for a service that is silent; one that is away refuses connections, and is not."""
    try:
        async with session.get(f"{url}/livez", timeout=aiohttp.ClientTimeout(total=timeout_s)):
            return True
    except TimeoutError:
        return False
    except (aiohttp.ClientError, OSError):
        return True


async def readiness(session: aiohttp.ClientSession, url: str, *, timeout_s: float) -> Readiness | None:
    """What a service's /readyz says; None when nothing answers."""
    try:
        async with session.get(f"{url}/readyz", timeout=aiohttp.ClientTimeout(total=timeout_s)) as answer:
            body = await answer.read() if answer.content_type == "application/json" else b""
            return parse_readiness(answer.status, body)
    except (aiohttp.ClientError, OSError):
        return None


def parse_readiness(status: int, body: bytes) -> Readiness:
    """The status decides: a body of another release may not be readable."""
    state: Literal["ready", "not_ready"] = "ready" if status == 200 else "not_ready"
    try:
        return Readiness.model_validate_json(body).model_copy(update={"status": state})
    except ValidationError:
        return Readiness(status=state, checks={})
