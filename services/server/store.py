"""For services that keep users in Redis: no request is served before the startup check of Redis has passed.

app.include_router(router, dependencies=[Depends(require_store)])
"""

from dataclasses import dataclass

from fastapi import Request

from services.server.state import state_of
from services.storage.startup_check import StartupCheck


@dataclass(frozen=True, slots=True)
class StoreState:
    """Base of the state of such a service."""

    startup: StartupCheck


async def require_store(request: Request) -> None:
    """Dependency: raises AlignXError until the check has passed."""
    state_of(request.app, StoreState).startup.check()
