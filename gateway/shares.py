"""How much of this process one tenant and one key may hold at once, so that nobody takes what others need.

Each kind of call has places: so many for a tenant, half of them for one of its keys. Who finds none gets 429 at once.
The places to one service are bounded as well: past that, requests would only wait, and those of a tenant with more
than an equal part of them get 503. Before anybody is known, load_shedding.py shares out the process's time by the same
rule; `CallersSeen` tells it who calls, and whose rate limit is used up for the moment.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal, TypeVar

from gateway.routing import CHATS, SERVICES, WAITING, Route, Service
from services.errors import Overloaded, RateLimited, TooManyAtOnce
from services.server.load_shedding import FairShare
from services.settings import GatewaySettings

Kind = Literal["request", "bulk", "wait", "stream"]
Kept = TypeVar("Kept")
BULK_BYTES: Final = 64 * 1024
"""Bytes of a body from which on a request is bulk; one whose length is not announced is."""
_MOST_SEEN: Final = 50_000
_LONGEST_S: Final = 1.0
"""A refusal is given again without asking Redis: for so long at most, since the key may end meanwhile."""
_NAMES: Mapping[Kind, str] = {
    "request": "requests",
    "bulk": f"requests with a body above {BULK_BYTES // 1024} KiB",
    "wait": "chats and appends that wait",
    "stream": "summary streams",
}


class Shares:
    """The places that are taken now."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._most: Mapping[Kind, int] = {
            "request": settings.tenant_requests,
            "bulk": settings.tenant_bulk,
            "wait": settings.tenant_waiting,
            "stream": settings.tenant_streams,
        }
        self._taken: Counter[tuple[Kind, str, str]] = Counter()
        """By kind, tenant and key; the key "" stands for all of the tenant's."""
        self._of_service = {service: FairShare(settings.service_requests) for service in SERVICES}

    @contextmanager
    def take(self, kind: Kind, tenant: str, key_id: str, service: Service) -> Iterator[None]:
        """Holds a place. Raises TooManyAtOnce and Overloaded when there is none."""
        most = self._most[kind]
        of_tenant, of_key = (kind, tenant, ""), (kind, tenant, key_id)
        is_quick = kind in ("request", "bulk")
        taken = self._taken
        for name, share, holder in ((of_key, (most + 1) // 2, "API key"), (of_tenant, most, "tenant")):
            if taken[name] >= share:
                detail = f"One {holder} may have {share} {_NAMES[kind]} under way at once."
                raise TooManyAtOnce(detail, retry_after=1.0, limit=share)
        of_service = self._of_service[service]
        if is_quick and not of_service.admits(tenant):
            raise Overloaded(retry_after=1.0)
        taken[of_tenant] += 1
        taken[of_key] += 1
        if is_quick:
            of_service.take(tenant)
        try:
            yield
        finally:
            if is_quick:
                of_service.release(tenant)
            for name in (of_tenant, of_key):
                taken[name] -= 1
                if not taken[name]:
                    del taken[name]


class CallersSeen:
    """What is known of the credentials that came lately before Redis is asked, by a hash that means nothing outside
    the process: the tenants of those that were let in, for counting who has how much under way (all others count as one
    caller), and the refusals of those whose rate limit is used up, for as long as it surely is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tenants: dict[int, str] = {}
        self._limited: dict[int, tuple[float, RateLimited]] = {}
        """The refusals, and when they end."""

    def note(self, credential: str, tenant: str) -> None:
        _keep(self._tenants, credential, tenant)

    def note_limited(self, credential: str, refusal: RateLimited, wait_s: float) -> None:
        """`wait_s` is the time until there is a token again, which other calls can only put off."""
        _keep(self._limited, credential, (self._clock() + min(wait_s, _LONGEST_S), refusal))

    def tenant_of(self, credential: str | None) -> str:
        return self._tenants.get(hash(credential), "")

    def refusal_of(self, credential: str | None) -> RateLimited | None:
        ends, refusal = self._limited.get(hash(credential), (0.0, None))
        return refusal if self._clock() < ends else None


def _keep(seen: dict[int, Kept], credential: str, entry: Kept) -> None:
    if len(seen) >= _MOST_SEEN:
        del seen[next(iter(seen))]
    seen[hash(credential)] = entry


def kind_of(route: Route, method: str, fields: Iterable[tuple[bytes, bytes]]) -> Kind:
    """Of a call, by its route and its header fields. A large body is bulk though its call waits; chats aside."""
    if route.endless:
        return "stream"
    if route.path in CHATS:
        return "wait"
    kind: Kind = "request"
    for name, value in fields:
        if name == b"transfer-encoding" or (name == b"content-length" and int(value) > BULK_BYTES):
            return "bulk"
        if name == b"prefer" and b"wait=" in value and (method, route.path) == WAITING:
            kind = "wait"
    return kind
