"""Models under evaluation: they write summaries, and as a judge they choose between items.

A checkpoint runs in this process (training/speed/local_engine.py), an engine behind a URL is called over HTTP. Both
store each answer under the hash of its inputs, so that an interrupted run resumes, and settings with equal
prompts share answers.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, TypeVar

import orjson
from pydantic import Field

from evaluation.model_sources import LocalPath, checkpoint_source, is_url
from evaluation.results import Source
from services.engine.judge import ChoiceProtocol, Likelihood, LikelihoodEngine
from services.prompts.build import ChatMessage, estimate_tokens
from training.config import Fraction, PositiveInt, Section
from training.exceptions import CheckpointError, ConfigError
from training.synthesis.answer_store import AnswerStore
from training.synthesis.engines import CachedEngine, open_engine
from training.synthesis.options import Candidates, EngineAt

if TYPE_CHECKING:
    from training.speed.local_engine import LocalEngine

T = TypeVar("T")
Answer = TypeVar("Answer")
Messages = Sequence[ChatMessage]
Tick = Callable[[int], None]
"""Reports progress: how many answers more are done."""


async def in_batches(
    ask: Callable[[T], Awaitable[Answer]], items: Sequence[T], batch: int, tick: Tick = lambda _: None
) -> list[Answer]:
    """What `ask` answers of each item, so many at once."""
    answers: list[Answer] = []
    for start in range(0, len(items), batch):
        group = items[start : start + batch]
        answers += await asyncio.gather(*map(ask, group))
        tick(len(group))
    return answers


class Sampling(Section):
    """How replies are written."""

    max_tokens: PositiveInt = 1024
    """Of a reply, reasoning included."""
    temperature: Annotated[float, Field(ge=0)] = 0.6
    """0 takes the likeliest tokens."""
    top_p: Fraction = 0.95
    top_k: Annotated[int, Field(ge=0)] = 20
    """0 for no limit."""
    thinking: bool = True
    """Passed to the chat template."""


class Model(LikelihoodEngine, Protocol):
    """A model as the settings use it."""

    protocol: ChoiceProtocol
    """How it judges."""

    @property
    def source(self) -> Source: ...

    @property
    def needed(self) -> int:
        """Answers requested so far, stored ones included."""
        ...

    @property
    def opens_thinking(self) -> bool:
        """Whether the chat template writes <think>, so that replies start after it."""
        ...

    async def write(self, prompts: Sequence[Messages], sampling: Sampling, *, seed: int, tick: Tick) -> list[str]: ...

    def tokens(self, text: str) -> int: ...


def _digest(*parts: Any) -> str:
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


class LocalModel:
    """A model in this process.

    Replies are written in groups of `batch`; each group has its own seed and is stored as a whole, so that an
    interrupted run ends with the same replies.
    """

    def __init__(
        self,
        engine: "LocalEngine",
        source: Source,
        store: AnswerStore,
        *,
        tokens: Callable[[str], int] = estimate_tokens,
        opens_thinking: bool = False,
        arithmetic: str = "float32",
        batch: int = 64,
    ) -> None:
        self.source = source
        self.protocol: ChoiceProtocol = "letters"
        self.opens_thinking = opens_thinking
        self.tokens = tokens
        self.needed = 0
        self._engine = engine
        self._store = store
        self._identity = [source.sha256 or source.name, arithmetic]
        self._batch = batch

    async def choose(
        self, messages: Messages, letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        key = _digest("choose", self._identity, list(messages), list(letters))
        return await self._judge(key, lambda: self._engine.choose(messages, letters, tenant=tenant, priority=priority))

    async def _judge(self, key: str, ask: Callable[[], Awaitable[Sequence[float]]]) -> list[float]:
        self.needed += 1
        answer: list[float] | None = self._store.get(key)
        if answer is None:
            answer = list(await ask())
            self._store.put(key, "judge", answer)
        return answer

    async def write(self, prompts: Sequence[Messages], sampling: Sampling, *, seed: int, tick: Tick) -> list[str]:
        replies: list[str] = []
        for start in range(0, len(prompts), self._batch):
            group = prompts[start : start + self._batch]
            key = _digest("write", self._identity, [list(prompt) for prompt in group], sampling.model_dump(), seed)
            texts: list[str] | None = self._store.get(key)
            if texts is None:
                texts = self._engine.generate(
                    group,
                    max_new_tokens=sampling.max_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    top_k=sampling.top_k,
                    seed=int(key[:8], 16),
                    thinking=sampling.thinking,
                )
                self._store.put(key, "writer", texts)
            self.needed += len(group)
            replies += texts
            tick(len(group))
        return replies

    async def likelihood(self, messages: Messages, reply: str, *, tenant: str, priority: int = 0) -> Likelihood:
        key = _digest("likelihood/2", self._identity, list(messages), reply)
        logprob, tokens = await self._judge(
            key, lambda: self._engine.likelihood(messages, reply, tenant=tenant, priority=priority)
        )
        return Likelihood(logprob, int(tokens))

    def likelihoods(self, rows: Sequence[tuple[Messages, str]], *, tick: Tick) -> list[Likelihood]:
        """Of each reply after its messages, both whole, without the token that ends it."""
        results: list[Likelihood] = []
        for start in range(0, len(rows), self._batch):
            group = rows[start : start + self._batch]
            keys = [_digest("likelihood", self._identity, list(messages), reply) for messages, reply in group]
            answers = [self._store.get(key) for key in keys]
            missing = [index for index, answer in enumerate(answers) if answer is None]
            scored = self._engine.token_logprobs([group[index] for index in missing]) if missing else []
            for index, logprobs in zip(missing, scored, strict=True):
                answers[index] = [sum(logprobs), len(logprobs)]
                self._store.put(keys[index], "likelihood", answers[index])
            self.needed += len(group)
            results += [Likelihood(*answer) for answer in answers]
            tick(len(group))
        return results


class RemoteModel:
    """An OpenAI-compatible engine. It draws its replies itself: a repeated run gets the same replies from the
    store of answers, not from the seed."""

    def __init__(self, engine: CachedEngine, source: Source, *, opens_thinking: bool = False) -> None:
        self.source = source
        self.protocol: ChoiceProtocol = "letters"
        self.opens_thinking = opens_thinking
        self._engine = engine

    @property
    def needed(self) -> int:
        return self._engine.usage.calls + self._engine.usage.cached_calls

    def tokens(self, text: str) -> int:
        return estimate_tokens(text)

    async def choose(
        self, messages: Messages, letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        return await self._engine.choose(messages, letters, tenant=tenant, priority=priority)

    async def likelihood(self, messages: Messages, reply: str, *, tenant: str, priority: int = 0) -> Likelihood:
        return await self._engine.likelihood(messages, reply, tenant=tenant, priority=priority)

    async def write(self, prompts: Sequence[Messages], sampling: Sampling, *, seed: int, tick: Tick) -> list[str]:
        candidates = Candidates(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
        )

        async def write_reply(prompt: Messages) -> str:
            answer = await self._engine.complete(prompt, candidates, sample=seed, thinking=sampling.thinking)
            tick(1)
            return answer.text

        return list(await asyncio.gather(*map(write_reply, prompts)))


# --- opening -----------------------------------------------------------------------------------


class Placement(Section):
    """Where and how a model computes. The fields from `model_name` on are of engines behind a URL."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    autocast: bool = False
    """Computes in bfloat16 and keeps the weights as they are."""
    batch: PositiveInt = 64
    """Replies written as one group."""
    batch_tokens: PositiveInt | None = None
    """Of one forward in this process, padding included; default: what suits the device (speed/local_engine.py)."""
    vllm: LocalPath | None = None
    """Python with vLLM, which then serves the checkpoint on this machine's CPU; default: it runs in this process."""
    model_name: str | None = None
    """Which of the engine's models; default: the first it lists."""
    api_key_env: str | None = None
    """Environment variable with the engine's key."""
    opens_thinking: bool = False
    """Whether the engine's chat template writes <think>."""
    concurrency: PositiveInt = 64
    """Calls of an engine at once; more wait."""


