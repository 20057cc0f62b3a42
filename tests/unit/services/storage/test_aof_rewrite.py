"""Erased text on disk, with a Redis that keeps an append-only file; refusals, with one that is played."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from services.storage import aof_rewrite
from services.storage.aof_rewrite import AofRewriter
from tests.conftest import free_port
from tests.unit.services.preference.rig import start_redis, stop_redis
from tests.unit.services.preference.served import serving
from tests.unit.services.preference.working import until

CANARY = "a canary nobody else says"
BUSY = ResponseError("Background append only file rewriting already in progress")


def on_disk(folder: Path) -> bool:
    found = False
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):  # a file of a rewrite that has just ended
            found = found or CANARY.encode() in path.read_bytes()
    return found


@pytest.mark.parametrize("shutdown", [False, True])
@pytest.mark.anyio
async def test_an_erased_text_leaves_the_disk(tmp_path: Path, shutdown: bool) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"

    async def gone() -> bool:
        return not on_disk(tmp_path)

    server = start_redis(tmp_path, port)
    try:
        async with serving(url, redis={"url": url, "rewrite_after_erase_s": 60 if shutdown else 0.1}) as served:
            await served.put(CANARY)
            await served.put("stays", user="bob")
            assert on_disk(tmp_path)
            assert (await served.http.delete("/v1/users/ada")).status_code == 204
            if shutdown:
                assert on_disk(tmp_path)
            else:
                await until(gone)
                assert (await served.http.get("/v1/users/bob/preferences")).status_code == 200
        await until(gone)
    finally:
        stop_redis(server)


class Played:
    """A Redis that answers with the given faults, then well."""

    def __init__(self, *faults: RedisError, aof: int = 1) -> None:
        self.faults = list(faults)
        self.aof = aof
        self.asked = 0
        self.begun = 0

    async def execute_command(self, name: str, *_: str) -> Any:
        if name == "INFO":
            return {"aof_enabled": self.aof}
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        self.begun += 1
        return True


@pytest.fixture
def short_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aof_rewrite, "_CLOSE_PAUSE_S", 0.01)
    monkeypatch.setattr(aof_rewrite, "_CLOSE_TIMEOUT_S", 0.2)


def played(redis: Played, requests: int = 3, every_s: float = 0.01) -> Played:
    async def main() -> None:
        async with AofRewriter.open(cast("Redis", redis), every_s) as rewriter:
            for _ in range(requests):
                rewriter.request()
            await asyncio.sleep(0.1)

    asyncio.run(main())
    return redis


@pytest.mark.usefixtures("short_close")
def test_one_rewrite_serves_many_erasures() -> None:
    assert played(Played()).begun == 1
    assert played(Played(), every_s=60).begun == 1  # at the end
    assert played(Played(), requests=0).begun == 0
    assert played(Played(), every_s=0).asked == 0
    assert played(Played(aof=0)).asked == 0


@pytest.mark.usefixtures("short_close")
def test_a_rewrite_that_must_wait_is_tried_again() -> None:
    assert played(Played(BUSY, RedisConnectionError())).begun == 1
    assert played(Played(BUSY), every_s=60).begun == 1
    assert played(Played(*[BUSY] * 999), every_s=60).begun == 0


@pytest.mark.anyio
async def test_a_rewrite_that_the_shutdown_cuts_off_is_asked_for_again() -> None:
    class Hanging(Played):
        hangs = asyncio.Event()

        async def execute_command(self, name: str, *_: str) -> Any:
            if name != "INFO" and not self.hangs.is_set():
                self.hangs.set()
                await asyncio.sleep(60)
            return await super().execute_command(name)

    redis = Hanging()
    async with AofRewriter.open(cast("Redis", redis), 0.001) as rewriter:
        rewriter.request()
        await redis.hangs.wait()
    assert redis.begun == 1


@pytest.mark.usefixtures("short_close")
def test_a_server_that_refuses_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert played(Played(ResponseError("unknown command 'BGREWRITEAOF'"))).asked == 1
    assert [entry.name for entry in caplog.records] == ["alignx.erasure"]


@pytest.mark.usefixtures("short_close")
def test_only_the_servers_that_are_still_due_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ClusterNode("127.0.0.1", 1), ClusterNode("127.0.0.1", 2)
    asked: list[str] = []

    async def ask(_redis: object, server: ClusterNode, command: str, *_: str) -> Any:
        if command == "INFO":
            return {"aof_enabled": 1}
        asked.append(server.name)
        if server is second and asked.count(second.name) == 1:
            raise BUSY
        return True

    monkeypatch.setattr(aof_rewrite, "list_servers", lambda _redis: [first, second])
    monkeypatch.setattr(aof_rewrite, "ask_server", ask)
    played(Played())
    assert asked == [first.name, second.name, second.name]
