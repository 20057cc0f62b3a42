"""An endpoint that keeps what it gets, and a sender between it and the tests' Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from alignx import WebhookEvent, verify_webhook
from alignx.schemas.webhooks import WebhookCreated, WebhookDelivery, WebhookRequest
from services.preference.queue import Queue
from services.preference.webhooks.addresses import open_session
from services.preference.webhooks.deliveries import Deliveries
from services.preference.webhooks.endpoint_store import EndpointStore
from services.preference.webhooks.outbox import Outbox
from services.preference.webhooks.sender import WebhookMetrics, WebhookSender
from services.preference.webhooks.signing import WebhookSecrets
from services.preference.webhooks.webhook_service import WebhookService
from services.settings import QueueSettings, SummarySettings, WebhookSettings
from tests.unit.services.preference.rig import AT_ONCE, TENANT, Rig, opened

SECRETS = WebhookSecrets("t" * 16)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """Answers 204, or what `answer` says."""

    url: str = ""
    answer: Answer | None = None
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.read()))
        return await self.answer(request) if self.answer else web.Response(status=204)

    def events(self, secret: str) -> list[WebhookEvent]:
        """Those that verify with the secret: all of them, or an error."""
        return [verify_webhook(headers, body, secret) for headers, body in self.requests]


def always(status: int, gate: asyncio.Event | None = None) -> Answer:
    """Once the gate is open, if there is one."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        if gate:
            await gate.wait()
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status in (302, 307) else {})

    return answer


@asynccontextmanager
async def receiving(answer: Answer | None = None) -> AsyncIterator[Receiver]:
    receiver, app = Receiver(answer=answer), web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Sending:
    rig: Rig
    service: WebhookService
    deliveries: Deliveries
    sender: WebhookSender
    registry: CollectorRegistry

    async def register(self, url: str, tenant: str = TENANT, **more: Any) -> WebhookCreated:
        return await self.service.create(tenant, WebhookRequest(url=url, **more))

    async def write(self, user: str = "ada", tenant: str = TENANT) -> None:
        """A further version of the user."""
        await self.rig.put("I like tea", user=user, tenant=tenant, at_once=True)
        await self.rig.commit(await self.rig.take(user, tenant))

    async def send(self) -> None:
        """All that is due, as a worker sends it."""
        for queue in (await self.deliveries.due())[0]:
            await self.sender.send_due(queue)

    async def recent(self, endpoint: str, tenant: str = TENANT) -> tuple[WebhookDelivery, ...]:
        return await self.service.deliveries(tenant, endpoint, 100)

    async def hurry(self) -> None:
        """What waits for a retry or for the end of a lease is due."""
        async for due in self.rig.redis.scan_iter("pi:*:hook:*:due"):
            for event in await self.rig.redis.zrange(due, 0, -1):
                await self.rig.redis.zadd(due, {event: 1})
        async for hooks in self.rig.redis.scan_iter("pi:*:hooks", _type="zset"):
            for member in await self.rig.redis.zrange(hooks, 0, -1):
                await self.rig.redis.zadd(hooks, {member: 1})

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def sending(redis_url: str, shards: int = 2, **fields: Any) -> AsyncIterator[Sending]:
    """`fields` are of the settings of webhooks; addresses of this machine are allowed."""
    settings = WebhookSettings(**{"allow_private": True, **fields})
    async with opened(redis_url, shards=shards) as rig:
        endpoints, registry = EndpointStore(rig.redis, allow_private=settings.allow_private), CollectorRegistry()
        deliveries, outbox = Deliveries(rig.redis, rig.store.keys), Outbox(endpoints, rig.store.keys)
        queue = Queue(rig.redis, QueueSettings(**AT_ONCE | {"shards": shards}), SummarySettings(), outbox)
        async with open_session(allow_private=settings.allow_private) as session:
            sender = WebhookSender(deliveries, endpoints, SECRETS, session, settings, WebhookMetrics(registry))
            service = WebhookService(endpoints, deliveries, SECRETS)
            yield Sending(replace(rig, queue=queue), service, deliveries, sender, registry)
