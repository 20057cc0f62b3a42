"""The judge of a verl run: a model behind an OpenAI-compatible URL, asked for the odds of letters.

A `LetterEngine` as services/engine/judge.py wants it. It is the part of the serving client that a
trainer needs, without settings, breaker and streaming: one pool of connections a worker process, and
patience instead of refusal, because a judge that is restarted must not cost a step of training.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import aiohttp

from services.errors import EngineError, EngineRejected, EngineUnavailable
from services.prompts.build import ChatMessage

ATTEMPTS: Final = 8
"""Of one call; the waits between them double from half a second and come to about a minute."""
FIRST_WAIT_S: Final = 0.5
SILENCE_S: Final = 120.0
"""Longest wait for a single answer of one token."""
TOP_LOGPROBS: Final = 20
"""The most that OpenAI's API lists; asked for where single tokens cannot be."""


class UrlLetters:
    """`model=None` asks the first model that the server lists."""

    def __init__(
        self, url: str, model: str | None, key: str | None, connections: int, wait_s: float = FIRST_WAIT_S
    ) -> None:
        self._base = url.rstrip("/")
        self._root = self._base.removesuffix("/v1")
        self._model = model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._connections = connections
        self._wait_s = wait_s
        self._session: aiohttp.ClientSession | None = None
        self._ids: dict[tuple[str, ...], list[int] | None] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        """Log-probability of each of `letters` as the token that continues the last message.

        Where the server cannot be asked for single tokens, a letter outside its 20 likeliest gets the
        lowest listed log-probability. Raises EngineUnavailable, EngineRejected, EngineError.
        """
        body = {
            "model": await self._name(),
            "messages": list(messages),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "add_generation_prompt": False,
            "continue_final_message": True,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        ids = await self._ids_of(tuple(letters))
        if ids is not None:
            asked = {"logprob_token_ids": ids, "return_tokens_as_token_ids": True}
            found = _first_token(await self._post(f"{self._base}/chat/completions", body | asked))
            if all(f"token_id:{token}" in found for token in ids):
                return [found[f"token_id:{token}"] for token in ids]
            self._ids[tuple(letters)] = None
        found = _first_token(await self._post(f"{self._base}/chat/completions", body | {"top_logprobs": TOP_LOGPROBS}))
        floor, bare = min(found.values()), {token.strip(): value for token, value in reversed(found.items())}
        return [found.get(letter, bare.get(letter.strip(), floor)) for letter in letters]

    async def _name(self) -> str:
        if self._model is None:
            try:
                self._model = str((await self._call("GET", f"{self._base}/models", None))["data"][0]["id"])
            except (LookupError, TypeError) as error:
                raise EngineError("The judge does not list its models") from error
        return self._model

    async def _ids_of(self, letters: tuple[str, ...]) -> list[int] | None:
        """The letters' token ids; null where the server cannot tell or a letter is several tokens."""
        if letters not in self._ids:
            self._ids[letters] = await self._tokenized(letters)
        return self._ids[letters]

    async def _tokenized(self, letters: Sequence[str]) -> list[int] | None:
        name, url = await self._name(), f"{self._root}/tokenize"
        bodies = [{"model": name, "prompt": letter, "add_special_tokens": False} for letter in letters]
        try:
            answers = await asyncio.gather(*(self._post(url, body) for body in bodies))
        except EngineRejected:  # a server other than vLLM
            return None
        ids = [answer["tokens"][0] for answer in answers if len(answer.get("tokens", ())) == 1]
        return ids if len(set(ids)) == len(letters) else None

    async def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._call("POST", url, body)

    async def _call(self, method: str, url: str, body: dict[str, Any] | None) -> dict[str, Any]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(method, url, body)
            except EngineUnavailable:
                if attempt == ATTEMPTS:
                    raise
            await asyncio.sleep(self._wait_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, method: str, url: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            async with self._opened().request(method, url, json=body) as response:
                status, answer = response.status, await response.json(content_type=None) if response.ok else None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineUnavailable("The judge does not answer") from error
        except ValueError as error:
            raise EngineError("The judge's answer cannot be read") from error
        if status == 429 or status >= 500:
            raise EngineUnavailable(f"The judge is overloaded or failed (status {status})")
        if status >= 400:
            raise EngineRejected(f"The judge refused a request (status {status})", engine_status=status)
        if not isinstance(answer, dict):
            raise EngineError("The judge's answer cannot be read")
        return answer

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=SILENCE_S),
            )
        return self._session


def _first_token(answer: dict[str, Any]) -> dict[str, float]:
    """Log-probabilities of the first answered token by token, likeliest first."""
    try:
        listed = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = {entry["token"]: float(entry["logprob"]) for entry in listed}
    except (LookupError, TypeError, ValueError) as error:
        raise EngineError("The judge's answer cannot be read") from error
    if not found:
        raise EngineError("The judge's answer holds no log-probabilities")
    return found


@cache
def letters_at(url: str, model: str | None, key_env: str | None, connections: int) -> UrlLetters:
    """The one client of this process for a judge: verl makes a loop object for every user, and the
    limit of connections must hold for all of them. It lives as long as the worker."""
    key = os.environ.get(key_env) if key_env else None
    if key_env and not key:
        raise EngineUnavailable(f"two_stage.judge_key_env: the environment variable {key_env} is not set")
    return UrlLetters(url, model, key, connections)
