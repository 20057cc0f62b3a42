"""The audit log: who made, rotated and revoked keys, changed a tenant's settings, exported and erased users.

    gw:audit:<tenant>   stream: key (the caller's id), action, target

An entry holds no user's text and no user's id: a user is a hash with a secret of the deployment, so an erasure
leaves nothing to erase here, and only who knows an id can look for it. A tenant's log is bounded in entries and in
days; Redis drops it when nothing has come for so long.
"""

import time
from datetime import UTC, datetime
from typing import Any

from alignx.schemas.tenants import DAY_S, AuditEntry, AuditPage
from services.settings import GatewaySettings
from services.storage.connection import RedisClient
from services.storage.key_names import audit_log

_PAGE = 500


class AuditLog:
    """The logs of all tenants. Raises the errors of Redis."""

    def __init__(self, redis: RedisClient, settings: GatewaySettings) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._entries = settings.audit_entries
        self._days_s = settings.audit_days * DAY_S

    async def add(self, tenant: str, key_id: str, action: str, *targets: str) -> None:
        """An entry for each target; `key_id` is that of the caller."""
        name, pipe = audit_log(tenant), self._redis.pipeline(transaction=False)
        for target in targets:
            fields = {"key": key_id, "action": action, "target": target}
            pipe.xadd(name, fields, maxlen=self._entries, approximate=True)
        pipe.xtrim(name, minid=self._oldest(), approximate=False)
        pipe.expire(name, self._days_s)
        await pipe.execute()

    async def read(self, tenant: str, before: str | None, limit: int, target: str | None) -> AuditPage:
        """A page, newest first, of all entries or those of one target."""
        entries: list[AuditEntry] = []
        end = f"({before}" if before else "+"
        while True:
            rows = await self._redis.xrevrange(audit_log(tenant), end, self._oldest(), count=_PAGE)
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
