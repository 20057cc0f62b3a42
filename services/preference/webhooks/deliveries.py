"""The events that wait for endpoints or have ended, in Redis: one method for each script of lua/."""

from typing import Any, Final

import orjson

from alignx.schemas.webhooks import WebhookDelivery
from services.errors import WebhookUnknown
from services.preference.webhooks.outbox import build_hook, encode_delivery
from services.storage.connection import RedisClient, Script, ask_shards, read_script
from services.storage.key_names import KeySpace, OutboxKeys

KEEP_ENDED: Final = 100
"""Events kept for an endpoint in each shard once they have ended."""
_LOOK: Final = 500


class Deliveries:
    """Raises the errors of Redis."""

    def __init__(self, redis: RedisClient, keys: KeySpace) -> None:
        self.redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self.keys = keys
        self._emit = Script(redis, read_script("services.preference", "emit_test"))
        self._claim = Script(redis, read_script("services.preference", "claim_deliveries"))
        self._settle = Script(redis, read_script("services.preference", "settle_delivery"))
        self._list = Script(redis, read_script("services.preference", "list_deliveries"))
        self._drop = Script(redis, read_script("services.preference", "drop_endpoint"))

    async def add(self, tenant: str, endpoint: str, event: Any) -> str:
        """Leaves an event that tells of no user for one endpoint; its id."""
        hook = build_hook(self.keys, tenant, [endpoint], event)
        await self._emit.run([hook["hooks"]], hook=hook)
        return str(hook["id"])

    async def due(self) -> tuple[list[tuple[int, str, str]], float]:
        """Shard, tenant and endpoint of the queues with an event that is due, longest first, and by how many seconds
        the first of them is."""
        seconds, micros = await self.redis.time()
        now = seconds * 1000 + micros // 1000
        prefixes = {shard: self.keys.shard_prefix(shard) for shard in range(self.keys.shards)}

        def ask(pipe: Any, prefix: str) -> None:
            pipe.zrangebyscore(prefix + "hooks", "-inf", now, 0, _LOOK, withscores=True)

        answers = await ask_shards(self.redis, prefixes, ask)
        rows = sorted((at, shard, member) for shard, (found,) in answers.items() for member, at in found)
        queues = [(shard, *KeySpace.split_member(member)) for _, shard, member in rows]
        return queues, (now - rows[0][0]) / 1000 if rows else 0.0

    async def claim(self, names: OutboxKeys, lease_s: float, most: int) -> tuple[int, list[WebhookDelivery]]:
        """How many events wait, and some that are due; they are due again after the lease."""
        hooks, due, log, _ = names.queue
        arguments = {"member": names.member, "lease_ms": int(lease_s * 1000), "most": most}
        waiting, *records = await self._claim.run([hooks, due, log], **arguments)
        return waiting, list(map(WebhookDelivery.model_validate_json, records))

    async def settle(self, names: OutboxKeys, delivery: WebhookDelivery, in_s: float | None) -> bool:
        """Stores the delivery, due in so many seconds or ended. False if its user was erased."""
        in_ms = -1 if in_s is None else int(in_s * 1000)
        arguments = {"member": names.member, "own": names.own, "id": delivery.id, "in_ms": in_ms, "keep": KEEP_ENDED}
        return bool(await self._settle.run(names.queue, encode_delivery(delivery), **arguments))

    async def recent(self, tenant: str, endpoint: str, most: int) -> list[WebhookDelivery]:
        """Newest first, of those that wait longest and those that ended last."""
        queues = [self.keys.outbox(shard, tenant, endpoint).queue[1:] for shard in range(self.keys.shards)]
        answers = await self._list.run_each([(names, [orjson.dumps({"most": most})]) for names in queues])
        found = [WebhookDelivery.model_validate_json(record) for records in answers for record in records]
        return sorted(found, key=lambda delivery: delivery.event.timestamp, reverse=True)[:most]

    async def replay(self, tenant: str, endpoint: str, delivery_id: str) -> None:
        """Has a delivery be made at once, from its first attempt on. Raises WebhookUnknown."""
        for shard in range(self.keys.shards):
            names = self.keys.outbox(shard, tenant, endpoint)
            value: str | None = await self.redis.hget(names.queue[2], delivery_id)
            if value is None:
                continue
            delivery = WebhookDelivery.model_validate_json(value.partition("\n")[2])
            again = WebhookDelivery(id=delivery.id, event=delivery.event)
            if await self.settle(names, again, 0.0):
                return
        raise WebhookUnknown

    async def drop(self, names: OutboxKeys) -> None:
        """Drops what a shard keeps for an endpoint that is gone."""
        await self._drop.run(names.queue, member=names.member, own=names.own)

    async def sleep(self, names: OutboxKeys) -> None:
        """Takes an endpoint out of those that are looked at; its events wait."""
        await self.redis.zrem(names.hooks, names.member)

    async def wake(self, tenant: str, endpoint: str) -> None:
        """Has all that waits for the endpoint be looked at."""
        for shard in range(self.keys.shards):
            names = self.keys.outbox(shard, tenant, endpoint)
            await self.redis.zadd(names.hooks, {names.member: 0}, lt=True)
