"""The model that is measured: it writes summaries, and as a judge it chooses between two items.

A checkpoint runs in this process (training/speed/local_engine.py), an engine behind a URL is asked over HTTP. Both
keep each answer in a file beside the result, under the hash of all it depends on, so that a run that
was interrupted goes on where it stopped, and settings that ask for the same share the answer.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from evaluation.model_sources import checkpoint, is_url
from evaluation.results import Source
from services.engine.judge import LetterEngine
from services.prompts.build import ChatMessage, estimate_tokens
from training.exceptions import CheckpointError, ConfigError
from training.synthesis.answer_store import AnswerStore
from training.synthesis.engines import CachedEngine, open_engine
from training.synthesis.options import Candidates, EngineAt

Messages = Sequence[ChatMessage]
Tick = Callable[[int], None]
"""Hears of so many more answers."""


@dataclass(frozen=True)
class Sampling:
    """How replies are written; `temperature` 0 takes the likeliest tokens."""

    max_tokens: int = 1024
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 20
    thinking: bool = True
    """Passed on to the chat template."""


class Likelihood(NamedTuple):
    """Of one reply."""

    logprob: float
    tokens: int


class Model(LetterEngine, Protocol):
    """What the settings need of a model."""

    @property
    def source(self) -> Source: ...

    @property
    def calls(self) -> int:
        """Answers so far, kept ones left out."""
        ...

    @property
    def needed(self) -> int:
        """Answers asked for so far, kept or not."""
        ...

    @property
    def opened(self) -> bool:
        """Whether the chat template writes <think>, so that replies lack it."""
        ...

    async def write(self, prompts: Sequence[Messages], sampling: Sampling, *, seed: int, tick: Tick) -> list[str]: ...

    def tokens(self, text: str) -> int: ...


class InProcess(LetterEngine, Protocol):
    """The part of training/speed/local_engine.py that is used here."""

    def generate(
        self,
        prompts: Sequence[Messages],
        *,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int,
        seed: int,
        thinking: bool,
    ) -> list[str]: ...

    def token_logprobs(self, rows: Sequence[tuple[Messages, str]]) -> list[list[float]]: ...


def _digest(*parts: Any) -> str:
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


class LocalModel:
    """A model in this process.

    Replies are written in groups of `batch`, each group with a seed of its own and kept as a whole: a
    run that was interrupted ends with the replies it would have had anyway.
    """

    def __init__(
        self,
        engine: InProcess,
        source: Source,
        store: AnswerStore,
        *,
        tokens: Callable[[str], int] = estimate_tokens,
        opened: bool = False,
        arithmetic: str = "float32",
        batch: int = 64,
    ) -> None:
        self.source = source
        self.opened = opened
        self.tokens = tokens
        self.calls = 0
        self.needed = 0
        self._engine = engine
        self._store = store
        self._identity = [source.sha256 or source.name, arithmetic]
        self._batch = batch

    async def choose(
        self, messages: Messages, letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        key = _digest("choose", self._identity, list(messages), list(letters))
        kept: list[float] | None = self._store.get(key)
        self.needed += 1
        if kept is None:
            kept = await self._engine.choose(messages, letters, tenant=tenant, priority=priority)
            self._store.put(key, "judge", kept)
            self.calls += 1
        return kept

    async def write(self, prompts: Sequence[Messages], sampling: Sampling, *, seed: int, tick: Tick) -> list[str]:
        replies: list[str] = []
        for start in range(0, len(prompts), self._batch):
            group = prompts[start : start + self._batch]
            key = _digest("write", self._identity, [list(prompt) for prompt in group], asdict(sampling), seed)
            kept: list[str] | None = self._store.get(key)
            if kept is None:
                kept = self._engine.generate(
                    group,
                    max_new_tokens=sampling.max_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    top_k=sampling.top_k,
                    seed=int(key[:8], 16),
                    thinking=sampling.thinking,
                )
                self._store.put(key, "writer", kept)
                self.calls += len(group)
            self.needed += len(group)
            replies += kept
            tick(len(group))
        return replies

    def likelihoods(self, rows: Sequence[tuple[Messages, str]], *, tick: Tick) -> list[Likelihood]:
        """Summed natural log-probability of each reply's tokens, the one that ends it left out."""
        found: list[Likelihood] = []
        for start in range(0, len(rows), self._batch):
            group = rows[start : start + self._batch]
            keys = [_digest("likelihood", self._identity, list(messages), reply) for messages, reply in group]
            kept = [self._store.get(key) for key in keys]
            wanted = [place for place, answer in enumerate(kept) if answer is None]
            scored = self._engine.token_logprobs([group[place] for place in wanted]) if wanted else []
            for place, logprobs in zip(wanted, scored, strict=True):
                kept[place] = [sum(logprobs), len(logprobs)]
                self._store.put(keys[place], "likelihood", kept[place])
            self.calls += len(wanted)
            self.needed += len(group)
            found += [Likelihood(*answer) for answer in kept]
            tick(len(group))
        return found


