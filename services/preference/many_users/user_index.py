"""Pages through a tenant's users in the order of their ids.

Each shard has a sorted set of the tenant's users in it, which the scripts that create and erase a user write with the
user's own keys: a user is listed exactly as long as something is kept of them. A page merges the shards. Users are
spread evenly by a hash, so each shard is first asked for its share and a little more; one that turns out to hold more
of the page is asked once again.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from alignx.schemas.many_users import ListedUser, UserPage
from services.errors import StoreUnavailable
from services.storage.connection import RedisClient, Script, ask_shards, read_script
from services.storage.key_names import KeySpace

_FIELDS: Final = orjson.dumps({"fields": ("born", "n", "pend", "ver", "ver.at")})
_AT_ONCE: Final = 200
"""Users whose facts are read in one pipeline."""
_AFTER_ALL = b"\xff"
"""Behind a prefix: greater than whatever begins with it, since no UTF-8 holds this byte."""


class UserIndex:
    """Raises StoreUnavailable while a part of a cluster is away: a list without its users would be wrong."""

    def __init__(self, redis: RedisClient, keys: KeySpace) -> None:
        self.redis = redis
        self.keys = keys
        self._facts = Script(redis, read_script("services.preference", "list_facts"))

    async def page(self, tenant: str, prefix: str = "", after: str | None = None, limit: int = 100) -> UserPage:
        names, total = await self.names(tenant, prefix, after, limit + 1)
        listed: list[ListedUser] = []
        for start in range(0, min(limit, len(names)), _AT_ONCE):
            listed += await self._read_facts(tenant, names[start : min(limit, start + _AT_ONCE)])
        return UserPage(users=tuple(listed), total=total, next=names[limit - 1] if len(names) > limit else None)

    async def names(self, tenant: str, prefix: str, after: str | None, count: int) -> tuple[list[str], int]:
        """The first `count` users with the prefix behind `after`, and how many have the prefix in all."""
        start = b"(" + after.encode() if after is not None and after >= prefix else _first_of(prefix)
        share = count / self.keys.shards
        first = min(count, math.ceil(share + 4 * math.sqrt(share)) + 1)
        shards = range(self.keys.shards)
        found, total = await self._ask(tenant, prefix, dict.fromkeys(shards, start), first)
        merged = sorted(name for names in found.values() for name in names)
        last = merged[:count][-1] if merged else ""
        cut = {
            shard: b"(" + names[-1].encode()
            for shard, names in found.items()
            if len(names) == first and (len(merged) < count or names[-1] < last)
        }
        if cut and first < count:
            further, _ = await self._ask(tenant, prefix, cut, count)
            merged = sorted([*merged, *(name for names in further.values() for name in names)])
        return merged[:count], total

    async def _ask(
        self, tenant: str, prefix: str, starts: Mapping[int, bytes], count: int
    ) -> tuple[dict[int, list[str]], int]:
        """Names of each shard from where it is to start, and how many of these shards have the prefix."""
        indexes = {shard: self.keys.user_index(tenant, shard) for shard in starts}
        start_of = {indexes[shard]: start for shard, start in starts.items()}
        end = b"(" + prefix.encode() + _AFTER_ALL if prefix else b"+"

        def read(pipe: Any, index: str) -> None:
            pipe.zrangebylex(index, start_of[index], end, 0, count)
            pipe.zlexcount(index, _first_of(prefix), end)

        answers = await ask_shards(self.redis, indexes, read)
        if len(answers) < len(starts):
            raise StoreUnavailable(retry_after=1.0)
        return {shard: names for shard, (names, _) in answers.items()}, sum(count for _, count in answers.values())

    async def _read_facts(self, tenant: str, names: Sequence[str]) -> list[ListedUser]:
        """Of those who are still there, by one script a shard: a command a user would cost this process the more."""
        states: dict[int, list[tuple[int, str]]] = {}
        for place, name in enumerate(names):
            shard, state = self.keys.shard(tenant, name), self.keys.state(tenant, name)
            states.setdefault(shard, []).append((place, state))
        answers = await self._facts.run_each([([state for _, state in some], [_FIELDS]) for some in states.values()])
        facts: list[Sequence[str | None]] = [()] * len(names)
        for some, answer in zip(states.values(), answers, strict=True):
            for (place, _), fields in zip(some, answer, strict=True):
                facts[place] = fields
        # Without `born` the user was erased a moment ago.
        return [_parse(name, own) for name, own in zip(names, facts, strict=True) if own[0]]


def _first_of(prefix: str) -> bytes:
    return b"[" + prefix.encode() if prefix else b"-"


def _parse(name: str, facts: Sequence[str | None]) -> ListedUser:
    born, events, pending, version, updated = facts
    return ListedUser(
        user=name,
        created_at=_time_of(born or "0"),
        events=int(events or 0),
        pending=max(0, int(pending or 0)),
        version=int(version or 0),
        updated_at=_time_of(updated) if updated else None,
    )


def _time_of(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
