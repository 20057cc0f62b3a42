"""A tenant's items in Redis: counts and neighbours, and the journals of users from which they are made.

A user's keys and an item's lie on different nodes of a cluster, so no script covers both. A reader first stores the
user's new journal together with the changes that it makes (lua/journal.lua), then adds them to each bucket, which
remembers the batch (lua/apply.lua), and then settles it: whoever finds changes of a reader that has died adds them
again, and a bucket that has them already says so. So each event counts once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import uuid4

import orjson

from services.storage.connection import RedisClient, Script, read_script
from services.storage.key_names import item_keys, mixture_key
from services.traffic.counts import FAST_H, MAX_NEIGHBOURS, SLOW_H, Counts
from services.traffic.items import BUCKETS, Contact, bucket_of
from services.traffic.journal import ENTRY_CHARS, Change, Changes, Journal, read_recent

MAX_ITEMS: Final = 100_000
"""Items and categories counted for a tenant; the ones met least lately make room."""
KEEP_MS: Final = 3_600_000
"""How long a bucket remembers a settled batch: longer than any reader hangs."""
_OUT: Final = "out:"
_ROUNDED_UP: Final = -(-MAX_ITEMS // BUCKETS)


@dataclass(frozen=True, slots=True)
class StoredJournal:
    """A user's journal, and the changes of it that are not settled."""

    journal: Journal
    cursor: str = "0-0"
    """Id of the last event that it includes."""
    token: str = ""
    """Of the changes; empty for none."""
    is_sent: bool = False
    changes: Mapping[int, str] = field(default_factory=dict)
    """By bucket, as lua/apply.lua takes them."""

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> "StoredJournal":
        return cls(
            Journal.parse(fields.get("likes", ""), fields.get("shown", "")),
            fields.get("cur", "0-0"),
            fields.get("tok", ""),
            "sent" in fields,
            {int(name.removeprefix(_OUT)): text for name, text in fields.items() if name.startswith(_OUT)},
        )


class Owner(NamedTuple):
    """A user as of the moment in which their log was read."""

    state: str = ""
    """The key of the user's state; empty for a journal without a user."""
    born: str | None = None
    edits: str | None = None


NOBODY: Final = Owner()


