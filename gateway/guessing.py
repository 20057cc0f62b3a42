"""Slows down whoever sends keys that open nothing, again and again.

Failures count by the caller's address and by the id of the key, and fade: one in `FADE_S` seconds. From `FREE` on,
a check is delayed; from `LIMIT` on, what fails gets 429 with Retry-After. Nobody is locked out: each key is still
checked, and one that was right lately is not delayed. A secret has 256 bits, so guessing never succeeds; this keeps
its noise and its load small. All is in this process's memory, which is bounded.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

FREE = 10
"""Failures that cost nothing but their refusal."""
LIMIT = 20
FADE_S = 3.0
_STEP_S, _LONGEST_S = 0.05, 0.5
"""Delay for each failure above FREE, and the longest one."""
_MOST = 10_000
"""Names, and digests, that are remembered; the longest unused go first."""


class Guesses:
    """The failures of addresses and ids, and the keys that were right."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Name -> failures that have not faded, and when that was so."""
        self._right: OrderedDict[str, None] = OrderedDict()

    def delay_s(self, names: Iterable[str], digest: str) -> float:
        """Seconds to wait before a key is checked."""
        if not self._failures or digest in self._right:
            return 0.0
        failures = max(map(self._count, names), default=0.0)
        return min(_LONGEST_S, max(0.0, failures - FREE) * _STEP_S)

    def note_success(self, digest: str) -> None:
        _remember(self._right, digest, None)

    def note_failure(self, names: Iterable[str], digest: str) -> float | None:
        """Seconds after which a failure is an ordinary one again; None while it is."""
        self._right.pop(digest, None)
        most = 0.0
        for name in names:
            # What is counted above the limit is bounded, so that the wait is.
            failures = min(self._count(name) + 1, 2.0 * LIMIT)
            _remember(self._failures, name, (failures, self._now()))
            most = max(most, failures)
        return (most - LIMIT) * FADE_S if most > LIMIT else None

    def _count(self, name: str) -> float:
        failures, at = self._failures.get(name, (0.0, 0.0))
        return max(0.0, failures - (self._now() - at) / FADE_S)


def _remember(memory: OrderedDict[str, Any], name: str, value: Any) -> None:
    memory[name] = value
    memory.move_to_end(name)
    if len(memory) > _MOST:
        memory.popitem(last=False)
