"""`python -m services.admin` as an operator calls it, against the tests' Redis."""

import asyncio
import gzip
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from services.admin.__main__ import app
from services.profile.statistics import EMPTY
from services.storage.migrations import SCHEMA_KEY, SHARDS_KEY, Schema
from tests.unit.services.preference.rig import AT_ONCE, Rig, opened, record

ROOT = Path(__file__).parents[4]


@pytest.fixture
def alignx(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ALIGNX_REDIS__URL", redis_url)
    monkeypatch.setenv("ALIGNX_QUEUE__SHARDS", str(AT_ONCE["shards"]))
    monkeypatch.delenv("ALIGNX_INTERNAL_TOKEN", raising=False)

    async def fill(rig: Rig) -> None:
        await Schema(rig.redis).claim()
        await rig.store.claim_shards()
        for tenant in ("acme", "books"):
            await rig.put("one", "two", user="ada", tenant=tenant)

    work(redis_url, fill)
    return tmp_path / "all.alignx.gz"


def work(url: str, act: Callable[[Rig], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with opened(url) as rig:
            return await act(rig)

    return asyncio.run(main())


def admin(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def test_a_backup_is_written_verified_and_restored(alignx: Path, redis_url: str) -> None:
    assert "2 users with 4 events, 2 tenants, 0 API keys" in admin("backup", alignx).stderr
    assert alignx.stat().st_mode & 0o777 == 0o600
    assert os.listdir(alignx.parent) == [alignx.name]  # noqa: PTH208
    assert "Whole and unchanged." in admin("verify", alignx).stdout

    refused = admin("restore", alignx, code=1).stderr
    assert "2 of 2 users exist already: acme/ada, books/ada (--replace" in refused
    assert "2 left as they are" in admin("restore", alignx, "--keep-existing").stderr
    assert "1 replaced" in admin("restore", alignx, "--replace", "--tenant", "books").stderr
    again = ("restore", alignx, "--replace", "--tenant", "books")
    assert "1 restored before\nAlready restored from this backup" in admin(*again).stderr
    assert "1 replaced" in admin(*again, "--again").stderr
    assert "1 new" in admin("restore", alignx, "--tenant", "acme", "--into", "trial").stderr

    with Redis.from_url(redis_url) as redis:
        redis.flushall()
    assert "2 new" in admin("restore", alignx).stderr
    assert "2 restored before" in admin("restore", alignx).stderr


def test_standard_output_takes_a_backup_too(alignx: Path) -> None:
    lines = gzip.decompress(admin("backup", "-", "--tenant", "acme").stdout_bytes).splitlines()
    assert len(lines) == 4
    assert b"books" not in b"".join(lines)


def test_a_damaged_file_is_refused_and_changes_nothing(alignx: Path) -> None:
    admin("backup", alignx)
    alignx.write_bytes(alignx.read_bytes()[:-30])
    for command in ("verify", "restore"):
        said = admin(command, alignx, code=1).stderr
        assert said == "error: the file is cut short: its last line is missing. Nothing was changed.\n"


@pytest.mark.parametrize(("setting", "shards", "told"), [(None, 1, True), ("8", 8, False), ("1", 1, False)])
def test_an_empty_redis_gets_the_shards_of_the_setting_or_of_the_backup(
    alignx: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, setting: str | None, shards: int, told: bool
) -> None:
    admin("backup", alignx)
    if setting is None:
        monkeypatch.delenv("ALIGNX_QUEUE__SHARDS")
    else:
        monkeypatch.setenv("ALIGNX_QUEUE__SHARDS", setting)
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        redis.flushall()
        whole = alignx.read_bytes()
        alignx.write_bytes(whole[:-30])
        admin("restore", alignx, code=1)
        assert redis.keys() == []
        alignx.write_bytes(whole)
        said = admin("restore", alignx).stderr
        assert redis.get(SHARDS_KEY) == str(shards)
    assert "2 new" in said
    assert ("the services need ALIGNX_QUEUE__SHARDS=1" in said) == told


def test_a_backup_that_fails_leaves_no_file(alignx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNX_REDIS__URL", "redis://127.0.0.1:1/0")
    assert admin("backup", alignx, code=1).stderr.startswith("error: ")
    assert list(alignx.parent.iterdir()) == []


def test_options_that_do_not_go_together_are_wrong_usage(alignx: Path) -> None:
    admin("backup", alignx)
    admin("restore", alignx, "--into", "trial", code=2)
    admin("restore", alignx, "--user", "ada", code=2)
    admin("restore", alignx, "--replace", "--keep-existing", code=2)
    admin("restore", alignx, "--again", code=2)
    assert "holds nothing of nobody" in admin("restore", alignx, "--tenant", "nobody", code=1).stderr


def test_profiles_of_an_older_release_are_made_again(alignx: Path, redis_url: str) -> None:
    async def age(rig: Rig) -> None:
        await rig.redis.set(rig.keys("ada").profile, '{"v":1}')

    async def look(rig: Rig) -> None:
        assert '"v":1' not in await rig.redis.get(rig.keys("ada").profile)
        assert (await rig.store.profile("acme", "ada"))[1] != EMPTY

    work(redis_url, age)
    dry = admin("migrate", "--dry-run").stderr
    assert "Data: version 2; this release: 2." in dry
    assert "to be made again from the history: 1." in dry
    assert "made again from the history: 1." in admin("migrate").stderr
    assert "made again from the history: 0." in admin("migrate").stderr
    work(redis_url, look)


def test_the_summaries_of_a_source_are_rebuilt_and_rolled_back(
    alignx: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the first user, the command goes on with the second; users of another source stay as they are."""
    users, bad = ("ada", "bob", "cyd"), {"source": "llm:bad"}

    async def write(rig: Rig) -> None:
        for user in users:
            await rig.put("one", user=user)
            assert await rig.queue.edit("acme", user, 0, record("good"))
        for user in ("ada", "cyd"):
            assert await rig.queue.edit("acme", user, 1, record("bad", 2).model_copy(update=bad))

    async def rebuilds(rig: Rig) -> list[bool]:
        return ["rebuild" in await rig.fields(user, "acme") for user in users]

    async def stopped(_: float) -> None:
        raise OSError("stopped")

    work(redis_url, write)
    only = ("--source", "llm:bad", "--tenant", "acme", "--per-minute", "60000")
    with monkeypatch.context() as patched:
        patched.setattr("services.admin.rebuild_summaries.asyncio.sleep", stopped)
        admin("rebuild", *only, code=1)
    assert work(redis_url, rebuilds) == [True, False, False]

    async def finish(rig: Rig) -> None:  # the worker has rebuilt her with the same model
        await rig.redis.hdel(rig.keys("ada", "acme").state, "rebuild")

    work(redis_url, finish)
    assert "Rebuilds asked for: 1" in admin("rebuild", *only).stderr
    assert work(redis_url, rebuilds) == [False, False, True]
    assert "Rolled back: 2" in admin("rebuild", *only, "--undo").stderr
    assert "Rolled back: 0" in admin("rebuild", *only, "--undo").stderr

    async def texts(rig: Rig) -> list[str]:
        return [(await rig.store.preferences("acme", user)).text for user in users]

    assert work(redis_url, texts) == ["good"] * 3
    assert "one of --source and --template" in admin("rebuild", code=2).stderr


def test_data_of_a_newer_release_are_not_touched(alignx: Path, redis_url: str) -> None:
    admin("backup", alignx)
    with Redis.from_url(redis_url) as redis:
        redis.set(SCHEMA_KEY, 9)
    for command in (("backup", alignx), ("restore", alignx, "--replace"), ("migrate",)):
        assert "schema version 9" in admin(*command, code=1).stderr
