"""The counts of one item over all users of a tenant, fading hour by hour.

lua/apply.lua adds to them, in the form that `Counts.parse` reads. Of an item that fewer than the tenant's least number
of users have met nothing is known to anybody.
"""

from typing import Final, NamedTuple

SLOW_H: Final = 2160.0
FAST_H: Final = 24.0
"""Hours after which a showing or a taking counts half."""
MAX_NEIGHBOURS: Final = 64


class Counts(NamedTuple):
    """Of an item or a category; the sums are as of hour `at`."""

    users: float
    likers: float
    first: float
    """Hour in which a user first met it."""
    at: float
    shown: float
    taken: float
    fast_shown: float
    fast_taken: float

    @classmethod
    def parse(cls, text: str) -> "Counts":
        return cls(*map(float, text.split()))

    def fade(self, hour: float) -> "Counts":
        """As of a later hour."""
        age = hour - self.at
        if age <= 0:
            return self
        slow, fast = 0.5 ** (age / SLOW_H), 0.5 ** (age / FAST_H)
        return self._replace(
            at=hour,
            shown=slow * self.shown,
            taken=slow * self.taken,
            fast_shown=fast * self.fast_shown,
            fast_taken=fast * self.fast_taken,
        )
