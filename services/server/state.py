"""Typed state of a process: records in `app.state`, read by their class.

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[ResponseState]:
        async with Engine.open(...) as engine:
            yield ResponseState(...)                     # a frozen dataclass

    async def response_state(request: Request) -> ResponseState:
        return state_of(request.app, ResponseState)      # the one dependency of a service's routes

`create_app` adds a `Process`; the lifespan yields the service's own record. A record may derive from one that
knows less, and is read as that too: a service that needs Redis derives its own from `StoreState` (store.py).
Tests read the same records: `state_of(app, Process).drain`.
"""

from dataclasses import dataclass
from typing import TypeVar

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from services.server.shutdown import Drain
from services.settings import Settings
from services.tracing import Tracer

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Process:
    """What `create_app` gives every process; it exists before the lifespan begins."""

    settings: Settings
    drain: Drain
    registry: CollectorRegistry
    tracer: Tracer


def add_state(app: FastAPI, record: object) -> None:
    """Adds a record, before older ones of its class."""
    app.state.records = (record, *getattr(app.state, "records", ()))


def state_of(app: FastAPI, kind: type[Record]) -> Record:
    """The record of this class, or of one derived from it. Asserts that there is one."""
    for record in app.state.records:
        if isinstance(record, kind):
            return record
    raise AssertionError(f"no {kind.__name__} in the state of this process: does its lifespan yield one?")
