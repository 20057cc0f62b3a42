"""Lists the users of a Redis, each once and in order, without holding them in memory.

SCAN may name a key twice and in any order. The names go through a temporary file (SQLite), which
makes them a sorted list with a length.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any
from urllib.parse import quote

from services.storage.connection import RedisClient
from services.storage.key_names import KeySpace

_SCAN = 1_000
_BATCH = 5_000


class UserList:
    """A sorted list of users in a temporary file."""

    def __init__(self, names: sqlite3.Connection) -> None:
        self._names = names

    def __len__(self) -> int:
        return int(self._names.execute("SELECT count(*) FROM members").fetchone()[0])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """(tenant, user), in the order of their encoded names."""
        for (member,) in self._names.execute("SELECT name FROM members ORDER BY name"):
            yield KeySpace.split_member(member)

    def tenants(self) -> list[str]:
        rows = self._names.execute("SELECT DISTINCT substr(name, 1, instr(name, ':') - 1) FROM members")
        return sorted(KeySpace.split_member(f"{tenant}:")[0] for (tenant,) in rows)


@asynccontextmanager
async def list_users(redis: RedisClient, tenant: str | None = None) -> AsyncIterator[UserList]:
    """The current users, of a tenant or of all."""
    with closing(sqlite3.connect("")) as names:  # no name: a file that SQLite removes by itself
        names.execute("CREATE TABLE members (name TEXT PRIMARY KEY) WITHOUT ROWID")
        members: list[tuple[str]] = []
        async for member in _scan_members(redis, tenant):
            members.append((member,))
            if len(members) >= _BATCH:
                _store(names, members)
        _store(names, members)
        yield UserList(names)


def _store(names: sqlite3.Connection, members: list[tuple[str]]) -> None:
    names.executemany("INSERT OR IGNORE INTO members VALUES (?)", members)
    members.clear()


async def _scan_members(redis: RedisClient, tenant: str | None) -> AsyncIterator[str]:
    client: Any = redis
    pattern = "*" if tenant is None else quote(tenant, safe="")  # leaves no special character of a pattern
    async for key in client.scan_iter(match=f"pi:{{*}}:u:{pattern}:*:st", count=_SCAN):
        yield key.split(":u:", 1)[1].removesuffix(":st")
