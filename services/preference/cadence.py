"""How much new events tell about a user, which decides when a language model rewrites the summary.

The profile predicts each choice before it learns it: a choice to which it gave probability p is a surprise of
-log2 p bits. An item of a category that the user has never met is one of -log2 of how often the user has met a new one.
Words of the user's own are due at once. lua/append.lua adds the surprise up and compares it with the tenant's bounds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import log2
from typing import Any

from alignx.schemas.interactions import DemographicInteraction, Interaction, StatementInteraction
from alignx.schemas.tenants import UpdateCadence
from services.profile.draft import KEEP_CATEGORIES
from services.profile.statistics import Profile

BYTES_A_TOKEN = 4
DEFAULT_CADENCE = UpdateCadence()


@dataclass(frozen=True, slots=True)
class News:
    """What the events of one append tell."""

    is_due: bool = False
    """The update waits for no more events."""
    is_backfill: bool = False
    """History from elsewhere: one update at the end, after all other users."""
    bits: float = 0.0
    tokens: int = 0
    cadence: UpdateCadence = DEFAULT_CADENCE

    def within(self, cadence: UpdateCadence | None, *, is_backfill: bool) -> "News":
        """Against the bounds of a tenant; without bounds all but a backfill is due."""
        is_due = not is_backfill and (self.is_due or cadence is None)
        return replace(self, is_due=is_due, is_backfill=is_backfill, cadence=cadence or self.cadence)

    def arguments(self) -> dict[str, Any]:
        """For append.lua."""
        return {
            "is_due": self.is_due,
            "backfill": self.is_backfill,
            "bits": self.bits,
            "tokens": self.tokens,
            "max_bits": self.cadence.update_bits,
            "max_events": self.cadence.update_events,
            "max_tokens": self.cadence.update_tokens,
            "max_age_ms": round(self.cadence.update_age_s * 1000),
            "quiet_ms": round(self.cadence.backfill_quiet_s * 1000),
        }


DUE = News(is_due=True)
"""Of a deployment whose updates cost nothing."""


def estimate_tokens(encoded: Iterable[str]) -> int:
    """Of events as the log stores them."""
    return sum(map(len, encoded)) // BYTES_A_TOKEN


def is_own_words(interaction: Interaction, before: Profile, after: Profile) -> bool:
    """Whether the user says something of themselves, or in passing the contrary of what they said before."""
    if isinstance(interaction, StatementInteraction | DemographicInteraction):
        return True
    struck = {clause.event for clause in before.clauses if clause.is_struck}
    earlier = [clause for clause in after.clauses if clause.event <= before.events]
    return any(clause.is_struck and clause.event not in struck for clause in earlier)


def surprise_bits(predicted: Sequence[float], before: Profile, after: Profile) -> float:
    """Of one event: the mean over what was passed over, since it is one choice, and a new category."""
    bits = -sum(map(log2, predicted)) / len(predicted) if predicted else 0.0
    known = len(before.categories)
    # A profile of many categories forgets some, so a new one may be an old one.
    if before.events and known < KEEP_CATEGORIES and not after.categories.keys() <= before.categories.keys():
        bits += log2((before.events + 1) / max(known, 1))
    return bits
