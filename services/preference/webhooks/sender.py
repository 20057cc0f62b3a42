"""Sends the events that wait for webhook endpoints: a task of the worker. Several workers may run.

An event is taken under a lease and settled after the endpoint's answer, so it arrives at least once, through the death
of any process. What fails is tried again after a growing delay, and then held as failed. A tenant's endpoints take an
eighth of the requests under way at most, and all that fail take half, so none that hangs delays the events of another
tenant. The order of events is not that of the writes.
"""

import asyncio
import logging
import random
import ssl
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Count
from redis.exceptions import RedisError

from alignx import __version__
from alignx.schemas.webhooks import WebhookDelivery
from services.preference.webhooks.addresses import LOOKING_UP, PrivateAddress, find_fault
from services.preference.webhooks.deliveries import Deliveries
from services.preference.webhooks.endpoint_store import Endpoint, EndpointStore, Fault
from services.preference.webhooks.signing import WebhookSecrets
from services.settings import LATENCY_BUCKETS_S, WebhookSettings
from services.storage.key_names import OutboxKeys

BATCH: Final = 4
"""Events of an endpoint that are sent at once from one shard's queue."""
MOST_WAITING: Final = 10_000
"""Events that may wait for an endpoint in one shard; one with more is disabled."""
_ROUNDS: Final = 8
"""Batches of a queue before others have a turn."""
_POLL_S, _PAUSE_S = 0.5, 1.0
_GONE: Final = 410

EndpointQueue = tuple[int, str, str]
"""Shard, tenant and endpoint."""
logger = logging.getLogger("alignx.webhooks")


class WebhookMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Count(
            "alignx_webhook_attempts",
            "Attempts to send an event to a webhook endpoint: delivered, retried later, or failed for good",
            ("outcome",),
            registry=registry,
        )
        self.seconds = Histogram(
            "alignx_webhook_attempt_seconds",
            "How long an endpoint took to answer",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.lag = Gauge(
            "alignx_webhook_lag_seconds", "Seconds by which the oldest due event is late", registry=registry
        )
        self.disabled = Count(
            "alignx_webhook_endpoints_disabled", "Endpoints disabled by a worker", ("reason",), registry=registry
        )


@dataclass(eq=False, repr=False)
class WebhookSender:
    """One object a worker; `run` until `stop`."""

    deliveries: Deliveries
    endpoints: EndpointStore
    secrets: WebhookSecrets
    session: aiohttp.ClientSession
    settings: WebhookSettings
    metrics: WebhookMetrics

    def __post_init__(self) -> None:
        self._running: dict[EndpointQueue, asyncio.Task[None]] = {}
        self._failing: set[tuple[str, str]] = set()
        """Tenant and endpoint of those whose latest attempt failed: they leave half of the requests to others."""
        self._stopping = False

    def stop(self, work: "asyncio.Task[None]") -> None:
        """Ends `run`, whose task is `work`; a cancellation alone can get lost, as in the dispatcher."""
        self._stopping = True
        work.cancel()

    async def run(self) -> None:
        """Works until `stop`."""
        try:
            while not self._stopping:
                pause = _POLL_S
                try:
                    await self.start_due()
                except RedisError as error:
                    logger.warning("webhooks are not sent", extra={"error": type(error).__name__})
                    pause = _PAUSE_S
                except Exception:  # else the task would end, and the events wait
                    logger.exception("webhooks are not sent")
                    pause = _PAUSE_S
                await asyncio.sleep(pause)
        finally:
            tasks = [*self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def start_due(self) -> None:
        """Starts sending from each queue with a due event, as far as the limits of concurrency allow."""
        queues, lag_s = await self.deliveries.due()
        self.metrics.lag.set(max(0.0, lag_s))
        batches = self.settings.concurrency // BATCH
        tenants = Counter(tenant for _, tenant, _ in self._running)
        failing = sum(queue[1:] in self._failing for queue in self._running)
        for queue in queues:
            tenant, is_failing = queue[1], queue[1:] in self._failing
            if queue in self._running or tenants[tenant] >= max(1, batches // 8):
                continue
            if len(self._running) >= batches or (is_failing and failing >= batches // 2):
                continue
            tenants[tenant] += 1
            failing += is_failing
            self._running[queue] = asyncio.create_task(self._guard(queue))

    async def _guard(self, queue: EndpointQueue) -> None:
        try:
            await self.send_due(queue)
        except RedisError as error:
            logger.warning("a webhook queue waits", extra={"error": type(error).__name__})
        except Exception:  # asyncio would log it late, or never
            logger.exception("a webhook queue waits")
        finally:
            del self._running[queue]

    async def send_due(self, queue: EndpointQueue) -> None:
        """Sends some of the queue's due events."""
        shard, tenant, endpoint_id = queue
        names = self.deliveries.keys.outbox(shard, tenant, endpoint_id)
        for _ in range(_ROUNDS):
            endpoint = await self.endpoints.find(tenant, endpoint_id)
            if endpoint is None or endpoint.webhook.disabled is not None:
                self._failing.discard((tenant, endpoint_id))
                await (self.deliveries.sleep(names) if endpoint else self.deliveries.drop(names))
                return
            if self.secrets.fingerprint(tenant, endpoint_id, endpoint.generation) != endpoint.fingerprint:
                await self._disable(tenant, endpoint, "secret")
                continue
            waiting, batch = await self.deliveries.claim(names, 3 * self.settings.timeout_s, BATCH)
            if waiting > MOST_WAITING and endpoint.webhook.failing_since:
                await self._disable(tenant, endpoint, "backlog")
            if not batch:
                return
            await asyncio.gather(*(self._send(names, tenant, endpoint, delivery) for delivery in batch))

    async def _send(self, names: OutboxKeys, tenant: str, endpoint: Endpoint, delivery: WebhookDelivery) -> None:
        started = time.perf_counter()
        status, fault = await self._post(tenant, endpoint, delivery)
        self.metrics.seconds.observe(time.perf_counter() - started)
        is_taken = status is not None and 200 <= status < 300
        attempts, now = delivery.attempts + 1, datetime.now(UTC)
        tried = {"attempts": attempts, "attempted_at": now, "response": status, "error": fault, "next_at": None}
        outcome, delay_s = "delivered" if is_taken else "failed", None
        if is_taken:
            delivery = _without_erased_user(delivery)
        elif attempts < self.settings.attempts:
            outcome, delay_s = "retried", retry_delay_s(attempts, self.settings)
            tried["next_at"] = now + timedelta(seconds=delay_s)
        update = tried if delay_s is not None else {**tried, "status": outcome}
        await self.deliveries.settle(names, delivery.model_copy(update=update), delay_s)
        self.metrics.attempts.labels(outcome).inc()
        await self._note(tenant, endpoint, status, is_taken=is_taken)

    async def _post(self, tenant: str, endpoint: Endpoint, delivery: WebhookDelivery) -> tuple[int | None, str | None]:
        """The status of the answer, whose body is not read, or why there is none."""
        url, name = endpoint.webhook.url, endpoint.webhook.id
        if find_fault(url, allow_private=self.settings.allow_private):
            return None, "address"
        body = delivery.event.model_dump_json(exclude_none=True).encode()
        signed = delivery.id, int(time.time()), body
        headers = self.secrets.headers(tenant, name, endpoint.generations(), signed)
        headers |= {"Content-Type": "application/json", "User-Agent": f"alignx-webhooks/{__version__}"}
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s)
        LOOKING_UP.set(tenant)  # of this task alone
        try:
            answer = await self.session.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)
        except TimeoutError:
            return None, "timeout"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return None, _name_fault(error)
        answer.close()
        return answer.status, None

    async def _note(self, tenant: str, endpoint: Endpoint, status: int | None, *, is_taken: bool) -> None:
        """Remembers since when the endpoint fails; one that has failed for long, or is gone, is disabled."""
        name = endpoint.webhook.id
        (self._failing.discard if is_taken else self._failing.add)((tenant, name))
        if is_taken:
            if endpoint.webhook.failing_since:
                await self.endpoints.note(tenant, name, None, taken=True)
            return
        since = await self.endpoints.note(tenant, name, None)
        if status == _GONE:
            await self._disable(tenant, endpoint, "gone")
        elif since and (datetime.now(UTC) - since).total_seconds() >= self.settings.disable_after_s:
            await self._disable(tenant, endpoint, "failing")

    async def _disable(self, tenant: str, endpoint: Endpoint, fault: Fault) -> None:
        await self.endpoints.note(tenant, endpoint.webhook.id, fault)
        self.metrics.disabled.labels(fault).inc()
        extra = {"tenant": tenant, "endpoint": endpoint.webhook.id, "reason": fault}
        logger.warning("a webhook endpoint is disabled", extra=extra)


def retry_delay_s(attempts: int, settings: WebhookSettings) -> float:
    """Seconds after so many failed attempts: exponential, with jitter."""
    longest = min(settings.backoff_s * 2.0 ** min(attempts - 1, 32), settings.backoff_max_s)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter


def _without_erased_user(delivery: WebhookDelivery) -> WebhookDelivery:
    """The record of an erasure names the user until the endpoint knows of it."""
    if delivery.event.type != "user.erased":
        return delivery
    data = delivery.event.data.model_copy(update={"user": None})
    return delivery.model_copy(update={"event": delivery.event.model_copy(update={"data": data})})


def _name_fault(error: BaseException) -> str:
    """One word; none that tells of a network behind the deployment."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, PrivateAddress):
        return "address"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name"
    return "tls" if isinstance(error, aiohttp.ClientSSLError) or isinstance(cause, ssl.SSLError) else "connection"
