"""The replicas of each service, and which of them are asked first.

A service has one URL or several, set off by commas. Requests go round those that are fit. A replica
that refuses a connection or says that it shuts down is passed over; nothing has happened then, so the
next one is asked, whatever the method. After a connection that breaks only reading is asked for again.
While a service has several, each is asked for its readiness every `replica_check_s`, so that one that
drains is left before it closes its door, and one that is back is asked again. A name with several
addresses is one URL; the HTTP client tries each address.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from gateway.routing import SERVICES, Service
from services.settings import GatewaySettings

NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""The service has seen nothing of the request."""
SEVERED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
"""The connection broke before an answer: the service may have done the request, or not."""


@dataclass(slots=True)
class Replica:
    url: str
    fit: bool = True


class Upstreams:
    """Where the requests to each service go."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._every_s = settings.replica_check_s
        self._replicas = {
            "preference": [Replica(url) for url in settings.preference_urls],
            "response": [Replica(url) for url in settings.response_urls],
        }
        self._turn: dict[Service, int] = dict.fromkeys(SERVICES, 0)

    def order(self, service: Service) -> list[Replica]:
        """Whom to ask, one after the other; the same one twice where it is the only one, since a name
        may stand for many."""
        replicas = self._replicas[service]
        if len(replicas) == 1:
            return replicas * 2
        turn = self._turn[service] = (self._turn[service] + 1) % len(replicas)
        return sorted([*replicas[turn:], *replicas[:turn]], key=lambda replica: not replica.fit)

    def urls(self) -> Mapping[Service, list[str]]:
        return {service: [replica.url for replica in self._replicas[service]] for service in SERVICES}

    async def watch(self, session: aiohttp.ClientSession) -> None:
        """Keeps `fit` up to date, until it is cancelled."""
        watched = [replica for replicas in self._replicas.values() if len(replicas) > 1 for replica in replicas]
        async with asyncio.TaskGroup() as looks:  # one that hangs does not hold up the look at the others
            for replica in watched:
                looks.create_task(self._watch(session, replica))

    async def _watch(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        while True:
            replica.fit = bool(await readiness(session, replica.url, timeout_s=max(1.0, self._every_s)))
            await asyncio.sleep(self._every_s)


async def readiness(session: aiohttp.ClientSession, url: str, *, timeout_s: float) -> bool | None:
    """Whether a service's /readyz says that it is ready; None when nothing answers."""
    try:
        async with session.get(f"{url}/readyz", timeout=aiohttp.ClientTimeout(total=timeout_s)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return None
