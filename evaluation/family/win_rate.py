"""Win rate of two checkpoints: both answer the requests of AlignX rows, and a judge compares the answers.

    python -m evaluation.family.win_rate psoups.json MODEL OTHER --judge http://127.0.0.1:8001/v1 --out win.json

Models are checkpoint folders or engines' URLs. Each reads the prompt of its training (`--mode ica` or `pba`). The judge
reads the user's choices and both answers in both orders; a win counts 1, a tie .5 (evaluation/scoring/answers.py). The
interval draws whole questions. No persona of a row is read. Answers are stored beside `out`: the same command resumes.
"""

import asyncio
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from typer import Option

from evaluation.cases.pairs import make_prompt
from evaluation.model_sources import file_source
from evaluation.models import Messages, Model, Placement, Sampling, in_batches, open_model
from evaluation.results import Estimate, JsonFile, Source
from evaluation.scoring.answers import LOSS, TIE, WIN, Comparison, compare_replies
from evaluation.scoring.intervals import estimate
from services.errors import AlignXError
from training.data.formats import AlignXRow
from training.data.preference_pairs import Mode
from training.data.reading import read
from training.exceptions import DatasetError, TrainingError
from training.synthesis.answer_store import AnswerStore

ANSWER = Sampling(max_tokens=512, thinking=False)
BATCH = 64
app = typer.Typer(add_completion=False, rich_markup_mode=None)


class WinRate(JsonFile):
    label = "win rate"

    models: tuple[Source, Source]
    judge: Source
    data: Source
    mode: Mode
    score: Estimate
    """Of the first model."""
    wins: int
    ties: int
    losses: int
    position_bias: float


async def compare(rows: Sequence[AlignXRow], answers: Sequence[Sequence[str]], judging: Model) -> list[Comparison]:
    """Of each row the first answer with the second."""

    async def compare_pair(pair: tuple[AlignXRow, str, str]) -> Comparison:
        row, first, second = pair
        return await compare_replies(judging, row.prompt, first, second, list(row.comparisons()))

    return await in_batches(compare_pair, list(zip(rows, *answers, strict=True)), BATCH)


async def measure(
    data: Path, models: Sequence[str], judge_at: str, out: Path, mode: Mode, limit: int | None
) -> WinRate:
    """Raises TrainingError, and AlignXError from an engine."""
    prompts: list[tuple[AlignXRow, Messages]] = [
        (row, prompt) for row in islice(read(data, AlignXRow), limit) if (prompt := make_prompt(row, mode))
    ]
    if not prompts:
        raise DatasetError(f"{data}: no row shows anything of its user in mode {mode}")
    placement, answers, sources = Placement(), [], []
    with AnswerStore.open(out.with_name(f"{out.name}.answers.sqlite")) as store:
        for location in models:  # one after the other: two checkpoints may not fit into memory
            async with open_model(location, store, placement) as model:
                replies = await model.write([prompt for _, prompt in prompts], ANSWER, seed=0, tick=lambda _: None)
                answers.append([reply.rpartition("</think>")[2].strip() for reply in replies])
                sources.append(model.source)
        async with open_model(judge_at, store, placement) as judging:
            scores = await compare([row for row, _ in prompts], answers, judging)
            source = judging.source
    values = [score.value for score in scores]
    result = WinRate(
        models=(sources[0], sources[1]),
        judge=source,
        data=file_source(data),
        mode=mode,
        score=estimate(values, seed=0, clusters=[row.prompt for row, _ in prompts]),
        wins=values.count(WIN),
        ties=values.count(TIE),
        losses=values.count(LOSS),
        position_bias=fmean(score.position_bias or 0.0 for score in scores),
    )
    result.save(out)
    return result


@app.command()
def main(
    data: Path,
    model: str,
    other: str,
    judge_at: Annotated[str, Option("--judge", help="Checkpoint folder or URL.")],
    out: Annotated[Path, Option(help="The result, a JSON file.")],
    mode: Annotated[str, Option(help="What the models read of a user: ica or pba.")] = "ica",
    limit: Annotated[int | None, Option(min=1, help="At most this many rows.")] = None,
) -> None:
    shown: Mode = "pba" if mode == "pba" else "ica"
    try:
        result = asyncio.run(measure(data, (model, other), judge_at, out, shown, limit))
    except (TrainingError, AlignXError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    score = result.score
    print(
        f"{score.mean:.1%} ({score.low:.1%} to {score.high:.1%}), {score.rows:,} rows: {result.wins} wins, "
        f"{result.ties} ties, {result.losses} losses; position bias {result.position_bias:.3f}"
    )


if __name__ == "__main__":
    app()
