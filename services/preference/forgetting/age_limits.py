"""How old a tenant's events may grow, by their type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from alignx.schemas.summaries import DeadLetter
from alignx.schemas.tenants import TenantSettings
from services.storage.user_profile import parse_event_id

_HOUR_MS: Final = 3_600_000
_UNIT_MS: Final = {"h": _HOUR_MS, "d": 24 * _HOUR_MS}
_OTHERS: Final = "*"


@dataclass(frozen=True, slots=True)
class AgeLimits:
    """Which events are past their age at a moment."""

    cutoffs: Mapping[str, int]
    """Until when (ms since 1970) an event of a type was received that is too old now; `*` for the types not named."""

    @classmethod
    def read(cls, settings: TenantSettings, now_ms: int) -> "AgeLimits | None":
        """None where all events are kept."""
        limits: dict[str, int] = {
            kind: max(0, now_ms - int(age[:-1]) * _UNIT_MS[age[-1]]) for kind, age in settings.event_ttl.items()
        }
        return cls(limits) if limits else None

    @property
    def latest(self) -> int:
        """No event received later is too old, whatever its type."""
        return max(self.cutoffs.values())

    def is_past(self, event_id: str, kind: str | None = None) -> bool:
        """Whether the event is too old; one of an unknown type is held to the shortest limit."""
        cutoff = self.cutoffs.get(kind, self.cutoffs.get(_OTHERS)) if kind else self.latest
        return cutoff is not None and parse_event_id(event_id)[0] <= cutoff

    def is_past_dead(self, letter: DeadLetter) -> bool:
        """The same for an event that was set aside, since it was first received."""
        return self.is_past(letter.event_id, letter.interaction.type if letter.interaction else None)
