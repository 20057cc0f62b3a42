"""When a call is tried again, and after how long.

429 and 503 are tried again, after the service's Retry-After where it gives one, else after a
doubling delay. Failures of the connection are tried again too: always while the request cannot
have reached the service, and afterwards only for calls that may be repeated.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from alignx.client.endpoints import Call

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)

Outcome = httpx.Response | httpx.RequestError


@dataclass(frozen=True)
class RetryPolicy:
    retries: int = 3
    """Further tries after the first."""
    first_s: float = 0.5
    """Delay before the second try; doubled before each further one."""
    longest_s: float = 30.0
    """Longest delay; a Retry-After beyond it ends the trying."""

    def delay_s(self, call: Call[Any], outcome: Outcome, tries: int) -> float | None:
        """Seconds before the next try, or None when this outcome is final. `tries` counts from 1."""
        if tries > self.retries or not _passing(call, outcome):
            return None
        if isinstance(outcome, httpx.Response) and (asked := retry_after_s(outcome)) is not None:
            return asked if asked <= self.longest_s else None
        longest = min(self.first_s * 2.0 ** (tries - 1), self.longest_s)
        # Spread over half the delay, so that many clients do not come back at the same moment.
        return longest * random.uniform(0.5, 1.0)  # noqa: S311


def _passing(call: Call[Any], outcome: Outcome) -> bool:
    if isinstance(outcome, httpx.Response):
        if outcome.status_code in call.accepts:
            return False
        return outcome.status_code == 429 or (outcome.status_code == 503 and call.repeatable)
    return isinstance(outcome, NEVER_SENT) or (call.repeatable and isinstance(outcome, BROKEN))


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds of the Retry-After header, which holds a number or a date; None without a usable one."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment.tzinfo else None
