"""What Redis held for a key, kept in the process for a moment, so that hot paths ask it once a second."""

import time
from typing import Final, Generic, TypeVar

CACHE_S: Final = 1.0
_MOST: Final = 10_000
"""Keys; a full cache starts anew."""
Value = TypeVar("Value")


class TimedCache(Generic[Value]):
    """Values by key, each for `CACHE_S` from the read that gave it."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[float, Value]] = {}

    def get(self, key: str) -> Value | None:
        expires, value = self._values.get(key, (0.0, None))
        return value if time.monotonic() < expires else None

    def put(self, key: str, value: Value) -> None:
        if len(self._values) >= _MOST:
            self._values.clear()
        self._values[key] = time.monotonic() + CACHE_S, value

    def drop(self, key: str) -> None:
        self._values.pop(key, None)
