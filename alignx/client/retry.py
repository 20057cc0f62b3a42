"""When a call is retried, and after how long.

429 and 503 are retried, after the service's Retry-After where it gives one, else after a doubling
delay. Failures of the connection are retried too: always while the request cannot have reached the
service, and afterwards only for calls that may be repeated.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from alignx.client.endpoints import Call

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
MAYBE_SENT = (httpx.NetworkError, httpx.RemoteProtocolError)

LONGEST_OWN_S = 30.0
"""Longest delay that the service did not ask for."""

Outcome = httpx.Response | httpx.RequestError


@dataclass(frozen=True)
class RetryPolicy:
    retries: int = 3
    """Further attempts after the first."""
    first_s: float = 0.5
    """Delay before the second attempt; doubled before each further one."""
    longest_s: float = 30.0
    """Longest delay; a longer Retry-After ends the retries. Where the service names none, 30 s at most."""

    def delay_s(self, call: Call[Any], outcome: Outcome, attempts: int) -> float | None:
        """Seconds before the next attempt, or None when this outcome is final. `attempts` counts from 1."""
        if attempts > self.retries or not _is_temporary(call, outcome):
            return None
        if isinstance(outcome, httpx.Response) and (requested_s := retry_after_s(outcome)) is not None:
            return requested_s if requested_s <= self.longest_s else None
        delay_s = min(self.first_s * 2.0 ** (attempts - 1), self.longest_s, LONGEST_OWN_S)
        # Spread over half the delay, so that many clients do not retry at the same moment.
        return delay_s * random.uniform(0.5, 1.0)  # noqa: S311


def _is_temporary(call: Call[Any], outcome: Outcome) -> bool:
    if isinstance(outcome, httpx.Response):
        if outcome.status_code in call.accepts:
            return False
        return outcome.status_code == 429 or (outcome.status_code == 503 and call.repeatable)
    return isinstance(outcome, NEVER_SENT) or (call.repeatable and isinstance(outcome, MAYBE_SENT))


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
