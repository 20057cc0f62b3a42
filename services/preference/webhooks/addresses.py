"""Which addresses a webhook may be sent to: public ones alone, unless ALIGNX_WEBHOOKS__ALLOW_PRIVATE says otherwise.

A name counts only if every address that it has now is public, and the connection is made to one of the addresses that
were looked at: a name that changes its address in between (DNS rebinding) reaches nothing. The socket is checked once
more, for addresses that a URL spells out.
"""

import asyncio
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

_LOOKUPS, _LOOKUPS_OF_ONE = 64, 8
LOOKING_UP: ContextVar[str] = ContextVar("looking_up", default="")
"""The tenant for whom names are looked up."""
_NAT64 = ip_network("64:ff9b::/96")
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "168.63.129.16/32", "fec0::/10")))
"""What `is_global` lets pass: addresses of protocols, of a cloud's own services, of the sites of earlier IPv6."""


class PrivateAddress(OSError):
    """Raised in place of a connection. Names no address: a caller could map a network by it."""


def is_public(text: str) -> bool:
    """Whether an address, an IPv6 one perhaps with its zone, may be reached. One that carries an IPv4 address (mapped,
    6to4, NAT64) is as public as that."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        nat64 = IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else None
        if inner := address.ipv4_mapped or address.sixtofour or nat64:
            return is_public(str(inner))
    is_special = address.is_multicast or address.is_reserved or any(address in network for network in _SPECIAL)
    return address.is_global and not is_special


def find_fault(url: str, *, allow_private: bool) -> str | None:
    """What is wrong with the URL of an endpoint, before its name is resolved."""
    try:
        parsed = URL(url)
        host = parsed.host
    except ValueError:
        return "is no URL"
    if not host or parsed.user is not None or parsed.password is not None or parsed.fragment:
        return "needs a host, and neither a password nor a fragment"
    if allow_private:
        return None
    if parsed.scheme != "https":
        return "must start with https://"
    if host == "localhost" or host.endswith(".localhost") or (_is_address(host) and not is_public(host)):
        return "must not lead to a private network"
    return None


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class PooledResolver(AbstractResolver):
    """Looks names up in threads of its own: a name server that hangs keeps none from the rest of the process, and no
    more than `_LOOKUPS_OF_ONE` from other tenants. A thread cannot be stopped: it is the tenant's until it ends."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_LOOKUPS, "webhook-names")
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        slots = self._slots.setdefault(LOOKING_UP.get(), asyncio.Semaphore(_LOOKUPS_OF_ONE))
        loop = asyncio.get_running_loop()

        def release(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the process ends
                loop.call_soon_threadsafe(slots.release)

        await slots.acquire()
        lookup = self._pool.submit(look_up)
        lookup.add_done_callback(release)
        found = await asyncio.wrap_future(lookup)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class PublicResolver(AbstractResolver):
    """Refuses a name that has any address which is not public."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        if not all(is_public(result["host"]) for result in results):
            raise PrivateAddress
        return results

    async def close(self) -> None:
        await self._resolver.close()


def open_public_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for what `getaddrinfo` says; raises PrivateAddress for an address that is not public."""
    family, kind, protocol, _, target = address
    if not is_public(str(target[0])):
        raise PrivateAddress
    return socket.socket(family, kind, protocol)


def open_session(*, allow_private: bool, resolver: AbstractResolver | None = None) -> aiohttp.ClientSession:
    """The HTTP client towards endpoints: no cookies, no proxies, no decoding, a fresh connection each time."""
    resolver = resolver or PooledResolver()
    connector = aiohttp.TCPConnector(
        limit=0,
        force_close=True,
        use_dns_cache=False,
        resolver=resolver if allow_private else PublicResolver(resolver),
        socket_factory=None if allow_private else open_public_socket,
    )
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
    )
