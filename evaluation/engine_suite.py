"""Measures a language model on rows that the suite has converted: settings, both protocols, robustness.

    python -m evaluation.suite --data ../shared/data
    python -m evaluation.engine_suite models/alignx-mini --report docs
    python -m evaluation.engine_suite http://gpu-box:8000/v1 --stage qwen3-8b --limit 300 --report docs

A checkpoint folder is served by vLLM on this machine's CPU while it is measured; a URL is any
OpenAI-compatible engine. Of each benchmark (BENCHMARKS) that lies in `--rows` the first `--limit` rows are
measured with forced letters as run `<stage>` and with sampled replies as run `<stage> sampled`. Beside
them stands the synthetic world that the shipped checkpoint learned from, with people it has not met
(training/corpus); there histories are also disturbed further. Results lie beside those of the suite, so that
`--report` writes one table of all. A run that was interrupted goes on where it stopped; both protocols judge
the same summaries.
"""

import argparse
import asyncio
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import orjson

from evaluation.__main__ import evaluate
from evaluation.cases.benchmark import Tally
from evaluation.conditions import Protocol
from evaluation.config import Evaluation, positive
from evaluation.model_sources import checkpoint, is_url
from evaluation.models import Placement, Sampling
from evaluation.reporting.conversion import Conversion
from evaluation.result_folder import answers_of, note_of, result_of, rows_of, stage_of, tell, tell_absent
from evaluation.results import EvaluationResult, Source
from evaluation.scoring.minilm import EXTRA
from evaluation.served import vllm
from services.errors import AlignXError
from training.corpus import world_rows
from training.corpus.world_rows import World
from training.exceptions import DatasetError, TrainingError

SYNTHETIC: Final = "synthetic"
SYNTHETIC_ROWS: Final = 200
SYNTHETIC_HISTORY: Final = 24
BENCHMARKS: Final = (
    SYNTHETIC,
    "mind",
    "movielens",
    "amazon-games",
    "psoups-style",
    "psoups-expertise",
    "prefeval-choice",
)
FORCED: Final = ("none", "direct", "full", "streaming", "flipped", "fused")
SAMPLED: Final = ("none", "direct", "full", "streaming")
DISTURBED: Final = ("drifted", "mixed", "other", "truth", "profile")
"""Where a world is known, robustness and both bounds are measured besides."""
SERVING: Final = "--host 127.0.0.1 --max-num-seqs 64 --block-size 32 --enforce-eager --disable-uvicorn-access-log"


@dataclass(frozen=True)
class EngineSuite:
    """What is measured, and how."""

    engine: str
    """Checkpoint folder or URL."""
    folder: Path
    """Rows, and in `results` what was found on them."""
    stage: str
    limit: int = 60
    benchmarks: tuple[str, ...] = BENCHMARKS
    python: Path = Path(".venv-engine/bin/python")
    """With vLLM, for a checkpoint."""
    embeddings: str | None = None
    """Folder or URL of a sentence model, for setting fused."""
    protocol: Protocol = field(default_factory=Protocol)
    placement: Placement = field(default_factory=Placement)

    def present(self) -> list[str]:
        """Raises DatasetError when no named benchmark is there."""
        found = [name for name in self.benchmarks if name == SYNTHETIC or rows_of(self.folder, name).is_file()]
        if not found:
            raise DatasetError(
                f"--rows {self.folder} holds none of {', '.join(self.benchmarks)}; evaluation.suite makes them"
            )
        return found

    def run(self) -> list[Path]:
        """The files of results. Raises TrainingError, and AlignXError from the engine."""
        present = self.present()
        tell_absent(self.folder, [name for name in self.benchmarks if name not in present])
        if SYNTHETIC in present:
            write_synthetic(rows_of(self.folder, SYNTHETIC), note_of(self.folder, SYNTHETIC))
        with self._served() as url:
            return [self._measured(name, url, choice) for name in present for choice in ("forced", "sampled")]

    @contextmanager
    def _served(self) -> Iterator[str]:
        if is_url(self.engine):
            yield self.engine
        else:
            with vllm(Path(self.engine), self.python, SERVING) as url:
                yield url

    def _measured(self, name: str, url: str, choice: str) -> Path:
        forced, synthetic = choice == "forced", name == SYNTHETIC
        stage = self.stage if forced else f"{self.stage} sampled"
        out = result_of(self.folder, name, stage)
        settings = (*FORCED, *(DISTURBED if synthetic else ())) if forced else SAMPLED
        found = asyncio.run(
            evaluate(
                Evaluation(
                    out,
                    stage,
                    model=url,
                    data=rows_of(self.folder, name),
                    limit=self.limit,
                    settings=settings,
                    embeddings=self.embeddings,
                    protocol=replace(self.protocol, choice="forced" if forced else "sampled"),
                    placement=replace(self.placement, identity=self.identity),
                    answers=answers_of(self.folder, name),
                )
            )
        )
        self._named(found).save(out)
        print(f"{name}, {stage}: {found.seconds:.0f} s", file=sys.stderr)
        return out

    @property
    def identity(self) -> str:
        """What answers are kept by: a checkpoint's hash, since its address passes, or the URL."""
        return self.engine if is_url(self.engine) else checkpoint(Path(self.engine)).sha256 or self.engine

    def _named(self, found: EvaluationResult) -> EvaluationResult:
        """With the checkpoint in place of the passing address at which it was served."""
        if is_url(self.engine):
            return found
        source = checkpoint(Path(self.engine))
        served = Source(name=f"{source.name} in vLLM", sha256=source.sha256)
        config = found.config | {"model": source.name}
        return found.model_copy(update={"model": served, "judge": served, "config": config})


