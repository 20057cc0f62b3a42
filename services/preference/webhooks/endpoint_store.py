"""The webhook endpoints of tenants in Redis: `pi:webhooks:<tenant>`, a hash.

    <id>            {"url", "events", "created_at", "generation", "previous_until", "fingerprint"} as JSON
    <id>.failing    since when no delivery has succeeded
    <id>.disabled   why nothing is sent to it

No secret is among them (signing.py): `generation` counts its rotations.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import unquote

import orjson

from alignx.schemas.webhooks import MOST_ENDPOINTS, Webhook, WebhookChange, WebhookRequest
from services.errors import InvalidRequest, WebhookUnknown
from services.preference.webhooks.addresses import find_fault
from services.preference.webhooks.signing import WebhookSecrets
from services.storage.connection import RedisClient, Script, read_script
from services.storage.key_names import WEBHOOKS, webhooks_key

BY_OPERATOR = "Disabled by a call."
REASONS = {
    "failing": "Nothing was taken for too long.",
    "gone": "It answered 410 Gone.",
    "backlog": "Too many events wait for it.",
    "secret": "The deployment's internal token has changed, and with it the secret: rotate it, then enable it.",
}
"""Why the worker disables an endpoint."""
Fault = Literal["failing", "gone", "backlog", "secret"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it is stored."""

    webhook: Webhook
    generation: int
    fingerprint: str
    record: str = ""
    """What Redis holds."""

    def generations(self) -> list[int]:
        """Of the secrets that sign now."""
        until = self.webhook.previous_until
        return [self.generation, self.generation - 1] if until and until > datetime.now(UTC) else [self.generation]


