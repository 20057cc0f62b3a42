"""The outbox of conversations that are to become events of their users.

A chat leaves its conversation here before it sends the end of its answer (`Outcomes.keep_chat`), so the death of a
process loses none that a caller has seen whole. The preference service takes it out in the step that appends the event
(append.lua), so it becomes one event, however often that is tried. An erasure drops what waits.
"""

from typing import Any, Final

from services.storage.connection import RedisClient, Script, ask_shards, read_script
from services.storage.key_names import KeySpace

LEASE_S: Final = 30.0


class ChatOutbox:
    """What waits; raises the errors of Redis."""

    def __init__(self, redis: RedisClient, keys: KeySpace) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._keys = keys
        self._next = Script(redis, read_script("services.traffic", "next_unread"))
        self._settle = Script(redis, read_script("services.outcomes", "settle_chats"))

    async def due_shards(self) -> tuple[list[int], float]:
        """Shards of users whose conversations are due, and seconds since the first of them was."""
        seconds, micros = await self._redis.time()
        now = seconds * 1000 + micros / 1000
        prefixes = {shard: self._keys.shard_prefix(shard) for shard in range(self._keys.shards)}

        def ask(pipe: Any, prefix: str) -> None:
            pipe.zrangebyscore(prefix + "chats", "-inf", now, 0, 1, withscores=True)

        answers = await ask_shards(self._redis, prefixes, ask)
        first = {shard: users[0][1] for shard, (users,) in answers.items() if users}
        return list(first), (now - min(first.values())) / 1000 if first else 0.0

    async def claim(self, shard: int) -> tuple[str, str] | None:
        """Tenant and user of a user who is due; due again after the lease, unless settled before."""
        answer = await self._next.run([self._keys.shard_prefix(shard) + "chats"], lease_ms=LEASE_S * 1000)
        return KeySpace.split_member(answer[0]) if answer else None

    async def waiting(self, tenant: str, user: str) -> list[tuple[str, str]]:
        """Response ids and events as JSON, oldest first."""
        chats: dict[str, str] = await self._redis.hgetall(self._keys.user(tenant, user).chats)
        return sorted(chats.items())

    async def settle(self, tenant: str, user: str, in_s: float = 0.0) -> None:
        """What still waits, or has come since, is due in so many seconds."""
        keys = self._keys.user(tenant, user)
        await self._settle.run([keys.chats, keys.waiting_chats], member=keys.member, in_ms=int(in_s * 1000))

    async def drop(self, tenant: str, user: str, *response_ids: str) -> None:
        if response_ids:
            await self._redis.hdel(self._keys.user(tenant, user).chats, *response_ids)
