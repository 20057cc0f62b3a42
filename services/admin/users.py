"""A user as one record: read from Redis at one moment, put back in one step.

All strings are as Redis holds them, so that what is exported after a restore is the same to the byte.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Literal

import orjson
from redis.asyncio import Redis

from services.admin.records import Record
from services.core.keys import KeySpace, UserKeys

_LIVE_MS = 60_000

Restored = Literal["NEW", "REPLACED", "SAME_BACKUP", "EXISTS"]


def script_source(name: str) -> str:
    return (files("services.admin") / "lua" / name).read_text(encoding="utf-8")


def kept_keys(keys: UserKeys) -> list[str]:
    """The keys that a record holds, in the order of the scripts."""
    return [keys.state, keys.log, keys.profile, keys.summary, keys.versions, keys.dead, keys.idempotency]


class UserRecords:
    """Users of one Redis as records."""

    def __init__(self, redis: Redis, keys: KeySpace) -> None:
        self.keys = keys
        self._dump: Any = redis.register_script(script_source("dump.lua"))
        self._restore: Any = redis.register_script(script_source("restore.lua"))

    async def read(self, tenant: str, user: str) -> Record | None:
        """None when there is no such user (any more)."""
        row = await self._dump(keys=kept_keys(self.keys.user(tenant, user)))
        if not row:
            return None
        state, log, log_last, profile, summary, versions, set_aside, set_aside_last, idempotency = row
        return {
            "kind": "user",
            "tenant": tenant,
            "user": user,
            "state": _fields(state),
            "log": log,
            "log_last": log_last,
            "profile": profile,
            "summary": summary,
            "versions": _fields(versions),
            "set_aside": set_aside,
            "set_aside_last": set_aside_last,
            "idempotency": _fields(idempotency),
        }

    async def write(self, record: Record, backup: str, *, replace: bool) -> Restored:
        """Puts the user back, unless one of this name exists and is not to be replaced."""
        keys = self.keys.user(record["tenant"], record["user"])
        word: Restored = await self._restore(
            keys=[*kept_keys(keys), keys.live, keys.ready, keys.leases],
            args=[keys.member, backup, int(replace), orjson.dumps(record), _LIVE_MS],
        )
        return word


def _fields(flat: Sequence[str]) -> dict[str, str]:
    """A hash from field, value, …; sorted, so that equal users make equal records."""
    return dict(sorted(zip(flat[::2], flat[1::2], strict=True)))