class EndpointStore:
    """Reads and writes them; raises the errors of Redis."""

    def __init__(self, redis: RedisClient, *, allow_private: bool = False) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._allow_private = allow_private
        self._note = Script(redis, read_script("services.preference", "note_attempts"))
        self._change = Script(redis, read_script("services.preference", "change_endpoint"))

    async def all(self, tenant: str) -> tuple[Webhook, ...]:
        """In the order in which they were made."""
        fields: dict[str, str] = await self._redis.hgetall(webhooks_key(tenant))
        webhooks = [_parse(name, fields).webhook for name in fields if "." not in name]
        return tuple(sorted(webhooks, key=lambda webhook: (webhook.created_at, webhook.id)))

    async def find(self, tenant: str, endpoint: str) -> Endpoint | None:
        names = [endpoint, f"{endpoint}.failing", f"{endpoint}.disabled"]
        values = await self._redis.hmget(webhooks_key(tenant), names)
        fields = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        return _parse(endpoint, fields) if endpoint in fields else None

    async def read(self, tenant: str, endpoint: str) -> Endpoint:
        """Raises WebhookUnknown."""
        if found := await self.find(tenant, endpoint):
            return found
        raise WebhookUnknown

    async def create(self, tenant: str, request: WebhookRequest, keys: WebhookSecrets) -> tuple[Webhook, str]:
        """The endpoint and its secret. Raises InvalidRequest."""
        self._check_url(request.url)
        if len(await self.all(tenant)) >= MOST_ENDPOINTS:
            message = f"a tenant may have {MOST_ENDPOINTS} endpoints"
            raise InvalidRequest(f"url: {message}", errors=[{"field": "url", "message": message}])
        endpoint = f"wh_{secrets.token_hex(8)}"
        webhook = Webhook(id=endpoint, url=request.url, events=request.events, created_at=datetime.now(UTC))
        new = Endpoint(webhook, 0, keys.fingerprint(tenant, endpoint, 0))
        await self._redis.hset(webhooks_key(tenant), endpoint, _encode(new))
        return webhook, keys.secret(tenant, endpoint, 0)

    async def change(self, tenant: str, endpoint: str, change: WebhookChange) -> Webhook:
        """Raises WebhookUnknown and InvalidRequest."""
        if change.url is not None:
            self._check_url(change.url)
        fields = change.model_dump(exclude={"enabled"}, exclude_none=True)
        disabled = {} if change.enabled is None else {"disabled": "" if change.enabled else BY_OPERATOR}

        def edit(stored: Endpoint) -> Endpoint:
            return replace(stored, webhook=stored.webhook.model_copy(update=fields))

        await self._rewrite(tenant, endpoint, edit, **disabled)
        return (await self.read(tenant, endpoint)).webhook

    async def rotate(self, tenant: str, endpoint: str, overlap_s: int, keys: WebhookSecrets) -> tuple[Webhook, str]:
        """A new secret; the one until now signs too for so long. Raises WebhookUnknown."""
        until = datetime.now(UTC) + timedelta(seconds=overlap_s) if overlap_s else None

        def edit(stored: Endpoint) -> Endpoint:
            generation = stored.generation + 1
            webhook = stored.webhook.model_copy(update={"previous_until": until})
            return Endpoint(webhook, generation, keys.fingerprint(tenant, endpoint, generation))

        rotated = await self._rewrite(tenant, endpoint, edit)
        return rotated.webhook, keys.secret(tenant, endpoint, rotated.generation)

    async def delete(self, tenant: str, endpoint: str) -> None:
        """Raises WebhookUnknown."""
        names = (endpoint, f"{endpoint}.failing", f"{endpoint}.disabled")
        if not await self._redis.hdel(webhooks_key(tenant), *names):
            raise WebhookUnknown

    async def note(self, tenant: str, endpoint: str, fault: Fault | None, *, taken: bool = False) -> datetime | None:
        """Records whether the endpoint took an event, and disables it for a fault. Since when it fails."""
        since = await self._note.run(
            [webhooks_key(tenant)],
            id=endpoint,
            taken=taken,
            now=datetime.now(UTC).isoformat(timespec="milliseconds"),
            disabled=REASONS[fault] if fault else "",
        )
        return datetime.fromisoformat(since) if since else None

    async def tenants(self) -> list[str]:
        """Tenants that have an endpoint."""
        return [unquote(key.removeprefix(WEBHOOKS)) async for key in self._redis.scan_iter(match=WEBHOOKS + "*")]

    async def stored(self, tenant: str) -> dict[str, str]:
        """The fields as Redis holds them."""
        fields: dict[str, str] = await self._redis.hgetall(webhooks_key(tenant))
        return fields

    async def restore(self, tenant: str, fields: Mapping[str, str]) -> None:
        """Adds the endpoints of a backup; one that exists stays as it is."""
        existing = await self._redis.hkeys(webhooks_key(tenant))
        for name, value in fields.items():
            if name.partition(".")[0] not in existing:
                await self._redis.hset(webhooks_key(tenant), name, value)

    def _check_url(self, url: str) -> None:
        if fault := find_fault(url, allow_private=self._allow_private):
            raise InvalidRequest(f"url {fault}.", errors=[{"field": "url", "message": fault}])

    async def _rewrite(self, tenant: str, endpoint: str, edit: Callable[[Endpoint], Endpoint], **more: str) -> Endpoint:
        """Edits the record as it is then, whoever else writes meanwhile. Raises WebhookUnknown."""
        while True:
            stored = await self.read(tenant, endpoint)
            new = edit(stored)
            if await self._change.run([webhooks_key(tenant)], stored.record, _encode(new), id=endpoint, **more):
                return new


def _encode(endpoint: Endpoint) -> bytes:
    record = endpoint.webhook.model_dump(mode="json", include={"url", "events", "created_at", "previous_until"})
    return orjson.dumps(record | {"generation": endpoint.generation, "fingerprint": endpoint.fingerprint})


def _parse(endpoint: str, fields: Mapping[str, str]) -> Endpoint:
    record = orjson.loads(fields[endpoint])
    generation, fingerprint = record.pop("generation"), record.pop("fingerprint")
    state = {"failing_since": fields.get(f"{endpoint}.failing"), "disabled": fields.get(f"{endpoint}.disabled")}
    webhook = Webhook.model_validate({"id": endpoint, **record, **state})
    return Endpoint(webhook, generation, fingerprint, fields[endpoint])
