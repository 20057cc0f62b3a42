"""The settings of tenants on the way of each call: a process sees a change within a second."""

from alignx.schemas.tenants import TenantSettings
from services.storage.tenant_settings import TenantSettingsStore
from services.storage.timed_cache import TimedCache


class TenantSettingsReader:
    """Asks Redis once a second for a tenant."""

    def __init__(self, store: TenantSettingsStore) -> None:
        self._store = store
        self._cache = TimedCache[TenantSettings]()

    async def read(self, tenant: str) -> TenantSettings:
        """The effective settings, at most a second old."""
        settings = self._cache.get(tenant)
        if settings is None:
            settings = (await self._store.view(tenant)).settings
            self._cache.put(tenant, settings)
        return settings
