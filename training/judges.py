"""The judge of a GRPO run: a frozen model in this process, or an engine elsewhere.

In process it is a `LocalEngine` with weights of its own: a judge that shared the policy's would reward
itself. Elsewhere it is any OpenAI-compatible engine; its answers are stored beside the run, so that a
resumed run repeats no request.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import model_validator

from services.errors import EngineRejected
from services.prompts.build import ChatMessage
from training.checkpoint import run_dir
from training.config import PositiveInt, Section, Stage
from training.exceptions import CheckpointError, DatasetError, warn_on_failure
from training.speed.local_engine import LocalEngine
from training.synthesis.answer_store import AnswerStore
from training.synthesis.engines import CachedEngine, open_engine
from training.synthesis.options import EngineAt

ANSWERS = "judge.sqlite"


class Judge(Section):
    path: str | None = None
    """A checkpoint folder, or a model's name that the local cache holds, to judge in this process;
    default: the model the run starts from."""
    engine: EngineAt | None = None
    """Instead of `path`, an engine elsewhere: a table [judge.engine] with its `url`."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Of a judge in this process. On a CPU its weights stay in float32 and the arithmetic is cast."""
    batch_tokens: PositiveInt | None = None
    """Tokens of a forward of a judge in this process; default: 2048 on a CPU, else 16384."""

    @model_validator(mode="after")
    def _check_judge(self) -> Self:
        if self.path and self.engine:
            raise ValueError("path and engine exclude each other")
        return self


class RemoteJudge:
    """A `LetterEngine` elsewhere. It opens at the first request, in the event loop of the caller."""

    def __init__(self, config: EngineAt, store: Path) -> None:
        self._config = config
        self._store = store
        self._opened = AsyncExitStack()
        self._engine: asyncio.Future[CachedEngine] | None = None

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        if self._engine is None:
            self._engine = asyncio.ensure_future(self._open())
        return await (await self._engine).choose(messages, letters, tenant=tenant, priority=priority)

    async def _open(self) -> CachedEngine:
        store = self._opened.enter_context(AnswerStore.open(self._store))
        return await self._opened.enter_async_context(open_engine("judge", self._config, store))

    async def aclose(self) -> None:
        """Await it in the event loop of the requests."""
        await self._opened.aclose()


def open_judge(judge: Judge, config: Stage, device: torch.device) -> Any:
    """The judge of a run: a `RemoteJudge` or a `LocalEngine`. Raises CheckpointError."""
    if judge.engine:
        return RemoteJudge(judge.engine, run_dir(config.run.output) / ANSWERS)
    path, bf16 = judge.path or config.model.path, judge.precision == "bf16"
    on_cpu = device.type == "cpu"
    try:
        engine = LocalEngine.load(
            path,
            device=str(device),
            dtype="bfloat16" if bf16 and not on_cpu else "float32",
            batch_tokens=judge.batch_tokens,
            autocast=bf16 and on_cpu,
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(f"judge.path: {path} cannot be used as a judge: {error}") from error
    engine.model.requires_grad_(False)
    return engine


@contextmanager
def close_judge(judge: Any, loop: asyncio.AbstractEventLoop, output: Path) -> Iterator[None]:
    """Closes the judge after the block, in the event loop of its requests. After a finished run, an error
    in closing is a warning. Raises DatasetError for a row that the judge refuses to read."""
    finished = False
    try:
        yield
        finished = True
    except EngineRejected as error:
        raise DatasetError(f"the judge cannot read a target with a summary: {error.detail}") from error
    finally:
        if isinstance(judge, RemoteJudge):
            with warn_on_failure("closing the judge", f"the weights are in {output}", when=lambda: finished):
                asyncio.run_coroutine_threadsafe(judge.aclose(), loop).result()