def write_synthetic(path: Path, note: Path) -> None:
    """Held-out people of the synthetic world as UPI rows, the same bytes each time, and a note on them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    world = World("heldout", noise=0.0)
    with path.open("wb") as file:
        for number in range(SYNTHETIC_ROWS):
            name = f"{SYNTHETIC}-{number}"
            row = world_rows.upi(random.Random(name), world, SYNTHETIC_HISTORY, name)
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    tally = Tally(rows=SYNTHETIC_ROWS)
    tally.read["people of the synthetic world, held out"] = SYNTHETIC_ROWS
    about = f"a made-up person's next choice, after {SYNTHETIC_HISTORY}"
    Conversion.of(path, tally, about=about).save(note)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.engine_suite", description="Measure a language model on converted benchmarks."
    )
    add = parser.add_argument
    add("engine", help="checkpoint folder, which vLLM then serves, or URL of an OpenAI-compatible engine")
    add("--rows", type=Path, default=Path("var/benchmarks"), help="what the suite wrote (default: %(default)s)")
    add("--stage", help="what the report calls the run; default: the checkpoint's name, or the model or host of a URL")
    add("--limit", type=positive, default=60, help="rows of each benchmark, the first ones (default: %(default)s)")
    add("--benchmarks", default=",".join(BENCHMARKS), help="names of files of rows (default: %(default)s)")
    add("--engine-python", type=Path, default=EngineSuite.python, help="with vLLM (default: %(default)s)")
    add("--embeddings", help=f"for setting fused: folder or URL of a sentence model, or {EXTRA} for that extra's")
    add("--model-name", help="which model of a URL; default: the first it lists")
    add("--api-key-env", help="environment variable with the key of a URL")
    # Small enough for 8,192 positions of a small tokenizer, which needs more tokens than are estimated.
    add("--history-tokens", type=positive, default=3_072, help="estimated, of one prompt (default: %(default)s)")
    add("--past-tokens", type=positive, default=512, help="of a past summary (default: %(default)s)")
    add("--max-tokens", type=positive, default=320, help="of a reply (default: %(default)s)")
    add("--report", type=Path, metavar="FOLDER", help="write results.md of all results in --rows there")
    return parser


def suite_of(given: argparse.Namespace) -> EngineSuite:
    protocol = Protocol(
        sampling=Sampling(max_tokens=given.max_tokens),
        history_tokens=given.history_tokens,
        past_tokens=given.past_tokens,
    )
    return EngineSuite(
        engine=given.engine,
        folder=given.rows,
        stage=given.stage or stage_of(given.engine, given.model_name),
        limit=given.limit,
        benchmarks=tuple(given.benchmarks.split(",")),
        python=given.engine_python,
        embeddings=given.embeddings,
        protocol=protocol,
        placement=Placement(model_name=given.model_name, api_key_env=given.api_key_env),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises SystemExit."""
    given = options().parse_args(arguments)
    try:
        tell(suite_of(given).run(), given.rows, given.report)
    except (TrainingError, AlignXError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
