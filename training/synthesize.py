"""Makes the rows of AlignXplore+ supervised fine-tuning out of users' choices, with a teacher and a judge.

    python -m training.synthesize training/configs/synthesize.toml candidates.count=8 limit=1000

Teacher and judge are any two OpenAI-compatible engines (or one under both names); the judge must give
log-probabilities. For each user, at most two rows: see training/synthesis/recipe.py. Beside the output
OUT stand `OUT.journal` (which users are done), `OUT.answers.sqlite` (every answer of the engines) and,
at the end, `OUT.report.json` (what came of each stage). The same command goes on where a run ended,
whether it was killed or an engine failed: no answer is asked for twice, and the rows are those of a run
that nothing disturbed.
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
from training.synthesis.engines import KeptEngine, open_engine
from training.synthesis.options import Synthesis
from training.synthesis.output import Output, beside, settings_of, write_whole
from training.synthesis.recipe import STAGES, Outcome, Recipe
from training.synthesis.signals import ProfileScorer, SequenceScorer
from training.synthesis.source_users import User, Users

Shown = Callable[[], None]


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
            with _progress(users, output, (teacher, judge)) as shown:
                await _work(users, recipe, output, config.users_at_once, shown)
            report = _report(users, output, (teacher, judge), store)
    write_whole(beside(config.output, ".report.json"), report)
    return report


def _scorer(config: Synthesis, judge: KeptEngine) -> ProfileScorer | SequenceScorer:
    if config.targets.scorer == "profile":
        return ProfileScorer()
    return SequenceScorer(judge, recent_tokens=config.targets.recent_tokens)


async def _work(users: Users, recipe: Recipe, output: Output, at_once: int, shown: Shown) -> None:
    """Several users at once, written in the order of the input, so that the output does not depend on
    which answer came first."""
    waiting: deque[tuple[User, asyncio.Task[Outcome]]] = deque()

    async def write_next() -> None:
        user, task = waiting[0]
        output.add(user, await task)
        waiting.popleft()
        shown()

    try:
        for user in _not_done(users, output):
            waiting.append((user, asyncio.create_task(recipe.rows(user))))
            if len(waiting) == at_once:
                await write_next()
        while waiting:
            await write_next()
        shown()
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


def _not_done(users: Users, output: Output) -> Iterator[User]:
    done = tuple(output.done)
    place = -1
    for place, user in enumerate(users):
        if place >= len(done):
            yield user
        elif user.digest != done[place]:
            raise DatasetError(
                f"{users.path}: user {place + 1} is not the one that an earlier run found there; name another output"
            )
    if place + 1 < len(done) and users.limit is None:
        raise DatasetError(f"{users.path}: holds {place + 1} users, but an earlier run found {len(done)}")


def _report(users: Users, output: Output, engines: Sequence[KeptEngine], store: AnswerStore) -> dict[str, Any]:
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
def _progress(users: Users, output: Output, engines: Sequence[KeptEngine]) -> Iterator[Shown]:
    """A bar with the time left, on stderr; the function it gives brings it up to date."""
    columns = (
        TextColumn("users"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[made]}"),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        bar = progress.add_task("users", total=None, made="")

        def shown() -> None:
            calls = sum(engine.usage.calls for engine in engines)
            cached = sum(engine.usage.cached_calls for engine in engines)
            made = f"{output.rows:,} rows, {calls:,} calls, {cached:,} from the cache"
            progress.update(bar, total=users.estimate, completed=len(output.done), made=made)

        shown()
        yield shown


def main(arguments: Sequence[str] | None = None) -> None:
    run_script(Synthesis, synthesize, arguments)


if __name__ == "__main__":
    main()
