"""The token budgets of tenants: what calls to the engine may spend in a day and in a month of UTC.

Before a call its estimate is taken from both windows in one step, and at the end what was not used is given back. A
reservation that nobody settles, since its process was killed, counts in full: what the engine went on to write is
unknown then, and a budget is to bound the cost. A tenant without limits costs nothing but a look at its settings,
which the process keeps for a second.

What is left goes out in the fields `RateLimit-Policy` and `RateLimit`: `"tokens-day";q=100000;w=86400` says 100,000
tokens a day, `"tokens-day";r=70000;t=3600` says 70,000 left and an hour until the day ends.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self
from uuid import uuid4

from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

from alignx.schemas.tenants import TenantSettings
from services.engine.guard import CallKind, Progress, WrittenText
from services.engine.spending import estimate_call
from services.engine.wire import Body
from services.errors import BudgetSpent, EngineUnavailable
from services.storage.connection import REFUSED, RedisClient, Script, read_script, refusal_words
from services.storage.key_names import tokens_key
from services.storage.timed_cache import TimedCache

LONGEST_RETRY_S: Final = 3_600
"""A caller need not wait longer for a look whether the operator has raised the budget."""
_KEPT: Final = timedelta(days=2)
"""So long behind its month a counter stays, for calls that began in it."""
_CLOSING_S = 2.0

LEFT: ContextVar["dict[str, Window] | None"] = ContextVar("LEFT", default=None)
"""A dictionary put here gets the windows of the calls that are made within its context."""

logger = logging.getLogger("alignx.budgets")


@dataclass(frozen=True, slots=True)
class Window:
    """A day or a month, and what is left of its budget."""

    name: str
    """`day` or `month`."""
    limit: int
    spent: int
    seconds: int
    """Its length."""
    ends_in_s: int

    @property
    def left(self) -> int:
        return max(0, self.limit - self.spent)


def budget_headers(windows: Mapping[str, Window]) -> dict[str, str]:
    """The fields that say what is left; none without a window."""
    if not windows:
        return {}
    policies = [f'"tokens-{window.name}";q={window.limit};w={window.seconds}' for window in windows.values()]
    states = [f'"tokens-{window.name}";r={window.left};t={window.ends_in_s}' for window in windows.values()]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}


@dataclass(frozen=True, slots=True)
class Reservation:
    """Tokens taken for one call."""

    id: str
    key: str
    at: datetime
    tokens: int
    settings: TenantSettings

    @property
    def day(self) -> datetime:
        """Its beginning."""
        return self.at.replace(hour=0, minute=0, second=0, microsecond=0)

    @property
    def next_month(self) -> datetime:
        return (self.day.replace(day=1) + timedelta(days=31)).replace(day=1)

    def windows(self, in_day: int, in_month: int) -> dict[str, Window]:
        """Of the limits that are set, when so much is spent."""
        day, settings = self.day, self.settings
        spans = (
            ("day", settings.tokens_per_day, in_day, day, day + timedelta(days=1)),
            ("month", settings.tokens_per_month, in_month, day.replace(day=1), self.next_month),
        )
        return {
            name: Window(
                name,
                limit,
                spent,
                seconds=int((end - start).total_seconds()),
                ends_in_s=max(1, int((end - self.at).total_seconds())),
            )
            for name, limit, spent, start, end in spans
            if limit is not None
        }


class TokenBudgets:
    """The budgets as one process sees them. `reserve` is the engine's `Reserve`; it raises the errors of Redis too, and
    EngineUnavailable while Redis refuses writes.
    `refusals` counts calls that did not fit."""

    def __init__(
        self,
        redis: RedisClient,
        tenants: TimedCache[TenantSettings],
        refusals: Counter,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tenants = tenants
        self._clock = clock
        self._reserve = Script(redis, read_script("services.storage", "reserve_tokens"))
        self._settle = Script(redis, read_script("services.storage", "settle_tokens"))
        self._settling: set[asyncio.Task[None]] = set()
        self._refusals = refusals

    @classmethod
    @asynccontextmanager
    async def open(
        cls, redis: RedisClient, tenants: TimedCache[TenantSettings], refusals: Counter
    ) -> AsyncIterator[Self]:
        """Waits at the end until what calls have used is told."""
        budgets = cls(redis, tenants, refusals)
        try:
            yield budgets
        finally:
            await budgets.settled()

    async def settled(self) -> None:
        """Waits a while for what is to be told."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=_CLOSING_S)

    @asynccontextmanager
    async def reserve(self, kind: CallKind, tenant: str, body: Body, progress: Progress) -> AsyncIterator[None]:
        settings = await self._tenants.read(tenant) if tenant else None
        if settings is None or (settings.tokens_per_day is None and settings.tokens_per_month is None):
            yield
            return
        estimate, now = estimate_call(body), self._clock()
        reservation = Reservation(uuid4().hex, tokens_key(tenant, f"{now:%Y-%m}"), now, estimate.total, settings)
        await self._take(kind, reservation)
        progress.written = WrittenText()
        error: BaseException | None = None
        try:
            yield
        except BaseException as fault:
            error = fault
            raise
        finally:
            settling = self._spawn(self._tell(reservation, estimate.used(progress, error)))
            if progress.finished:
                await asyncio.shield(settling)

    async def _take(self, kind: CallKind, reservation: Reservation) -> None:
        taking = asyncio.ensure_future(self._ask_for(reservation))
        try:
            fits, *spent = await asyncio.shield(taking)
        except asyncio.CancelledError:  # Redis may have made it
            self._spawn(self._undo(taking, reservation))
            raise
        windows = reservation.windows(*spent)
        if (left := LEFT.get()) is not None:
            left.update(windows)
        if fits:
            return
        self._refusals.labels(kind).inc()
        full = [window for window in windows.values() if window.spent + reservation.tokens > window.limit]
        window = max(full, key=lambda window: window.ends_in_s)
        raise BudgetSpent(
            f"This call may take {reservation.tokens} tokens, and {window.left} of {window.limit} are left of the "
            f"tenant's budget of the {window.name}.",
            headers=budget_headers(windows),
            retry_after=min(window.ends_in_s, LONGEST_RETRY_S),
            limit=window.limit,
            left=window.left,
            window=window.name,
        )

    async def _ask_for(self, reservation: Reservation) -> list[int]:
        now, settings = reservation.at, reservation.settings
        limits = {"day_limit": settings.tokens_per_day, "month_limit": settings.tokens_per_month}
        try:
            answer: list[int] = await self._reserve.run(
                [reservation.key],
                day=f"{now:%d}",
                id=reservation.id,
                tokens=reservation.tokens,
                ends=int((reservation.next_month + _KEPT).timestamp()),
                **{name: limit for name, limit in limits.items() if limit is not None},
            )
        except REFUSED as error:  # what needs no engine goes on
            detail = f"The tenant's tokens cannot be counted. {refusal_words(error)}"
            raise EngineUnavailable(detail, retry_after=1.0) from error
        return answer

    async def _undo(self, taking: "asyncio.Future[list[int]]", reservation: Reservation) -> None:
        await asyncio.wait({taking})
        if not taking.cancelled() and not taking.exception() and taking.result()[0]:
            await self._tell(reservation, 0)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task of its own: a caller who goes away does not stop it."""
        task = asyncio.create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    async def _tell(self, reservation: Reservation, used: int) -> None:
        try:
            spent = await self._settle.run([reservation.key], id=reservation.id, used=used)
        except RedisError as error:
            logger.warning("a call counts with its estimate", extra={"error": type(error).__name__})
            return
        if spent and (left := LEFT.get()) is not None:
            left.update(reservation.windows(*spent))


def count_refusals(registry: CollectorRegistry) -> Counter:
    return Counter(
        "alignx_engine_budget_refusals",
        "Calls to the engine that did not go out because their tenant's token budget is spent",
        ("kind",),
        registry=registry,
    )
