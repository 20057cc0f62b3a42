"""Typed state of a process: records in `app.state`, read by their class.

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[ResponseState]:
        async with Engine.open(...) as engine:
            yield ResponseState(...)                     # a frozen dataclass

    async def response_state(request: Request) -> ResponseState:
        return state_of(request.app, ResponseState)      # the one dependency of a service's routes

`create_app` adds a `Process`; the lifespan yields the service's own record. A record may derive from one that
knows less, and is read as that too: a service that needs Redis derives its own from `StoreState` (startup_check.py).
Tests read the same records: `state_of(app, Process).drain`.

`Drain` is the state of a graceful shutdown: fail readiness, drain requests, close the listener. After SIGTERM the
drain begins: /readyz answers 503 and each answer closes its connection, but everything is still served, so that
load balancers can look elsewhere. After `drain_s` the drain is over: endless streams end, for their readers to
continue at another instance, and the server closes its listener.
"""

import asyncio
from dataclasses import dataclass
from typing import TypeVar

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from services.errors import Draining
from services.server.load_shedding import LoadShedding
from services.settings import Settings

Record = TypeVar("Record")


class Drain:
    """The state of a process's shutdown. `create_app` makes it part of `Process`; `serve` advances it."""

    def __init__(self) -> None:
        self.begun = False
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """The listener closes now."""
        return self._over.is_set()

    def begin(self) -> None:
        self.begun = True

    def end(self) -> None:
        self.begin()
        self._over.set()

    async def wait(self) -> None:
        """Returns once the drain is over."""
        await self._over.wait()

    async def check(self) -> None:
        """Readiness: raises Draining once the drain has begun."""
        if self.begun:
            raise Draining

    def refuse(self) -> None:
        """Raises Draining once the drain is over."""
        if self.over:
            raise Draining


@dataclass(frozen=True, slots=True)
class Process:
    """What `create_app` gives every process; it exists before the lifespan begins."""

    settings: Settings
    drain: Drain
    registry: CollectorRegistry
    shedding: LoadShedding


def add_state(app: FastAPI, record: object) -> None:
    """Adds a record, before older ones of its class."""
    app.state.records = (record, *getattr(app.state, "records", ()))


def state_of(app: FastAPI, kind: type[Record]) -> Record:
    """The record of this class, or of one derived from it. Asserts that there is one."""
    for record in app.state.records:
        if isinstance(record, kind):
            return record
    raise AssertionError(f"no {kind.__name__} in the state of this process: does its lifespan yield one?")
