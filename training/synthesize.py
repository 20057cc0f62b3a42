"""Makes rows of AlignXplore+ supervised fine-tuning from users' choices, with a teacher and a judge.

    python -m training.synthesize training/configs/synthesize.toml candidates.count=8 limit=1000

Teacher and judge are any two OpenAI-compatible engines (or one under both names); the judge must give
log-probabilities. For each user, at most two rows: see training/synthesis/recipe.py. Beside the output
OUT it writes `OUT.journal` (the finished users), `OUT.answers.sqlite` (every answer of the engines) and,
at the end, `OUT.report.json` (counts of each stage). After a kill or an engine failure the same command
resumes: it repeats no call, and writes the rows of an uninterrupted run.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.config import run_script
from training.exceptions import DatasetError
from training.synthesis.answer_store import AnswerStore
from training.synthesis.engines import CachedEngine, open_engine
from training.synthesis.options import Synthesis
from training.synthesis.output import Output, beside, settings_of, write_whole
from training.synthesis.recipe import STAGES, Outcome, Recipe
from training.synthesis.signals import ProfileScorer, SequenceScorer
from training.synthesis.source_users import User, Users

Refresh = Callable[[], None]


def synthesize(config: Synthesis) -> dict[str, Any]:
    """Makes rows of supervised fine-tuning, with a teacher and a judge. Returns the report.

    Raises a TrainingError: the input cannot be read, the output belongs to another run, an engine fails.
    """
    report = asyncio.run(_synthesize(config))
    print(f"{config.output}: {report['rows_out']:,} rows of {report['users']['in']:,} users")
    return report


async def _synthesize(config: Synthesis) -> dict[str, Any]:
    users = Users(config.input, config.limit, config.malformed)
    with (
        Output.open(config.output, settings_of(config)) as output,
        AnswerStore.open(config.cache or beside(config.output, ".answers.sqlite")) as store,
    ):
        async with (
            open_engine("teacher", config.teacher, store) as teacher,
            open_engine("judge", config.judge, store) as judge,
        ):
            recipe = Recipe(config, teacher, judge, _scorer(config, judge))
            with _progress(users, output, (teacher, judge)) as refresh:
                await _work(users, recipe, output, config.users_at_once, refresh)
            report = _report(users, output, (teacher, judge), store)
    write_whole(beside(config.output, ".report.json"), report)
    return report


def _scorer(config: Synthesis, judge: CachedEngine) -> ProfileScorer | SequenceScorer:
    if config.targets.scorer == "profile":
        return ProfileScorer()
    return SequenceScorer(judge, recent_tokens=config.targets.recent_tokens)


async def _work(users: Users, recipe: Recipe, output: Output, concurrency: int, refresh: Refresh) -> None:
    """Several users concurrently, written in the order of the input, so that the output does not depend on
    the order of the answers."""
    waiting: deque[tuple[User, asyncio.Task[Outcome]]] = deque()

    async def write_next() -> None:
        user, task = waiting[0]
        output.add(user, await task)
        waiting.popleft()
        refresh()

    try:
        for user in _not_done(users, output):
            waiting.append((user, asyncio.create_task(recipe.rows(user))))
            if len(waiting) == concurrency:
                await write_next()
        while waiting:
            await write_next()
        refresh()
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


def _not_done(users: Users, output: Output) -> Iterator[User]:
    done = tuple(output.done)
    index = -1
    for index, user in enumerate(users):
        if index >= len(done):
            yield user
        elif user.digest != done[index]:
            raise DatasetError(
                f"{users.path}: user {index + 1} is not the one that an earlier run found there; name another output"
            )
    if index + 1 < len(done) and users.limit is None:
        raise DatasetError(f"{users.path}: holds {index + 1} users, but an earlier run found {len(done)}")


def _report(users: Users, output: Output, engines: Sequence[CachedEngine], store: AnswerStore) -> dict[str, Any]:
    counts = output.counts
    with_rows = {f"with_{rows}_rows": counts[f"users.with_{rows}_rows"] for rows in range(3)}
    return {
        "users": {
            "malformed": dict(users.report.malformed),
            "in": len(output.done),
            "too_short": counts["users.short"],
            **with_rows,
        },
        "first": {stage: counts[f"first.{stage}"] for stage in STAGES},
        "streaming": {stage: counts[f"streaming.{stage}"] for stage in STAGES},
        "rows_out": output.rows,
        "this_run": {engine.role: asdict(engine.usage) for engine in engines},
        "all_answers": store.totals(),
    }


@contextmanager
def _progress(users: Users, output: Output, engines: Sequence[CachedEngine]) -> Iterator[Refresh]:
    """A progress bar on stderr; yields the function that refreshes it."""
    columns = (
        TextColumn("users"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        bar = progress.add_task("users", total=None, status="")

        def refresh() -> None:
            calls = sum(engine.usage.calls for engine in engines)
            cached = sum(engine.usage.cached_calls for engine in engines)
            status = f"{output.rows:,} rows, {calls:,} calls, {cached:,} from the cache"
            progress.update(bar, total=users.estimate, completed=len(output.done), status=status)

        refresh()
        yield refresh


if __name__ == "__main__":
    run_script(Synthesis, synthesize)
