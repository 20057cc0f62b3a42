"""Cuts lines for many users into calls, and has those sent again that the service could not take yet.

It does no I/O, so both clients share it (`append_all`).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from alignx.client.endpoints import Call
from alignx.client.retry import RetryPolicy
from alignx.client.user_endpoints import encode_line, send_lines
from alignx.schemas.many_users import LineOutcome, UserEvents

RETRIES: Final = 60
"""Further attempts of a line. A full queue is normal while many events are sent: the service says when to go on."""
LONGEST_S: Final = 600.0
"""Longest Retry-After of a call. It counts as many requests, so a key of a low rate waits long for the next."""
CALL_COST: Final = 200.0
"""As how many requests of the key's rate a call may count."""
CALL_BYTES: Final = 4 * 1024 * 1024
_EVENTS_OF_ONE = 10
"""Events of a line that count as one request, as the service counts."""


@dataclass(slots=True)
class _Line:
    number: int
    content: bytes
    cost: float
    attempts: int = 0


def have_patience(retry: RetryPolicy) -> RetryPolicy:
    """A client's policy for the calls of many lines."""
    return replace(retry, retries=RETRIES, longest_s=max(retry.longest_s, LONGEST_S))


class LineSender:
    """Lines are numbered from 1 in the order given, over all calls."""

    def __init__(self, lines: Iterable[UserEvents]) -> None:
        self._further = (
            _Line(number, encode_line(line), max(1.0, len(line.events) / _EVENTS_OF_ONE))
            for number, line in enumerate(lines, 1)
        )
        self._waiting: deque[_Line] = deque()
        """To be sent before others, so that the lines of a user stay in order."""
        self._sent: list[_Line] = []
        self.pause_s = 0.0
        """Seconds to wait before the next call."""

    def next_call(self) -> Call[tuple[LineOutcome, ...]] | None:
        """The next lines, at least one; None after the last."""
        self._sent, size, cost = [], 0, 0.0
        while line := self._waiting.popleft() if self._waiting else next(self._further, None):
            size, cost = size + len(line.content), cost + line.cost
            if self._sent and (size > CALL_BYTES or cost > CALL_COST):
                self._waiting.appendleft(line)
                break
            line.attempts += 1
            self._sent.append(line)
        return send_lines([line.content for line in self._sent]) if self._sent else None

    def take(self, outcomes: tuple[LineOutcome, ...]) -> list[LineOutcome]:
        """Those of the call's outcomes that are final, by the numbers of all lines."""
        final: list[LineOutcome] = []
        again: list[_Line] = []
        self.pause_s = 0.0
        for line, outcome in zip(self._sent, outcomes, strict=True):
            if outcome.retry_after is not None and line.attempts <= RETRIES:
                self.pause_s = max(self.pause_s, outcome.retry_after)
                again.append(line)
            else:
                final.append(outcome.model_copy(update={"line": line.number}))
        self._waiting.extendleft(reversed(again))
        return final