class ServedCheckpoint(NamedTuple):
    """A checkpoint behind a temporary URL; results and stored answers name the checkpoint."""

    url: str
    source: Source


@asynccontextmanager
async def open_model(
    location: str, store: AnswerStore, placement: Placement, served: ServedCheckpoint | None = None
) -> AsyncIterator[Model]:
    """The checkpoint in a folder, or the engine at a URL; `served` replaces the folder. Raises TrainingError."""
    if not served and not is_url(location):
        yield load_local(location, store, placement)
        return
    config = EngineAt(
        url=served.url if served else location,
        model=placement.model_name,
        api_key_env=placement.api_key_env,
        concurrency=placement.concurrency,
    )
    source = Source(name=" ".join(filter(None, (placement.model_name, location))))
    if served:
        source = Source(name=f"{served.source.name} in vLLM", sha256=served.source.sha256)
    async with open_engine("judge", config, store, known_as=source.sha256 or location) as engine:
        yield RemoteModel(engine, source, opens_thinking=placement.opens_thinking)


def load_local(location: str, store: AnswerStore, placement: Placement) -> LocalModel:
    """Raises CheckpointError for a folder that holds no checkpoint, ConfigError for a URL."""
    if is_url(location):
        raise ConfigError(f"{location}: alignment accuracy needs a checkpoint folder, not a URL")
    source = checkpoint_source(Path(location))
    # torch and transformers: not needed for a URL
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    from training.speed.local_engine import LocalEngine, opens_thinking

    disable_progress_bar()
    try:
        engine = LocalEngine.load(
            location,
            device=placement.device,
            dtype=placement.dtype,
            autocast=placement.autocast,
            batch_tokens=placement.batch_tokens,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{location} cannot be loaded as a checkpoint: {error}") from error
    arithmetic = f"{placement.dtype}, autocast" if placement.autocast else placement.dtype
    return LocalModel(
        engine,
        source,
        store,
        tokens=lambda text: len(engine.tokenizer.encode(text, add_special_tokens=False)),
        opens_thinking=opens_thinking(engine.tokenizer),
        arithmetic=arithmetic,
        batch=placement.batch,
    )
