"""Which addresses events are sent to, and that the address which was looked at is the one that is connected to."""

import asyncio
import socket
import threading
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from services.preference.webhooks.addresses import (
    LOOKING_UP,
    PooledResolver,
    PrivateAddress,
    find_fault,
    is_public,
    open_public_socket,
    open_session,
)
from tests.unit.services.preference.webhooks.receiving import receiving

pytestmark = pytest.mark.anyio

PRIVATE = (
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a00:1", "fe80::1", "fe80::1%eth0",
    "fd00:ec2::254", "fec0::1", "ff02::1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2001:db8::1",
    "no address",
)  # fmt: skip
PUBLIC = ("8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::", "64:ff9b::808:808")


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/", "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]:8443/x",
        "https://localhost/", "https://a.localhost/", "https://me:pw@shop.example/", "https://shop.example/#x",
        "https:///x", "https://[::1", "https://169.254.169.254/latest/meta-data",
    ],
)  # fmt: skip
def test_urls_that_are_refused_at_once(url: str) -> None:
    assert find_fault(url, allow_private=False)


def test_other_urls_pass() -> None:
    assert find_fault("https://shop.example:8443/hook?x=1", allow_private=False) is None
    assert find_fault("http://127.0.0.1:9/hook", allow_private=True) is None


class Named(AbstractResolver):
    """Names with the addresses that the test gives them; a name's later answers are its last one."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("93.184.215.14", "127.0.0.1"), ("127.0.0.1", "93.184.215.14"), ("::ffff:127.0.0.1",), ("::1",)],
)
async def test_a_name_with_any_private_address_reaches_nothing(addresses: tuple[str, ...]) -> None:
    async with receiving() as receiver, open_session(allow_private=False, resolver=Named(addresses)) as session:
        port = receiver.url.rpartition(":")[2].partition("/")[0]
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.post(f"http://rebind.example:{port}/")
        assert isinstance(caught.value.os_error, PrivateAddress)
        assert receiver.requests == []


async def test_each_connection_looks_the_name_up_once_and_uses_that_answer() -> None:
    names = Named(("192.0.2.1",), ("127.0.0.1",))
    async with receiving() as receiver, open_session(allow_private=True, resolver=names) as session:
        port = receiver.url.rpartition(":")[2].partition("/")[0]
        with pytest.raises((aiohttp.ClientError, TimeoutError)):
            await session.post(f"http://rebind.example:{port}/", timeout=aiohttp.ClientTimeout(total=0.2))
        assert receiver.requests == []
        assert len(names.answers) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "localhost"])
async def test_an_address_that_a_url_spells_out_is_looked_at_too(host: str) -> None:
    async with receiving() as receiver, open_session(allow_private=False) as session:
        port = receiver.url.rpartition(":")[2].partition("/")[0]
        with pytest.raises(aiohttp.ClientError):
            await session.post(f"http://{host}:{port}/")
        assert receiver.requests == []


async def test_a_name_server_that_hangs_holds_up_its_own_tenant_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asked = threading.Event(), list[str]()

    def look_up(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        if host == "hangs.example":
            answers.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    async def resolve(tenant: str, host: str) -> int:
        LOOKING_UP.set(tenant)
        return len(await resolver.resolve(host, 443))

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = PooledResolver()
    try:
        hanging = [asyncio.create_task(resolve("slow", "hangs.example")) for _ in range(100)]
        assert await asyncio.wait_for(resolve("other", "shop.example"), 10) == 1
        for task in hanging:  # the requests give up, and their threads hang on
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        again = asyncio.create_task(resolve("slow", "shop.example"))
        assert await asyncio.wait_for(resolve("other", "shop.example"), 10) == 1
        assert (asked.count("hangs.example") <= 8, again.done()) == (True, False)
        answers.set()
        assert await asyncio.wait_for(again, 10) == 1
    finally:
        answers.set()
        await resolver.close()


def test_the_socket_refuses_by_itself() -> None:
    with pytest.raises(PrivateAddress):
        open_public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443)))
    with open_public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))) as opened:
        assert opened.family == socket.AF_INET