class ItemStore:
    """Reads and writes of the counts of items. Raises the errors of Redis."""

    def __init__(self, redis: RedisClient) -> None:
        self.redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._journal = Script(redis, read_script("services.traffic", "journal"))
        self._apply = Script(redis, read_script("services.traffic", "apply"))
        self._settle = Script(redis, read_script("services.traffic", "settle"))
        self._acknowledge = Script(redis, read_script("services.traffic", "acknowledge"))
        self._learn = Script(redis, read_script("services.traffic", "learn"))

    async def journal(self, key: str) -> StoredJournal:
        return StoredJournal.parse(await self.redis.hgetall(key))

    async def likes(self, key: str) -> list[Contact]:
        """The latest of the journal that make neighbours, oldest first."""
        return read_recent(await self.redis.hget(key, "likes") or "")

    async def met(self, key: str) -> tuple[int, int]:
        """Items of the journal that the user took, and all."""
        pipe = self.redis.pipeline(transaction=False)
        for name in ("likes", "shown"):
            pipe.hstrlen(key, name)
        taken, shown = await pipe.execute()
        return taken // ENTRY_CHARS, (taken + shown) // ENTRY_CHARS

    async def write(
        self, key: str, stored: StoredJournal, cursor: str, changes: Changes, owner: Owner = NOBODY
    ) -> bool:
        """Stores a journal that has got further events, with its changes; False where another reader came first, or
        the owner is no longer the same."""
        texts: list[str | bytes] = [*stored.journal.texts()]
        for bucket, text in _encode(changes).items():
            texts += [str(bucket), text]
        names = [key, owner.state] if owner.state else [key]
        arguments = {"cursor": stored.cursor, "new_cursor": cursor, "token": uuid4().hex}
        owned = {"born": owner.born or "", "edits": owner.edits or ""}
        return bool(await self._journal.run(names, *texts, **arguments, **owned))

    async def settle(self, tenant: str, key: str, stored: StoredJournal) -> None:
        """Adds the journal's changes to the counts, each once, however often this breaks off."""
        if not stored.is_sent:
            await self._apply.run_each([self._addition(tenant, stored.token, *one) for one in stored.changes.items()])
            if not await self._settle.run([key], token=stored.token, is_over=False):
                return
        known = orjson.dumps({"token": stored.token, "keep_ms": KEEP_MS})
        await self._acknowledge.run_each(
            [([item_keys(tenant, bucket) + "applied"], [known]) for bucket in stored.changes]
        )
        await self._settle.run([key], token=stored.token, is_over=True)

    @staticmethod
    def _addition(tenant: str, token: str, bucket: int, changes: str) -> tuple[list[str], list[bytes]]:
        prefix = item_keys(tenant, bucket)
        arguments = {
            "token": token,
            "items": prefix,
            "slow_h": SLOW_H,
            "fast_h": FAST_H,
            "max_items": _ROUNDED_UP,
            "max_neighbours": MAX_NEIGHBOURS,
            "changes": orjson.Fragment(changes),
        }
        return [prefix + "counts", prefix + "applied"], [orjson.dumps(arguments)]

    async def counts(self, tenant: str, keys: Sequence[str]) -> dict[str, Counts]:
        """Of the items and categories that are known."""
        found = await read_buckets(self.redis, lambda bucket: item_keys(tenant, bucket) + "counts", keys)
        return {key: Counts.parse(text) for key, text in found.items()}

    async def neighbours(self, tenant: str, keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """Of each item, the users who liked both, by the other item."""
        pipe = self.redis.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(item_keys(tenant, bucket_of(key)) + key)
        return dict(zip(keys, await pipe.execute() if keys else [], strict=True))

    async def learned(self, tenant: str) -> dict[str, str]:
        """What is learned of each kind of choices (traffic/mixture.py)."""
        fields: dict[str, str] = await self.redis.hgetall(mixture_key(tenant))
        return fields

    async def learn(self, tenant: str, kind: str, before: str, after: str) -> str:
        """What is stored then: `after`, unless another reader has replaced `before`."""
        return str(await self._learn.run([mixture_key(tenant)], kind=kind, before=before, after=after))


async def read_buckets(redis: RedisClient, name_of: Callable[[int], str], keys: Iterable[str]) -> dict[str, str]:
    """The fields `keys` that there are, each of the hash that `name_of` names for its bucket."""
    by_bucket: dict[int, list[str]] = {}
    for key in dict.fromkeys(keys):
        by_bucket.setdefault(bucket_of(key), []).append(key)
    pipe = redis.pipeline(transaction=False)
    for bucket, some in by_bucket.items():
        pipe.hmget(name_of(bucket), some)
    answers = await pipe.execute() if by_bucket else []
    return {
        key: text
        for some, texts in zip(by_bucket.values(), answers, strict=True)
        for key, text in zip(some, texts, strict=True)
        if text
    }


def _encode(changes: Changes) -> dict[int, bytes]:
    """By bucket, as lua/apply.lua takes them."""
    buckets: dict[int, dict[str, Any]] = {}
    for key, change in changes.items():
        if not change.is_empty:
            buckets.setdefault(bucket_of(key), {})[key] = _document(change)
    return {bucket: orjson.dumps(documents, option=orjson.OPT_NON_STR_KEYS) for bucket, documents in buckets.items()}


def _document(change: Change) -> dict[str, Any]:
    return {
        "u": change.users,
        "l": change.likers,
        "s": {hour: users for hour, users in change.shown.items() if users},
        "t": {hour: users for hour, users in change.taken.items() if users},
        "n": {other: users for other, users in change.neighbours.items() if users},
    }
