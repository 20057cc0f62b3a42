"""Teacher and judge behind a cache: every answer is stored, and requested once.

The key of an answer is the hash of all it depends on: model, messages, sampling and the number of the sample. An
answer is stored before its slot is free, so a run that is killed loses only the calls under way. A call to an
engine that is overloaded or silent is repeated with exponential backoff; a refused input is not.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import orjson

from services.engine.choice.choice_client import ChoiceClient
from services.engine.client import Server, open_session
from services.engine.guard import CallKind, Progress
from services.engine.judge import Likelihood
from services.engine.refusals import is_retryable
from services.engine.wire import Body, Sampling
from services.errors import EngineError, EngineRejected, EngineUnavailable
from services.prompts.build import ChatMessage
from training.exceptions import TrainingError
from training.rl.rewards import TENANT
from training.synthesis.answer_store import AnswerStore
from training.synthesis.options import Candidates, EngineAt

Role = Literal["teacher", "judge"]
Value = TypeVar("Value")

LONGEST_WAIT_S = 60.0
_REFUSALS_AT_START = 20


class EngineFailed(TrainingError):
    """An engine that does not answer, or not as needed, for long enough to end the run."""


@dataclass(frozen=True)
class Answer:
    text: str
    whole: bool
    """False when the limit of tokens cut it off."""


@dataclass
class Usage:
    """What one run asked of one engine."""

    calls: int = 0
    cached_calls: int = 0
    repeats: int = 0
    """Tries beyond the first of a call."""
    refused: int = 0
    """Calls that the engine refused for their input."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class CachedEngine:
    """An engine behind the store of its answers, for `services.engine.judge`."""

    def __init__(
        self, role: Role, config: EngineAt, engine: ChoiceClient, model: str, store: AnswerStore, usage: Usage
    ) -> None:
        self.role = role
        self.usage = usage
        self._config = config
        self._engine = engine
        self._model = model
        self._store = store
        self._slots = asyncio.Semaphore(config.concurrency)

    async def complete(
        self, messages: Sequence[ChatMessage], sampling: Candidates, sample: int = 0, *, thinking: bool = True
    ) -> Answer:
        """The reply number `sample` to the same messages. Raises EngineRejected and EngineFailed."""
        options: Sampling = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
        }
        if not thinking:
            options["thinking"] = False

        async def call() -> list[Any]:
            reply = await self._engine.complete(messages, tenant=TENANT, **options)
            return [reply.text, reply.finish_reason]

        key = self._key("complete", messages, {**options, "sample": sample})
        text, finish_reason = await self._cached(key, call)
        return Answer(text, finish_reason != "length")

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        async def call() -> list[float]:
            return await self._engine.choose(messages, letters, tenant=tenant, priority=priority)

        logprobs: list[float] = await self._cached(self._key("choose", messages, {"letters": list(letters)}), call)
        return logprobs

    async def likelihood(
        self, messages: Sequence[ChatMessage], reply: str, *, tenant: str, priority: int = 0
    ) -> Likelihood:
        async def call() -> list[Any]:
            return list(await self._engine.likelihood(messages, reply, tenant=tenant, priority=priority))

        return Likelihood(*await self._cached(self._key("likelihood", messages, {"reply": reply}), call))

    def _key(self, kind: str, messages: Sequence[ChatMessage], options: dict[str, Any]) -> str:
        parts = [kind, self._model, list(messages), options]
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()

    async def _cached(self, key: str, call: Callable[[], Awaitable[Any]]) -> Any:
        stored = self._store.get(key)
        if stored is not None:
            self.usage.cached_calls += 1
            return stored
        for tried in range(self._config.retries + 1):
            self.usage.repeats += tried > 0
            try:
                async with self._slots:
                    answer = await call()
                    self.usage.calls += 1
                    self._store.put(key, self.role, answer)
                    return answer
            except EngineRejected as error:
                self._note_refusal(error)
                raise
            except (EngineUnavailable, EngineError) as error:
                wait = self._wait(error, tried)
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _note_refusal(self, error: EngineRejected) -> None:
        self.usage.refused += 1
        if self.usage.refused >= _REFUSALS_AT_START and self.usage.calls == 0:
            raise EngineFailed(
                f"The {self.role} refused each of its first {_REFUSALS_AT_START} calls: {error.detail}. Is its context "
                "window large enough, and, for a judge, does it give log-probabilities?"
            ) from error

    def _wait(self, error: EngineUnavailable | EngineError, tried: int) -> float:
        """Seconds before the next try. Raises EngineFailed when there is none."""
        if tried == self._config.retries or not is_retryable(error):
            raise EngineFailed(
                f"The {self.role} at {self._config.url} failed {tried + 1} times: {error.detail}. What it answered so "
                "far is kept; the same command goes on from there"
            ) from error
        return pause(tried, self._config.backoff_s, error.retry_after)


def pause(tried: int, backoff_s: float, retry_after: float | None) -> float:
    """Seconds to wait after `tried` repeats: doubling up to a minute, then shortened at random by up to a
    half, so that calls which failed together do not come back together; never less than asked for."""
    doubled = min(LONGEST_WAIT_S, backoff_s * 2.0**tried)
    return max(retry_after or 0.0, doubled * random.uniform(0.5, 1.0))


@asynccontextmanager
async def open_engine(
    role: Role, config: EngineAt, store: AnswerStore, *, known_as: str = ""
) -> AsyncIterator[CachedEngine]:
    """Stored answers are found by the model's name and, if given, by `known_as`. Raises EngineFailed where no
    model is named and the engine cannot list any."""
    usage = Usage()

    @asynccontextmanager
    async def count_tokens(_kind: CallKind, _tenant: str, _body: Body) -> AsyncIterator[Progress]:
        progress = Progress()
        try:
            yield progress
        finally:
            tokens = progress.tokens
            usage.prompt_tokens += tokens.prompt
            usage.completion_tokens += tokens.completion
            store.spend(role, tokens.prompt, tokens.completion)

    key = config.key()
    server = Server(
        config.url,
        config.model,
        key.get_secret_value() if key else None,
        connect_timeout_s=config.connect_timeout_s,
        read_timeout_s=config.read_timeout_s,
    )
    async with open_session() as session:
        engine = ChoiceClient(session, server, count_tokens)
        try:
            model = await engine.model()
        except (EngineUnavailable, EngineError) as error:
            raise EngineFailed(f"The {role} at {config.url} does not tell its models: {error.detail}") from error
        yield CachedEngine(role, config, engine, f"{model} {known_as}".rstrip(), store, usage)
