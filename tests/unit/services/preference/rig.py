"""A queue on the tests' Redis, with the shortest way to put events in and take users out.

Nothing here sleeps: a lease runs out, or a user falls due, by moving its score in Redis.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignx.schemas.interactions import StatementInteraction
from alignx.schemas.summaries import PreferenceChange, RejectedDraft, SummaryVersion
from services.preference.queue import Queue
from services.preference.queue_records import Append, AppendResult, Claim
from services.profile.serialize import dumps
from services.profile.statistics import EMPTY
from services.settings import QueueSettings, RedisSettings, SummarySettings
from services.storage.connection import open_redis
from services.storage.key_names import UserKeys
from services.storage.users import Store, encode_interaction
from tests.conftest import free_port, redis_server_path, wait_until_ready

Process = subprocess.Popen[bytes]

TENANT, USER = "acme", "ada"
AT_ONCE: dict[str, Any] = {"shards": 1, "debounce_ms": 0, "max_wait_ms": 0}


def statement(text: str) -> str:
    return encode_interaction(StatementInteraction(text=text))


def record(text: str, version: int = 1) -> SummaryVersion:
    return SummaryVersion(version=version, text=text, source="llm:test", created_at=datetime.now(UTC))


def draft(text: str) -> RejectedDraft:
    return RejectedDraft(check="about", reason="r", text=text, source="llm:m", created_at=datetime.now(UTC))


def change(text: str) -> PreferenceChange:
    now = datetime.now(UTC)
    return PreferenceChange(
        since=now, detected_at=now, comparisons=7, accuracy_before=0.9, accuracy_since=0.1, text=text
    )


@dataclass(frozen=True)
class Rig:
    redis: Any
    """A Redis client; its types are unions with those of the sync one."""
    store: Store
    queue: Queue

    def keys(self, user: str = USER, tenant: str = TENANT) -> UserKeys:
        return self.store.keys.user(tenant, user)

    async def put(self, *texts: str, user: str = USER, tenant: str = TENANT, **options: Any) -> AppendResult:
        """Appends statements at the user's true stamp."""
        return await self.add(*map(statement, texts), user=user, tenant=tenant, **options)

    async def add(self, *encoded: str, user: str = USER, tenant: str = TENANT, **options: Any) -> AppendResult:
        """The same for events as the log holds them."""
        stamp, _ = await self.store.profile(tenant, user)
        fields: dict[str, Any] = {"stamp": stamp, "profile": dumps(EMPTY)}
        appended = await self.queue.append(tenant, user, Append(encoded, **(fields | options)))
        assert appended is not None
        return appended

    async def texts(self, user: str = USER, tenant: str = TENANT) -> list[str]:
        """The statements in the user's log."""
        events = await self.store.events(tenant, user, None, 10_000)
        return [event.interaction.text for event in events if isinstance(event.interaction, StatementInteraction)]

    async def take(self, user: str = USER, tenant: str = TENANT) -> Claim:
        """Claims the user, who must be the first in the queue."""
        _, claim = await self.queue.claim(self.store.keys.shard(tenant, user), "worker")
        assert claim is not None
        assert (claim.tenant, claim.user) == (tenant, user)
        return claim

    async def idle(self, shard: int = 0) -> bool:
        """No user of the shard is due."""
        return (await self.queue.claim(shard, "worker"))[1] is None

    async def commit(self, claim: Claim, text: str = "s") -> bool:
        """Commits all that waited at the claim."""
        return await self.queue.commit(claim, record(text, claim.version + 1), claim.last_id, claim.pending)

    async def expire(self, claim: Claim) -> None:
        """The worker has been silent for too long."""
        await self.redis.zadd(self.keys(claim.user, claim.tenant).leases, {claim.member: 1}, xx=True)

    async def make_due(self) -> None:
        """Whoever waits need not wait longer."""
        for shard in range(self.store.keys.shards):
            ready = self.store.keys.shard_prefix(shard) + "ready"
            for member in await self.redis.zrange(ready, 0, -1):
                await self.redis.zadd(ready, {member: 1})

    async def due_in(self, user: str = USER, tenant: str = TENANT) -> float | None:
        """Milliseconds until the user's update is due; None when the user does not wait."""
        keys = self.keys(user, tenant)
        due = await self.redis.zscore(keys.ready, keys.member)
        return None if due is None else due - await self.now()

    async def now(self) -> float:
        seconds, micros = await self.redis.time()
        return float(seconds * 1000 + micros / 1000)

    async def fields(self, user: str = USER, tenant: str = TENANT) -> dict[str, str]:
        fields: dict[str, str] = await self.redis.hgetall(self.keys(user, tenant).state)
        return fields

    async def user_keys(self) -> list[str]:
        """Every key in Redis that belongs to some user."""
        return sorted([key async for key in self.redis.scan_iter("pi:*:u:*")])


@asynccontextmanager
async def opened(
    url: str,
    queue: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    expires_s: float = 120,
    **more: Any,
) -> AsyncIterator[Rig]:
    """`more` are settings of the queue too."""
    settings = QueueSettings(**(AT_ONCE | (queue or {}) | more))
    async with asyncio.timeout(expires_s), open_redis(RedisSettings(url=url)) as redis:
        yield Rig(redis, Store(redis, settings.shards), Queue(redis, settings, SummarySettings(**(summary or {}))))


def start_redis(folder: Path, port: int) -> Process:
    """A Redis of the test's own, to be killed and started again with the same data."""
    options = f"--port {port} --bind 127.0.0.1 --dir {folder} --appendonly yes --appendfsync always --save"
    command = (redis_server_path(), *options.split(), "")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, restore_signals=False)  # see `fill_disk`
    wait_until_ready(port)
    return process


def stop_redis(process: Process) -> None:
    process.kill()
    process.wait(10)


class OwnRedis:
    """A Redis for one test, which may stop it and start it again with the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.process = start_redis(self.folder, self.port)

    def stop(self) -> None:
        stop_redis(self.process)
