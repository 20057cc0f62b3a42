"""What the scripts of the queue leave for webhook endpoints: the event, in the same step as the write it tells of.

Per endpoint and shard there is a sorted set of the events that wait, by when they are due, and a hash of their records
(lua/emit.lua). A sorted set rather than a stream: it holds the leases and the hours until a retry too, which the
pending entries of a stream's group cannot. All keys of a user's events are in the user's shard, so an erasure takes
them out in its own step (lua/forget_deliveries.lua).

While a tenant has no endpoint that wants an event, the scripts get none and write nothing.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson

from alignx.schemas.webhooks import EventType, Webhook, WebhookDelivery, WebhookEvent
from services.preference.webhooks.endpoint_store import EndpointStore
from services.storage.key_names import KeySpace
from services.storage.timed_cache import TimedCache

Hook = dict[str, Any] | bool
"""The argument `hook` of a script; False for none."""


def encode_delivery(delivery: WebhookDelivery) -> bytes:
    return orjson.dumps(delivery.model_dump(mode="json", exclude_none=True))


def build_hook(keys: KeySpace, tenant: str, endpoints: list[str], event: WebhookEvent) -> dict[str, Any]:
    """`event` as the argument of a script, for a new delivery to each of the endpoints."""
    user = event.data.user
    shard = keys.shard(tenant, user) if user is not None else 0
    names = keys.outbox(shard, tenant, "")
    delivery = WebhookDelivery(id=f"msg_{uuid4().hex}", event=event)
    return {
        "id": delivery.id,
        "record": encode_delivery(delivery).decode(),
        "endpoints": endpoints,
        "member": names.member,
        "own": names.own.removesuffix(":"),
        "hooks": names.hooks,
        "index": keys.user(tenant, user).hooks if user is not None and event.type != "user.erased" else "",
    }


class Outbox:
    """Knows which endpoints want an event; asks Redis once a second for a tenant who writes."""

    def __init__(self, endpoints: EndpointStore, keys: KeySpace) -> None:
        self._endpoints: TimedCache[tuple[Webhook, ...]] = TimedCache(endpoints.all)
        self._keys = keys

    async def hook(self, tenant: str, user: str, kind: EventType, **data: Any) -> Hook:
        """The event for a script, or False where no endpoint wants it."""
        endpoints = [
            endpoint.id
            for endpoint in await self._endpoints.read(tenant)
            if endpoint.disabled is None and kind in endpoint.events
        ]
        if not endpoints:
            return False
        content = {"type": kind, "timestamp": datetime.now(UTC), "data": {"user": user, **data}}
        return build_hook(self._keys, tenant, endpoints, WebhookEvent.model_validate(content))
