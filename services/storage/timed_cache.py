"""What Redis held for a key, kept in the process for a moment, so that hot paths ask it once a second."""

import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from alignx.schemas.tenants import TenantSettings
from services.settings import Settings
from services.storage.connection import RedisClient
from services.storage.tenant_settings import TenantSettingsStore, default_settings

CACHE_S: Final = 1.0
_MOST: Final = 10_000
"""Keys; a full cache starts anew."""
Value = TypeVar("Value")


class TimedCache(Generic[Value]):
    """Answers of `ask` by key, each for `CACHE_S` from the read that gave it."""

    def __init__(self, ask: Callable[[str], Awaitable[Value]]) -> None:
        self._ask = ask
        self._values: dict[str, tuple[float, Value]] = {}

    async def read(self, key: str) -> Value:
        expires, value = self._values.get(key, (0.0, None))
        if value is None or time.monotonic() >= expires:
            value = await self._ask(key)
            if len(self._values) >= _MOST:
                self._values.clear()
            self._values[key] = time.monotonic() + CACHE_S, value
        return value

    def drop(self, key: str) -> None:
        self._values.pop(key, None)


def open_tenants(redis: RedisClient, settings: Settings) -> TimedCache[TenantSettings]:
    """The settings of each tenant."""
    return TimedCache(TenantSettingsStore(redis, default_settings(settings)).read)
