"""A service's server on a port of its own, in the event loop of the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.server.app import GracefulServer


@asynccontextmanager
async def running_server(server: GracefulServer) -> AsyncIterator[str]:
    """Its URL; at the end it shuts down unless it has."""
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
