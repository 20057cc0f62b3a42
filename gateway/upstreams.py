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
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import aiohttp
from pydantic import ValidationError

from alignx.schemas.status import Readiness
from gateway.liveness import Hung, Watched
from gateway.routing import SERVICES, Service
from services.settings import GatewaySettings

NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""The service has seen nothing of the request."""
SEVERED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, Hung)
"""The connection broke before an answer: the service may have done the request, or not."""


@asynccontextmanager
async def open_session(settings: GatewaySettings) -> AsyncIterator[aiohttp.ClientSession]:
    """The HTTP client towards the services: no cookies, no redirects, no decoding, no second attempts."""
    session = aiohttp.ClientSession(
        # Shorter than the services keep an idle connection, so that theirs never closes first.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
        timeout=silence_timeout(settings, settings.read_timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )
    # Private, for want of a public option: aiohttp would repeat a PUT or DELETE after a broken connection, though
    # the service may have done the first. `Proxy` decides what may be repeated. test_proxy fails if this goes.
    session._retry_connection = False
    async with session:
        yield session


def silence_timeout(settings: GatewaySettings, silence_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s, sock_read=silence_s)


@dataclass(slots=True)
class Replica(Watched):
    url: str = ""
    is_healthy: bool = True
    is_alone: bool = True
    """Nothing but its life says whether it is healthy."""

    def hang(self) -> None:
        self.is_healthy = False
        super(Replica, self).hang()  # a class with slots is not the one that super() would find

    def recover(self) -> None:
        self.is_healthy = self.is_healthy or (self.is_hung and self.is_alone)
        super(Replica, self).recover()


class Upstreams:
    """The replicas of all services."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._every_s = settings.replica_check_s
        self._hung_after_s = settings.hung_after_s
        self._replicas = {
            "preference": _replicas(settings.preference_urls),
            "response": _replicas(settings.response_urls),
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
                    life = replica.watch(
                        partial(_responds, session, replica), hung_after_s=self._hung_after_s, every_s=self._every_s
                    )
                    looks.create_task(life)
                    if not replica.is_alone:
                        looks.create_task(self._watch_readiness(session, replica))

    async def _watch_readiness(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        while True:
            answer = await readiness(session, replica.url, timeout_s=max(1.0, self._every_s))
            replica.is_healthy = answer is not None and answer.status == "ready"
            await asyncio.sleep(self._every_s)


def _replicas(urls: Sequence[str]) -> list[Replica]:
    return [Replica(url=url, is_alone=len(urls) == 1) for url in urls]


async def _responds(session: aiohttp.ClientSession, replica: Replica, timeout_s: float) -> bool:
    """False for a service that is silent; one that is away refuses connections, and is not."""
    try:
        async with session.get(f"{replica.url}/livez", timeout=aiohttp.ClientTimeout(total=timeout_s)):
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
