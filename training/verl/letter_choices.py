"""The judge of a verl run: a model behind an OpenAI-compatible URL, asked for the odds of letters.

A `LetterEngine` as services/engine/judge.py wants it: the client of serving (services/engine/choice/choice_client.py)
with one pool of connections a worker process, and with retries, because a judge that restarts must not cost a step of
training.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from functools import cache
from typing import Final

import aiohttp

from services.engine.choice.choice_client import ChoiceClient
from services.engine.client import Server, open_session
from services.engine.refusals import is_retryable
from services.errors import EngineUnavailable
from services.prompts.build import ChatMessage

ATTEMPTS: Final = 8
"""Of one choice; the waits between them double from half a second and come to about a minute."""
FIRST_WAIT_S: Final = 0.5


class UrlLetters:
    """Opens at most `connections` to the server at once, from the first call on until `close`."""

    def __init__(self, server: Server, connections: int, wait_s: float = FIRST_WAIT_S) -> None:
        self._server = server
        self._connections = connections
        self._wait_s = wait_s
        self._session: aiohttp.ClientSession | None = None
        self._client: ChoiceClient | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = self._client = None

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        """As `ChoiceClient.choose`. Raises EngineUnavailable, EngineRejected, EngineError."""
        client = self._client or self._open()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await client.choose(messages, letters, tenant=tenant, priority=priority)
            except EngineUnavailable as error:
                if attempt == ATTEMPTS or not is_retryable(error):
                    raise
            await asyncio.sleep(self._wait_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
        raise AssertionError("the last attempt returns or raises")

    def _open(self) -> ChoiceClient:
        self._session = open_session(self._connections)
        self._client = ChoiceClient(self._session, self._server)
        return self._client


@cache
def letters_at(url: str, model: str | None, key_env: str | None, connections: int) -> UrlLetters:
    """The one client of this process for a judge: verl makes a loop object for every user, and the
    limit of connections must hold for all of them. It lives as long as the worker. `model=None` asks the first
    model that the server lists."""
    key = os.environ.get(key_env) if key_env else None
    if key_env and not key:
        raise EngineUnavailable(f"two_stage.judge_key_env: the environment variable {key_env} is not set")
    return UrlLetters(Server(url, model, key, connect_timeout_s=10.0, read_timeout_s=120.0), connections)