class RemoteModel:
    """An OpenAI-compatible engine. It draws its replies itself: a repetition gets the same ones from
    the file of kept answers, not from the seed."""

    def __init__(self, engine: CachedEngine, source: Source, *, opened: bool = False, batch: int = 64) -> None:
        self.source = source
        self.opened = opened
        self._engine = engine
        self._batch = batch

    @property
    def calls(self) -> int:
        return self._engine.usage.calls

    @property
    def needed(self) -> int:
        return self._engine.usage.calls + self._engine.usage.cached_calls

    def tokens(self, text: str) -> int:
        return estimate_tokens(text)

    async def choose(
        self, messages: Messages, letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        return await self._engine.choose(messages, letters, tenant=tenant, priority=priority)

    async def write(self, prompts: Sequence[Messages], sampling: Sampling, *, seed: int, tick: Tick) -> list[str]:
        asked = Candidates(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=max(sampling.top_k, 0),
            max_tokens=sampling.max_tokens,
        )

        async def one(prompt: Messages) -> str:
            answer = await self._engine.complete(prompt, asked, sample=seed, thinking=sampling.thinking)
            tick(1)
            return answer.text

        return list(await asyncio.gather(*map(one, prompts)))


# --- opening -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placement:
    """Where and how a model computes."""

    device: str = "cpu"
    dtype: str = "float32"
    autocast: bool = False
    batch: int = 64
    """Replies written, or users judged, as one group."""
    batch_tokens: int | None = None
    """Of one forward in this process, padding included; default: what suits the device (speed/local_engine.py)."""
    model_name: str | None = None
    """An engine behind a URL: which of its models is asked; default: the first it lists."""
    api_key_env: str | None = None
    identity: str | None = None
    """An engine behind a URL: what its kept answers are found by besides its model's name, such as the hash of the
    checkpoint it serves; default: the URL."""
    opened: bool = False
    """An engine behind a URL: whether its chat template writes <think>."""
    concurrency: int = 64
    """An engine behind a URL: calls under way at once; more wait."""


@asynccontextmanager
async def open_model(where: str, store: AnswerStore, placement: Placement) -> AsyncIterator[Model]:
    """The checkpoint in a folder, or the engine at a URL. Raises TrainingError."""
    if not is_url(where):
        yield load_local(where, store, placement)
        return
    config = EngineAt(
        url=where,
        model=placement.model_name,
        api_key_env=placement.api_key_env,
        concurrency=placement.concurrency,
    )
    async with open_engine("judge", config, store, known_as=placement.identity or where) as engine:
        yield RemoteModel(
            engine,
            Source(name=" ".join(filter(None, (placement.model_name, where)))),
            opened=placement.opened,
            batch=placement.batch,
        )


def load_local(where: str, store: AnswerStore, placement: Placement) -> LocalModel:
    """Raises CheckpointError for a folder that holds no checkpoint, ConfigError for a URL."""
    if is_url(where):
        raise ConfigError(f"{where}: alignment accuracy needs a checkpoint folder, not a URL")
    source = checkpoint(Path(where))
    # torch and transformers: not needed for a URL
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    from training.speed.local_engine import LocalEngine, opens_thinking

    disable_progress_bar()
    try:
        engine = LocalEngine.load(
            where,
            device=placement.device,
            dtype=placement.dtype,
            autocast=placement.autocast,
            batch_tokens=placement.batch_tokens,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{where} cannot be loaded as a checkpoint: {error}") from error
    arithmetic = f"{placement.dtype}, autocast" if placement.autocast else placement.dtype
    return LocalModel(
        engine,
        source,
        store,
        tokens=lambda text: len(engine.tokenizer.encode(text, add_special_tokens=False)),
        opened=opens_thinking(engine.tokenizer),
        arithmetic=arithmetic,
        batch=placement.batch,
    )
