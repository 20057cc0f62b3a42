"""The audit log: who made, rotated and revoked keys, changed a tenant's settings, exported and erased users.

    gw:audit:<tenant>   stream: key (the caller's id), action, target

An entry holds no user's text and no user's id: a user is a hash with a secret of the deployment, so an erasure
leaves nothing to erase here, and only who knows an id can look for it. A tenant's log is bounded in entries and in
days; Redis drops it when nothing has come for so long. A call is logged before its answer is sent. One that cannot
be logged is still answered (an erasure must not wait for room in Redis), and counted.
"""

import logging
import time
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

from alignx.schemas.tenants import DAY_S, AuditEntry, AuditPage
from gateway.keys import ask_redis
from services.errors import StoreUnavailable
from services.settings import GatewaySettings
from services.storage.connection import RedisClient
from services.storage.key_names import audit_log

_PAGE = 500


def count_failures(registry: CollectorRegistry) -> Counter:
    return Counter(
        "alignx_gateway_audit_failures", "Calls that the audit log could not take: Redis did not", registry=registry
    )


class AuditLog:
    """The logs of all tenants."""

    def __init__(self, redis: RedisClient, settings: GatewaySettings, failures: Counter) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._entries = settings.audit_entries
        self._days_s = settings.audit_days * DAY_S
        self._failures = failures

    async def add(self, tenant: str, key_id: str, action: str, *targets: str) -> None:
        """An entry for each target. Never raises: what is logged has happened."""
        name = audit_log(tenant)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for target in targets:
                    fields = {"key": key_id, "action": action, "target": target}
                    pipe.xadd(name, fields, maxlen=self._entries, approximate=True)
                pipe.xtrim(name, minid=self._oldest(), approximate=False)
                pipe.expire(name, self._days_s)
                await ask_redis(pipe.execute())
        except (StoreUnavailable, RedisError) as error:
            self._failures.inc()
            fault = type(error.__cause__ or error).__name__
            logging.getLogger("alignx.gateway").warning("no audit entry", extra={"action": action, "error": fault})

    async def read(self, tenant: str, before: str | None, limit: int, target: str | None) -> AuditPage:
        """A page, newest first, of all entries or those of one target. Raises StoreUnavailable."""
        entries: list[AuditEntry] = []
        end = f"({before}" if before else "+"
        while True:
            rows = await ask_redis(self._redis.xrevrange(audit_log(tenant), end, self._oldest(), count=_PAGE))
            for entry_id, fields in rows:
                if target in (None, fields["target"]):
                    if len(entries) == limit:
                        return AuditPage(entries=tuple(entries), next=entries[-1].id)
                    entries.append(_entry(entry_id, fields))
            if len(rows) < _PAGE:
                return AuditPage(entries=tuple(entries))
            end = f"({rows[-1][0]}"

    def _oldest(self) -> str:
        """The id of the oldest entry that is kept."""
        return str(int((time.time() - self._days_s) * 1000))


def _entry(entry_id: str, fields: dict[str, str]) -> AuditEntry:
    at = datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC)
    return AuditEntry(id=entry_id, at=at, key_id=fields["key"], action=fields["action"], target=fields["target"])
