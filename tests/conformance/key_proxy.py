"""A proxy that adds an API key, for clients which send none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from aiohttp import web

_DROPPED = {"content-length", "transfer-encoding", "connection", "keep-alive"}


@asynccontextmanager
async def proxy_with_key(url: str, key: str) -> AsyncIterator[str]:
    """The address of a proxy in front of `url`."""

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _DROPPED}
        headers["Authorization"] = f"Bearer {key}"
        body = await request.read()
        async with session.request(request.method, f"{url}{request.path_qs}", data=body, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _DROPPED}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            with suppress(ConnectionError):  # who has read enough leaves
                async for piece in answer.content.iter_any():
                    await response.write(piece)
            return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
