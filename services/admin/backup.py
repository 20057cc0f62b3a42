"""Writes a backup: every user at one moment of their own, the sums of tenants, the records of API keys.

The suite runs on meanwhile. A user's record is of one moment, so it holds an acknowledged write wholly or not
at all; users who appear during the backup are in the next one.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO
from uuid import uuid4

from alignx import __version__
from alignx.schemas.tenants import TenantSettings
from services.admin.list_users import UserList, list_users
from services.admin.records import BackupWriter, Record
from services.admin.user_records import UserRecords
from services.preference.webhooks.endpoint_store import EndpointStore
from services.storage.connection import RedisClient
from services.storage.key_names import ALL_API_KEYS, TENANT_SUMS, KeySpace, api_key, tenant_api_keys
from services.storage.migrations import Schema
from services.storage.tenant_settings import TenantSettingsStore
from services.traffic.catalogue import catalogue_key
from services.traffic.items import BUCKETS

Progress = Callable[[int, int], None]
"""Called with (users done, all users)."""

_AT_ONCE = 32
_PAGE = 500


async def write_backup(
    redis: RedisClient, keys: KeySpace, out: BinaryIO, *, tenant: str | None, progress: Progress
) -> dict[str, int]:
    """How many records of each kind were written. `tenant` alone, or all."""
    client: Any = redis
    header: Record = {
        "id": uuid4().hex,
        "schema": Schema(redis).current,
        "release": __version__,
        "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "tenant": tenant,
        "shards": keys.shards,
        "token": await _read_token(client, keys),
    }
    writer = BackupWriter(out, header)
    sums, settings = await _read_quality(client, keys), TenantSettingsStore(redis, TenantSettings())
    webhooks = EndpointStore(redis)
    async with list_users(redis, tenant) as members:
        for name in sorted(sums.keys() | {*members.tenants(), *await settings.tenants(), *await webhooks.tenants()}):
            if tenant in (None, name):
                record: Record = {"kind": "tenant", "tenant": name, "quality": sums.get(name, {})}
                parts = {"settings": await settings.stored(name)}
                parts["webhooks"] = await webhooks.stored(name)
                parts |= {part: await client.hgetall(key(name)) for part, key in TENANT_SUMS.items()}
                writer.write(record | {part: dict(sorted(own.items())) for part, own in parts.items() if own})
                for bucket in range(BUCKETS):
                    if items := await client.hgetall(catalogue_key(name, bucket)):
                        writer.write({"kind": "catalogue", "tenant": name, "items": dict(sorted(items.items()))})
        async for record in _read_api_keys(client, tenant):
            writer.write(record)
        async for record in _read_users(UserRecords(redis, keys), members, progress):
            writer.write(record)
    writer.end()
    return writer.counts


async def _read_users(users: UserRecords, members: UserList, progress: Progress) -> AsyncIterator[Record]:
    total, done, names = len(members), 0, iter(members)
    while batch := list(islice(names, _AT_ONCE)):
        for record in await asyncio.gather(*(users.read(*name) for name in batch)):
            if record is not None:
                yield record
        done += len(batch)
        progress(done, total)


async def _read_token(client: Any, keys: KeySpace) -> int:
    """The highest fencing token given out."""
    tokens = [await client.get(keys.shard_prefix(shard) + "tok") for shard in range(keys.shards)]
    return max(int(token or 0) for token in tokens)


async def _read_quality(client: Any, keys: KeySpace) -> dict[str, dict[str, str]]:
    """Prequential sums of each tenant over all shards."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for shard in range(keys.shards):
        for field, value in (await client.hgetall(keys.shard_prefix(shard) + "quality")).items():
            member, name = field.split(":")
            sums[KeySpace.split_member(f"{member}:")[0]][name] += float(value)
    return {
        tenant: {name: f"{value:.17g}" for name, value in sorted(fields.items())} for tenant, fields in sums.items()
    }


async def _read_api_keys(client: Any, tenant: str | None) -> AsyncIterator[Record]:
    index = ALL_API_KEYS if tenant is None else tenant_api_keys(tenant)
    after = "-"
    while ids := await client.zrangebylex(index, after, "+", 0, _PAGE):
        for key_id in ids:
            if fields := await client.hgetall(api_key(key_id)):
                yield {"kind": "api_key", "id": key_id, "fields": dict(sorted(fields.items()))}
        after = f"({ids[-1]}"
