"""The way of events to an endpoint of the test's own, and every way in which it can answer."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from alignx.schemas.webhooks import WebhookChange, WebhookRotation
from services.errors import WebhookUnknown
from services.preference.webhooks import sender
from services.preference.webhooks.addresses import LOOKING_UP, PooledResolver
from services.preference.webhooks.sender import retry_delay_s
from services.preference.webhooks.signing import WebhookSecrets
from services.settings import WebhookSettings
from services.storage.key_names import webhooks_key
from tests.unit.services.preference.rig import TENANT, USER
from tests.unit.services.preference.webhooks.receiving import (
    Receiver,
    Sending,
    always,
    receiving,
    sending,
)
from tests.unit.services.preference.working import until

pytestmark = pytest.mark.anyio


async def test_an_event_arrives_signed_and_once(out: Sending, receiver: Receiver) -> None:
    endpoint = await out.register(receiver.url)
    await out.write()
    await out.send()
    await out.hurry()
    await out.send()
    ((headers, body),) = receiver.requests
    fields = {name.lower(): value for name, value in headers.items()}
    content = Webhook(endpoint.secret).verify(body, fields)
    assert content["type"] == "preferences.version"
    assert content["data"] == {"user": USER, "version": 1}
    assert fields["content-type"] == "application/json"
    (delivery,) = await out.recent(endpoint.id)
    assert (delivery.status, delivery.attempts, delivery.response) == ("delivered", 1, 204)
    assert delivery.id == fields["webhook-id"]
    assert out.count("alignx_webhook_attempts_total", outcome="delivered") == 1


async def test_a_name_is_looked_up_on_behalf_of_the_tenant(
    out: Sending, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[str, str]]()

    async def resolve(
        _: PooledResolver, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> Any:
        asked.append((host, LOOKING_UP.get()))
        fields = {"hostname": host, "host": "127.0.0.1", "port": port, "proto": 0, "flags": socket.AI_NUMERICHOST}
        return [fields | {"family": socket.AF_INET}]

    monkeypatch.setattr(PooledResolver, "resolve", resolve)
    await out.register(receiver.url.replace("127.0.0.1", "shop.example"))
    await out.write()
    await out.send()
    assert len(receiver.requests) == 1
    assert asked == [("shop.example", TENANT)]


async def test_a_sender_that_dies_after_its_claim_loses_nothing(out: Sending, receiver: Receiver) -> None:
    endpoint = await out.register(receiver.url)
    await out.write()
    names = out.deliveries.keys.outbox(out.deliveries.keys.shard(TENANT, USER), TENANT, endpoint.id)
    _, taken = await out.deliveries.claim(names, 30, 4)  # and no more is heard of it
    assert len(taken) == 1
    await out.send()
    assert receiver.requests == []
    await out.hurry()  # the lease ends
    await out.send()
    assert [event.data.version for event in receiver.events(endpoint.secret)] == [1]


async def test_a_sender_that_is_cancelled_while_it_sends_sends_again(redis_url: str) -> None:
    gate = asyncio.Event()
    async with sending(redis_url) as out, receiving(always(200, gate)) as receiver:
        endpoint = await out.register(receiver.url)
        await out.write()
        work = asyncio.create_task(out.sender.run())
        await until(lambda: len(receiver.requests) == 1)
        out.sender.stop(work)
        await asyncio.gather(work, return_exceptions=True)
        gate.set()
        await out.hurry()
        await out.send()
        assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
        assert len(receiver.requests) == 2
        assert [one.status for one in await out.recent(endpoint.id)] == ["delivered"]


@pytest.mark.parametrize("status", [302, 307, 400, 404, 429, 500, 503])
async def test_other_answers_are_tried_again_and_redirects_not_followed(redis_url: str, status: int) -> None:
    async with sending(redis_url) as out, receiving(always(status)) as receiver:
        endpoint = await out.register(receiver.url)
        await out.write()
        await out.send()
        await out.send()  # not due before its delay
        assert len(receiver.requests) == 1
        (delivery,) = await out.recent(endpoint.id)
        assert (delivery.status, delivery.response, delivery.attempts) == ("waiting", status, 1)
        assert delivery.next_at is not None
        assert delivery.next_at > datetime.now(UTC)
        receiver.answer = None
        await out.hurry()
        await out.send()
        (delivery,) = await out.recent(endpoint.id)
        assert (delivery.status, delivery.attempts, delivery.next_at) == ("delivered", 2, None)
        assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
        assert (await out.service.endpoints.read(TENANT, endpoint.id)).webhook.failing_since is None


async def test_after_the_last_attempt_it_is_held_as_failed_and_can_be_replayed(redis_url: str) -> None:
    async with sending(redis_url, attempts=3) as out, receiving(always(500)) as receiver:
        endpoint = await out.register(receiver.url)
        await out.write()
        for _ in range(5):
            await out.send()
            await out.hurry()
        assert len(receiver.requests) == 3
        (delivery,) = await out.recent(endpoint.id)
        assert (delivery.status, delivery.attempts) == ("failed", 3)
        receiver.answer = None
        assert await out.service.replay(TENANT, endpoint.id, delivery.id) == delivery.id
        await out.send()
        (again,) = await out.recent(endpoint.id)
        assert (again.id, again.status, again.attempts) == (delivery.id, "delivered", 1)
        with pytest.raises(WebhookUnknown):
            await out.service.replay(TENANT, endpoint.id, "msg_" + "0" * 32)


async def test_an_endpoint_that_is_gone_or_fails_for_long_is_disabled_with_its_reason(redis_url: str) -> None:
    async with sending(redis_url) as out, receiving(always(410)) as receiver:
        gone = await out.register(receiver.url)
        await out.write()
        await out.send()
        found = (await out.service.endpoints.read(TENANT, gone.id)).webhook
        assert found.disabled == "It answered 410 Gone."
        receiver.answer = always(500)
        await out.service.change(TENANT, gone.id, WebhookChange(enabled=True))
        long_ago = (datetime.now(UTC) - timedelta(days=4)).isoformat()
        await out.rig.redis.hset(webhooks_key(TENANT), f"{gone.id}.failing", long_ago)
        await out.hurry()
        await out.send()
        found = (await out.service.endpoints.read(TENANT, gone.id)).webhook
        assert found.disabled == "Nothing was taken for too long."
        asked = len(receiver.requests)
        await out.hurry()
        await out.send()
        assert len(receiver.requests) == asked
        receiver.answer = None
        await out.hurry()
        await out.service.change(TENANT, gone.id, WebhookChange(enabled=True))
        await out.send()
        assert [one.status for one in await out.recent(gone.id)] == ["delivered"]


async def test_too_many_that_wait_disable_an_endpoint(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "MOST_WAITING", 2)
    async with sending(redis_url) as out, receiving(always(500)) as receiver:
        endpoint = await out.register(receiver.url)
        for _ in range(3):
            await out.write()
        await out.send()
        assert (await out.service.endpoints.read(TENANT, endpoint.id)).webhook.disabled is not None
        receiver.answer = None
        await out.hurry()
        await out.service.change(TENANT, endpoint.id, WebhookChange(enabled=True))
        await out.send()
        assert [one.status for one in await out.recent(endpoint.id)] == ["delivered"] * 3


async def test_after_a_new_internal_token_nothing_is_signed_with_a_secret_that_nobody_has(
    out: Sending, receiver: Receiver
) -> None:
    endpoint = await out.register(receiver.url)
    await out.write()
    out.sender.secrets = WebhookSecrets("another internal token")
    await out.send()
    assert receiver.requests == []
    assert "rotate" in ((await out.service.endpoints.read(TENANT, endpoint.id)).webhook.disabled or "")


async def test_rotation_signs_twice_for_the_overlap_and_once_after_it(out: Sending, receiver: Receiver) -> None:
    old = await out.register(receiver.url)
    new = await out.service.rotate(TENANT, old.id, WebhookRotation(overlap_s=3_600))
    await out.write()
    await out.send()
    assert new.secret != old.secret
    assert receiver.events(old.secret) == receiver.events(new.secret)
    latest = await out.service.rotate(TENANT, old.id, WebhookRotation(overlap_s=0))
    await out.write()
    await out.send()
    headers, body = receiver.requests[-1]
    assert len(headers["webhook-signature"].split()) == 1
    Webhook(latest.secret).verify(body, {name.lower(): value for name, value in headers.items()})
    stored = str(await out.rig.redis.hgetall(webhooks_key(TENANT)))
    assert not any(one.secret.removeprefix("whsec_") in stored for one in (old, new, latest))


async def test_private_addresses_and_plain_http_are_never_asked(
    out: Sending, receiver: Receiver, redis_url: str
) -> None:
    endpoint = await out.register(receiver.url)
    await out.write()
    async with sending(redis_url, allow_private=False) as strict:
        await strict.send()
    assert receiver.requests == []
    (delivery,) = await out.recent(endpoint.id)
    assert (delivery.status, delivery.error) == ("waiting", "address")


async def test_the_body_of_an_answer_is_not_read(redis_url: str) -> None:
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
                written += 65_536
        except ConnectionError:
            return response

    async with sending(redis_url) as out, receiving(endless) as receiver:
        endpoint = await out.register(receiver.url)
        await out.write()
        await out.send()
        assert [one.status for one in await out.recent(endpoint.id)] == ["delivered"]
        await asyncio.sleep(0.1)
        before = written
        await asyncio.sleep(0.1)
        assert written == before


async def test_a_tenant_whose_endpoint_hangs_delays_no_other(redis_url: str) -> None:
    gate = asyncio.Event()
    async with sending(redis_url, concurrency=64) as out, receiving(always(200, gate)) as dead, receiving() as good:
        for _ in range(10):
            await out.register(dead.url, tenant="deadworks")
        endpoint = await out.register(good.url)
        for n in range(8):
            await out.write(f"user{n}", "deadworks")
        for n in range(8):
            await out.write(f"user{n}")
        work = asyncio.create_task(out.sender.run())
        await until(lambda: len(good.requests) == 8)
        assert sorted(event.data.user or "" for event in good.events(endpoint.secret)) == [f"user{n}" for n in range(8)]
        assert len(dead.requests) <= 64 // 8
        gate.set()
        out.sender.stop(work)
        await asyncio.gather(work, return_exceptions=True)


async def test_endpoints_that_fail_leave_half_of_the_requests_to_others(redis_url: str) -> None:
    gate = asyncio.Event()
    async with sending(redis_url, concurrency=64) as out, receiving(always(500)) as dead, receiving() as good:
        tenants = [f"dead{n}" for n in range(30)]
        for tenant in tenants:
            await out.register(dead.url, tenant=tenant)
            await out.write("ada", tenant)
        await out.send()
        dead.requests.clear()
        dead.answer = always(500, gate)
        await out.hurry()
        work = asyncio.create_task(out.sender.run())
        await until(lambda: len(dead.requests) == 64 // 4 // 2)
        endpoint = await out.register(good.url)
        await out.write()
        await until(lambda: len(good.events(endpoint.secret)) == 1)
        assert len(dead.requests) == 64 // 4 // 2
        gate.set()
        out.sender.stop(work)
        await asyncio.gather(work, return_exceptions=True)


async def test_a_test_event_names_no_user(out: Sending, receiver: Receiver) -> None:
    endpoint = await out.register(receiver.url, events=("user.erased",))
    event_id = await out.service.test(TENANT, endpoint.id)
    await out.send()
    (event,) = receiver.events(endpoint.secret)
    assert (event.type, event.data.user) == ("webhook.test", None)
    assert [one.id for one in await out.recent(endpoint.id)] == [event_id]


def test_delays_grow_to_a_limit_and_last_for_hours() -> None:
    settings = WebhookSettings()
    delays = [[retry_delay_s(attempts, settings) for _ in range(50)] for attempts in range(1, settings.attempts)]
    assert all(max(later) <= settings.backoff_max_s for later in delays)
    assert all(len(set(later)) > 1 for later in delays)
    longest = sum(min(settings.backoff_s * 2**place, settings.backoff_max_s) for place in range(len(delays)))
    assert 10 * 3_600 < longest < 24 * 3_600
