"""The replicas of each service, and which of them are asked first.

A service has one URL or several, separated by commas. Requests go round robin to the healthy replicas. A
replica that refuses a connection or is shutting down is skipped: nothing has happened, so the next one gets the
request, whatever the method. After a broken connection only GET and HEAD are repeated. Each of several replicas
is polled for its readiness every `replica_check_s`, so that requests leave one that drains before it closes its
listener, and return to one that is back. A host name with several addresses is one URL; the HTTP client tries
each address.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp
from pydantic import ValidationError

from alignx.schemas.status import Readiness
from gateway.routing import SERVICES, Service
from services.settings import GatewaySettings

NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""The service has seen nothing of the request."""
SEVERED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
"""The connection broke before an answer: the service may have done the request, or not."""


@dataclass(slots=True)
class Replica:
    url: str
    is_healthy: bool = True


class Upstreams:
    """The replicas of all services."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._every_s = settings.replica_check_s
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
        """Updates `is_healthy` until it is cancelled."""
        watched = [replica for replicas in self._replicas.values() if len(replicas) > 1 for replica in replicas]
        async with asyncio.TaskGroup() as looks:  # one that hangs does not hold up the look at the others
            for replica in watched:
                looks.create_task(self._watch(session, replica))

    async def _watch(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        while True:
            answer = await readiness(session, replica.url, timeout_s=max(1.0, self._every_s))
            replica.is_healthy = answer is not None and answer.status == "ready"
            await asyncio.sleep(self._every_s)


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
