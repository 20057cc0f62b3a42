"""Restores a backup, into an empty suite or beside the users of a running one.

The whole file is checked, and looked through for users who exist, before the first record is written.
Each user comes back in one step and remembers the backup, so that a restore that broke off is simply
started again: it skips the users it has restored.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from alignx.schemas.tenants import TenantSettings
from services.admin.records import BackupInvalid, Record, read_records
from services.admin.user_records import Existing, UserRecords
from services.errors import AlignXError
from services.preference.webhooks.endpoint_store import EndpointStore
from services.storage.connection import RedisClient
from services.storage.key_names import ALL_API_KEYS, TENANT_SUMS, TENANTS, KeySpace, api_key, tenant_api_keys
from services.storage.migrations import MIGRATIONS, SHARDS_KEY, Migration, Schema, migrated
from services.storage.tenant_settings import TenantSettingsStore
from services.storage.users import Store
from services.traffic.catalogue import catalogue_key
from services.traffic.items import bucket_of

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, users done, users there are)."""

_AT_ONCE = 32
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records of a backup are restored."""

    tenant: str | None = None
    user: str | None = None
    """Of `tenant`."""
    into: str | None = None
    """The tenant that gets the users of `tenant`, if not itself. API keys stay behind: they open the
    tenant they were made for."""
    api_keys: bool = True

    def includes(self, record: Record) -> bool:
        match record["kind"]:
            case "user":
                return self.tenant in (None, record["tenant"]) and self.user in (None, record["user"])
            case "tenant" | "catalogue":
                return self.tenant in (None, record["tenant"]) and self.user is None
            case "api_key":
                own = self.tenant in (None, record["fields"]["tenant"])
                return own and self.api_keys and self.user is None and self.into is None
            case _:
                return False

    def retarget(self, record: Record) -> Record:
        """The record under the tenant it goes to."""
        return record | {"tenant": self.into} if self.into else record


@dataclass(frozen=True, slots=True)
class BackupContent:
    """The frame of a file that has passed all checks."""

    header: Record
    end: Record
    taken: int
    """Users of the selection."""


class UsersExist(Exception):
    """Users of the backup exist already, and no option says what to do with them."""


def read_header(file: BinaryIO) -> Record:
    """The header alone. Raises BackupInvalid."""
    file.seek(0)
    return next(read_records(file))


def check(file: BinaryIO, selection: Selection, migrations: int = len(MIGRATIONS)) -> BackupContent:
    """Reads the whole file. Raises BackupInvalid."""
    file.seek(0)
    records = read_records(file)
    header = next(records)
    if header["schema"] > 1 + migrations:
        raise BackupInvalid(
            f"the backup is of schema version {header['schema']}, made by release {header['release']}; "
            f"this release reads up to {1 + migrations}"
        )
    taken, record = 0, header
    for record in records:
        taken += record["kind"] == "user" and selection.includes(record)
    return BackupContent(header, record, taken)


class Restore:
    """One backup into one Redis."""

    def __init__(
        self,
        redis: RedisClient,
        keys: KeySpace,
        selection: Selection,
        migrations: tuple[Migration, ...] = MIGRATIONS,
    ) -> None:
        self._redis = redis
        self._client: Any = redis
        self._keys = keys
        self._selection = selection
        self._migrations = migrations
        self._users = UserRecords(redis, keys)
        self._settings = TenantSettingsStore(redis, TenantSettings())
        self._webhooks = EndpointStore(redis)

    async def run(self, file: BinaryIO, existing: Existing, progress: Progress) -> Counter[str]:
        """What became of the users and API keys, by word: NEW, REPLACED, SAME_BACKUP, EXISTS, and
        API_KEYS written. Raises BackupInvalid or UsersExist before anything is written."""
        content = check(file, self._selection, len(self._migrations))
        if self._selection.tenant is not None and not any(self._batches(file)):
            raise BackupInvalid(f"the backup holds nothing of {self._selection.user or self._selection.tenant}")
        if existing == "refuse":
            await self._refuse_existing(file, content, progress)
        await Schema(self._redis).claim()
        await Store(self._redis, self._keys.shards).claim_shards()
        await self._raise_tokens(int(content.header["token"]))
        backup, schema = content.header["id"], content.header["schema"]
        done: Counter[str] = Counter()
        for batch in self._batches(file):
            others = [record for record in batch if record["kind"] != "user"]
            for record in others:
                done["API_KEYS"] += await self._write_other(record)
            users = [migrated(record, schema, self._migrations) for record in batch if record["kind"] == "user"]
            done.update(await asyncio.gather(*(self._users.write(record, backup, existing) for record in users)))
            progress("restoring", sum(done.values()) - done["API_KEYS"], content.taken)
        return done

    def _batches(self, file: BinaryIO) -> Iterator[list[Record]]:
        file.seek(0)
        records = (record for record in read_records(file) if self._selection.includes(record))
        while batch := list(islice(records, _AT_ONCE)):
            yield [self._selection.retarget(record) for record in batch]

    async def _refuse_existing(self, file: BinaryIO, content: BackupContent, progress: Progress) -> None:
        count, names, looked = 0, list[str](), 0
        for batch in self._batches(file):
            users = [record for record in batch if record["kind"] == "user"]
            states = [self._keys.user(record["tenant"], record["user"]).state for record in users]
            marks = await asyncio.gather(*(self._client.hmget(state, "born", "restored") for state in states))
            for record, (born, restored) in zip(users, marks, strict=True):
                if born is not None and restored != content.header["id"]:
                    count += 1
                    names += [f"{record['tenant']}/{record['user']}"] if len(names) < _SHOWN else []
            looked += len(users)
            progress("looking for users who exist", looked, content.taken)
        if count:
            more = ", …" if count > len(names) else ""
            raise UsersExist(f"{count} of {content.taken} users exist already: {', '.join(names)}{more}")

    async def _raise_tokens(self, token: int) -> None:
        """No fencing token is used twice, not even after a restore into an empty Redis."""
        for shard in range(self._keys.shards):
            key = self._keys.shard_prefix(shard) + "tok"
            behind = token - int(await self._client.get(key) or 0)
            if behind > 0:
                await self._client.incrby(key, behind)

    async def _write_other(self, record: Record) -> int:
        """1 for an API key that was written."""
        if record["kind"] == "catalogue":
            for key, item in record["items"].items():  # one that was put since stays
                await self._client.hsetnx(catalogue_key(record["tenant"], bucket_of(key)), key, item)
            return 0
        if record["kind"] == "tenant":
            await self._write_quality(record["tenant"], record["quality"])
            await self._settings.restore(record["tenant"], record.get("settings", {}))
            if self._selection.into is None:  # as API keys: they are of the tenant that registered them
                await self._webhooks.restore(record["tenant"], record.get("webhooks", {}))
            for part, key in TENANT_SUMS.items():
                sums = record.get(part, {})
                if sums and not await self._client.exists(key(record["tenant"])):
                    await self._client.hset(key(record["tenant"]), mapping=sums)
            return 0
        name, fields = api_key(record["id"]), record["fields"]
        # A key that exists stays as it is: one that was revoked since must not open anything again.
        written = not await self._client.exists(name)
        if written:
            await self._client.hset(name, mapping=fields)
        await self._client.zadd(tenant_api_keys(fields["tenant"]), {record["id"]: 0})
        await self._client.zadd(ALL_API_KEYS, {record["id"]: 0})
        await self._client.zadd(TENANTS, {fields["tenant"]: 0})
        return int(written)

    async def _write_quality(self, tenant: str, sums: dict[str, str]) -> None:
        """The sums of a tenant who has none here; they count the same in whichever shard they are."""
        prefix = self._keys.user(tenant, "").member.split(":")[0] + ":"
        shards = [self._keys.shard_prefix(shard) + "quality" for shard in range(self._keys.shards)]
        fields = [f"{prefix}{scorer}.n" for scorer in ("profile", "engine")]
        for shard in shards:
            if any(await self._client.hmget(shard, fields)):
                return
        if sums:
            await self._client.hset(shards[0], mapping={prefix + name: value for name, value in sums.items()})


async def key_space(redis: RedisClient, shards: int) -> KeySpace:
    """The key space of a Redis that is to be written to; `shards` where it is empty. Writes nothing.
    Raises AlignXError when its data are of another schema version."""
    client: Any = redis
    if await Schema(redis).steps():
        raise AlignXError("The data in Redis are of an older schema version. Run python -m services.admin migrate")
    return KeySpace(int(await client.get(SHARDS_KEY) or shards))
