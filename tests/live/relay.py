"""A way to the engine that can be cut or frozen: its faults, without ending the engine that tests share."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


class Relay:
    """Passes connections on to `port` of this machine until told otherwise. Runs in a thread of its own."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._flows = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._thread.start()
        self.port = 0
        self.mend()

    def cut(self) -> None:
        """Ends every connection and refuses new ones."""
        self._run(self._cut())

    def freeze(self) -> None:
        """Takes connections and requests, and answers nothing."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def mend(self) -> None:
        """Passes everything on again."""
        self._run(self._mend())

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _mend(self) -> None:
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        self._flows.set()
        if self._server:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target)
            self._open |= {writer, onward}
            try:
                await asyncio.gather(self._pass(reader, onward), self._pass(onward_reader, writer))
            finally:
                self._open -= {writer, onward}
                onward.close()
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
