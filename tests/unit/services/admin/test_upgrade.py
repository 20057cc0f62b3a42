"""Data that an earlier release wrote: a Redis file and a backup of it, read, updated, edited, erased by this one.

upgrade/<commit>.rdb and .alignx.gz were written by a suite of that commit; .json holds what it exported then,
and keys it had made. They stay as they are: a release that cannot read them needs a migration.
"""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from alignx.schemas.interactions import StatementInteraction
from gateway.keys import KeyStore
from services.admin.restore import Restore, Selection, key_space
from services.preference import edits
from services.preference.export import export_lines
from services.preference.ingest import Ingest
from services.preference.many_users.user_index import UserIndex
from services.preference.updates.update_metrics import IngestMetrics
from services.server.startup_check import StartupCheck
from services.settings import LimitSettings
from services.storage.migrations import Schema
from services.storage.users import Store
from tests.chaos.mock_engine import MockEngine
from tests.conftest import free_port, redis_server_path, wait_until_ready
from tests.unit.services.admin.test_backup import ignored, parsed
from tests.unit.services.preference.working import Bench, benched

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent / "upgrade"
COMMITS = sorted(path.stem for path in FOLDER.glob("*.rdb"))
SHARDS = 8


@pytest.fixture
def rdb_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A server that starts with the file of the commit."""
    shutil.copy(FOLDER / f"{request.param}.rdb", tmp_path / "dump.rdb")
    port = free_port()
    options = f"--port {port} --bind 127.0.0.1 --dir {tmp_path} --appendonly no --save"
    process = subprocess.Popen((redis_server_path(), *options.split(), ""), stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait(10)


@asynccontextmanager
async def upgraded(url: str) -> AsyncIterator[Bench]:
    async with benched(url, MockEngine(), queue={"shards": SHARDS}) as bench:
        async with StartupCheck.open(bench.store) as startup:
            await startup.wait()
        yield bench


async def exports(bench: Bench, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for name in names:
        tenant, user = name.split("/")
        found[name] = [orjson.loads(line) async for line in export_lines(bench.store, tenant, user)]
    return found


def without_new(export: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the time of the export, and without the fields that the earlier release did not know, which are empty."""
    return [
        {name: value for name, value in line.items() if name != "exported_at" and (name, value) != ("claims", [])}
        for line in export
    ]


async def lives_on(bench: Bench, commit: str) -> None:
    """All that a user of the earlier release can ask for still works."""
    expected = json.loads((FOLDER / f"{commit}.json").read_text(encoding="utf-8"))
    found = await exports(bench, list(expected["exports"]))
    for name, export in expected["exports"].items():
        assert without_new(found[name]) == without_new(export), name

    store = KeyStore(bench.redis, bench.settings)
    for name, admitted in (("acme", True), ("books", True), ("revoked", False)):
        answer = await store.admit(parsed(expected["keys"][name]))
        assert bool(answer and answer.state == "open") == admitted, name

    # Events that waited are applied, a rebuild that was asked for is made.
    await bench.update(tenant="books", user="carl")
    carl = await bench.store.preferences("books", "carl")
    assert (carl.version, carl.pending) == (2, 0)
    assert "I like ferries." in bench.mock.prompts[-1]

    # Dead letters come back.
    _, ids = await bench.queue.retry_dead_letters("acme", "bob", ())
    assert len(ids) == 2
    await bench.update(tenant="acme", user="bob")
    assert "I cycle to work." in bench.mock.prompts[-1]
    assert await bench.store.dead_letters("acme", "bob", None, 9) == []

    # New events, an edit and an erasure.
    ingest = Ingest(bench.store, bench.queue, LimitSettings(), IngestMetrics(CollectorRegistry()))
    before = await bench.store.preferences("acme", "ada")
    await ingest.append("acme", "ada", [StatementInteraction(text="I like ferries.")], start="at_once")
    await bench.update(tenant="acme", user="ada")
    after = await bench.store.preferences("acme", "ada")
    assert (after.version, after.parent, after.events_total) == (
        before.version + 1,
        before.version,
        before.events_total + 1,
    )
    assert before.text in bench.mock.prompts[-1]
    await ingest.edit("acme", "ada", after.version, edits.create_edit("I want it short.", after.version))
    assert (await bench.store.preferences("acme", "ada")).text == "I want it short."
    # The users are listed, and leave the list with all else.
    index = UserIndex(bench.redis, bench.store.keys)
    assert await listed(index) == sorted(expected["exports"])
    for name in expected["exports"]:
        assert await bench.queue.forget(*name.split("/"))
    assert await bench.user_keys() == []
    assert await listed(index) == []


async def listed(index: UserIndex) -> list[str]:
    return [f"{tenant}/{user.user}" for tenant in ("acme", "books") for user in (await index.page(tenant)).users]


@pytest.mark.parametrize(("rdb_url", "commit"), [(commit, commit) for commit in COMMITS], indirect=["rdb_url"])
async def test_redis_of_an_earlier_release_is_read_and_written(rdb_url: str, commit: str) -> None:
    async with asyncio.timeout(30), upgraded(rdb_url) as bench:
        await lives_on(bench, commit)


@pytest.mark.parametrize("commit", COMMITS)
async def test_a_backup_of_an_earlier_release_is_restored(redis_url: str, commit: str) -> None:
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        await Schema(redis).claim()
        await Store(redis, SHARDS).claim_shards()
        restore = Restore(redis, await key_space(redis, SHARDS), Selection())
        with (FOLDER / f"{commit}.alignx.gz").open("rb") as file:
            await restore.run(file, "refuse", ignored)
    async with asyncio.timeout(30), upgraded(redis_url) as bench:
        await lives_on(bench, commit)
