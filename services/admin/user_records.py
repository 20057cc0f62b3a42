"""A user as one record: read as of one moment, restored in one step.

All strings are as Redis holds them, so that an export after a restore is the same to the byte.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

from redis.exceptions import ResponseError

from services.admin.records import Record
from services.storage.connection import RedisClient, Script, live_settings, read_script
from services.storage.key_names import KeySpace, UserKeys

_TRANSIENT = frozenset(
    {
        "own",
        "tok",
        "t0",
        "due",
        "new.n",
        "new.tok",
        "new.bits",
        "hold",
        "strikes",
        "spent",
        "restored",
        "from",
        "copying",
    }
)
"""Fields of a user's state that a backup leaves out: those of an update under way, and the restored backup's id."""

Existing = Literal["refuse", "keep", "replace", "again"]
"""What to do with a user who exists already. Who came from this very backup stays, but for `again`."""
Restored = Literal["NEW", "REPLACED", "SAME_BACKUP", "EXISTS"]


class UserRecords:
    """Users of one Redis as records."""

    def __init__(self, redis: RedisClient, keys: KeySpace) -> None:
        self.keys = keys
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._restore = Script(redis, read_script("services.admin", "restore"))

    async def read(self, tenant: str, user: str) -> Record | None:
        """None when there is no such user (any more)."""
        before, after, values = {"": ""}, dict[str, str](), list[Any]()
        while before != after:
            before, *values, after = await self._read_once(self.keys.user(tenant, user))
        if not after:
            return None
        return {
            "kind": "user",
            "tenant": tenant,
            "user": user,
            "state": {name: value for name, value in sorted(after.items()) if name not in _TRANSIENT},
            "log": _entries(values[4]),
            "log_last": _last_id(values[5]),
            "profile": values[2] or "",
            "summary": values[3] or "",
            "versions": dict(sorted(values[0].items())),
            "set_aside": _entries(values[6]),
            "set_aside_last": _last_id(values[7]),
            "idempotency": dict(sorted(values[1].items())),
            "rejected": values[8],
            "checkpoint": values[9] or "",
        }

    async def _read_once(self, keys: UserKeys) -> list[Any]:
        """The state, everything else, and the state again: every write of a user changes the state, so
        all is of one moment if both are the same. A script would copy a long history into Lua, and
        Redis would block meanwhile; not every cluster client has transactions."""
        pipe = self._redis.pipeline(transaction=False)
        state, log, profile, summary, versions, dead, idempotency, rejected, checkpoint = keys.permanent
        for fields in (state, versions, idempotency):
            pipe.hgetall(fields)
        for text in (profile, summary):
            pipe.get(text)
        for stream in (log, dead):
            pipe.xrange(stream)
            pipe.xinfo_stream(stream)  # an error for a user who never had one
        pipe.lrange(rejected, 0, -1)
        pipe.get(checkpoint)
        pipe.hgetall(state)
        return [_check_reply(reply) for reply in await pipe.execute(raise_on_error=False)]

    async def write(self, record: Record, backup: str, existing: Existing) -> Restored:
        """Puts the user back, unless one of this name exists and is not to be replaced."""
        keys = self.keys.user(record["tenant"], record["user"])
        word: Restored = await self._restore.run(
            [*keys.own, keys.ready, keys.leases, keys.unread, keys.journal, keys.index],
            member=keys.member,
            user=record["user"],
            backup=backup,
            existing=existing,
            record=record,
            settings=live_settings(self._redis),
            gone=self.keys.gone(record["tenant"], record["user"]),
        )
        return word


def _check_reply(reply: Any) -> Any:
    """The reply; None for a stream that does not exist. Raises what else went wrong."""
    if isinstance(reply, ResponseError) and "no such key" in str(reply):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply


def _entries(values: Sequence[tuple[str, dict[str, str]]] | None) -> list[list[Any]]:
    """[id, [field, value, …]] of each entry of a stream."""
    return [[event_id, [*chain.from_iterable(fields.items())]] for event_id, fields in values or ()]


def _last_id(info: dict[str, Any] | None) -> str:
    """The newest id that a stream ever had."""
    return str(info["last-generated-id"]) if info else ""
