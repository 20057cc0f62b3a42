"""The settings of tenants: what is set for a tenant in Redis, over the deployment's values.

Calls read them through services/storage/timed_cache.py: a process sees a change within a second.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from alignx.schemas.tenants import TenantSettings, TenantSettingsView, TokensSpent
from services.errors import InvalidRequest
from services.settings import Settings
from services.storage.connection import RedisClient, Script, read_script
from services.storage.key_names import TENANT_SETTINGS, tenant_settings_key, tenant_settings_owner, tokens_key


def default_settings(settings: Settings) -> TenantSettings:
    """The deployment's values: each from the block of `settings` that has a field of its name."""
    blocks = [getattr(settings, name) for name in type(settings).model_fields]
    names = TenantSettings.model_fields
    return TenantSettings(**{name: getattr(block, name) for block in blocks for name in names if hasattr(block, name)})


class TenantSettingsStore:
    """Reads and writes them; raises the errors of Redis."""

    def __init__(self, redis: RedisClient, defaults: TenantSettings) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._defaults = defaults
        self._script = Script(redis, read_script("services.storage", "write_settings"))

    async def read(self, tenant: str) -> TenantSettings:
        """The effective settings."""
        return (await self.view(tenant)).settings

    async def view(self, tenant: str) -> TenantSettingsView:
        """As stored now. A value that this release does not know or allow does not count."""
        fields = {name: orjson.loads(value) for name, value in (await self.stored(tenant)).items()}
        if problems := _find_problems(fields):
            fields = {name: value for name, value in fields.items() if name not in problems}
        settings = TenantSettings.model_validate(self._defaults.model_dump() | fields)
        return TenantSettingsView(tenant=tenant, settings=settings, overridden=tuple(sorted(fields)))

    async def view_with_spent(self, tenant: str) -> TenantSettingsView:
        """As `view`, with what is spent of a token budget."""
        view = await self.view(tenant)
        if view.settings.tokens_per_day is None and view.settings.tokens_per_month is None:
            return view
        now = datetime.now(UTC)
        spent = await self._redis.hmget(tokens_key(tenant, f"{now:%Y-%m}"), [f"{now:%d}", "month"])
        day, month = (int(tokens or 0) for tokens in spent)
        return view.model_copy(update={"spent": TokensSpent(day=day, month=month)})

    async def replace(self, tenant: str, settings: TenantSettings) -> TenantSettingsView:
        """Sets the fields that `settings` was made of, and no others."""
        await self._write(tenant, settings.model_dump(mode="json", exclude_unset=True), replace=True)
        return await self.view_with_spent(tenant)

    async def patch(self, tenant: str, changes: Mapping[str, Any]) -> TenantSettingsView:
        """A JSON merge patch: null gives a field the deployment's value back. Raises InvalidRequest."""
        known = TenantSettings.model_fields
        problems = _find_problems({name: v for name, v in changes.items() if v is not None or name not in known})
        if problems:
            errors = [{"field": name, "message": message} for name, message in problems.items()]
            raise InvalidRequest(f"Not valid: {', '.join(problems)}.", errors=errors)
        await self._write(tenant, changes)
        return await self.view_with_spent(tenant)

    async def tenants(self) -> list[str]:
        """Tenants of whom something is set."""
        return sorted([tenant_settings_owner(key) async for key in self._redis.scan_iter(match=TENANT_SETTINGS + "*")])

    async def stored(self, tenant: str) -> dict[str, str]:
        """The fields as Redis holds them."""
        fields: dict[str, str] = await self._redis.hgetall(tenant_settings_key(tenant))
        return fields

    async def restore(self, tenant: str, fields: Mapping[str, str]) -> None:
        """Sets the fields of a backup, unless something is set for the tenant already."""
        if fields and not await self._redis.exists(tenant_settings_key(tenant)):
            await self._redis.hset(tenant_settings_key(tenant), mapping=dict(fields))

    async def _write(self, tenant: str, changes: Mapping[str, Any], *, replace: bool = False) -> None:
        texts = {name: "" if value is None else orjson.dumps(value).decode() for name, value in changes.items()}
        await self._script.run([tenant_settings_key(tenant)], replace=replace, changes=texts)


def _find_problems(fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with each field that is not valid."""
    try:
        TenantSettings.model_validate(fields)
    except ValidationError as error:
        return {str(problem["loc"][0]): problem["msg"] for problem in error.errors()}
    return {}
