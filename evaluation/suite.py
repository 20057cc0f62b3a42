"""Measures the fast profile, or a judge that reads its text, on every benchmark that a folder holds.

    python -m evaluation.suite --data ../shared/data --report docs
    python -m evaluation.suite --data ../shared/data --limit 20 --out var/part
    python -m evaluation.suite --data ../shared/data --judge http://gpu-box:8000/v1

`make eval` is the first of these. Each part that is there (PARTS) becomes rows `<out>/<part>.jsonl`, and
`<out>/results` gets for each one result of this run and one note of what was left out. Without `--judge` the fast
profile is measured in all the ways of evaluation/scoring/profile_scores.py and no model is needed; with it
`profile` and `wording`, the judge reading the profile's text alone. `--embeddings` adds `profile-semantic`.
At the end stands the table of all, and `--report` writes it with plots (evaluation/reporting/benchmark_report.py)
beside the results of other runs in the same folder (evaluation/result_folder.py).
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from evaluation.__main__ import evaluate
from evaluation.cases.benchmark import NEGATIVES, Negatives, Plan
from evaluation.config import Evaluation, positive
from evaluation.converters.__main__ import OF_ANOTHER_KIND, convert
from evaluation.reporting.conversion import Conversion
from evaluation.result_folder import note_of, result_of, rows_of, stage_of, tell, tell_absent
from evaluation.scoring.minilm import EXTRA
from services.errors import AlignXError
from training.exceptions import DatasetError, TrainingError


@dataclass(frozen=True)
class SuitePart:
    """Rows of one benchmark that are measured by themselves."""

    name: str
    converter: str
    folder: str
    """Below the data folder."""
    about: str
    kind: str | None = None
    file: str | None = None
    """The one file of the folder to read; none for all."""
    negatives: Negatives | None = None

    def source(self, data: Path) -> Path:
        return data / self.folder / (self.file or "")


DRAWN: Final[dict[Negatives, str]] = {
    "random": "any of them",
    "popular": "drawn by popularity",
    "matched": "exactly as popular as the other",
}


def recommended(name: str, converter: str, folder: str, about: str) -> tuple[SuitePart, ...]:
    """A recommendation benchmark with negatives of each sort."""
    return tuple(
        SuitePart(
            name if negatives == "random" else f"{name}-{negatives}",
            converter,
            folder,
            f"{about}, {DRAWN[negatives]}",
            negatives=negatives,
        )
        for negatives in NEGATIVES
    )


PARTS: Final = (
    *recommended("mind", "mind", "mind", "a clicked article against one shown beside it and not clicked"),
    *recommended("movielens", "movielens", "movielens/ml-100k", "a film rated 4 or more against one never rated"),
    *recommended("amazon-games", "amazon-candidates", "amazon/games", "the next purchase against a candidate"),
    *recommended("amazon-gift-cards", "amazon", "amazon/gift_cards", "a product rated 4 or more against another"),
    SuitePart("alignx", "alignx", "alignx", "the preferred of two answers"),
    SuitePart("personamem", "personamem", "personamem", "the right one of up to four answers"),
    SuitePart(
        "psoups-informativeness",
        "psoups",
        "psoups",
        "concise or detailed, from up to four earlier choices",
        file="concise_detail.json",
    ),
    SuitePart(
        "psoups-style",
        "psoups",
        "psoups",
        "friendly or unfriendly, from up to four earlier choices",
        file="friendly_unfriendly.json",
    ),
    SuitePart(
        "psoups-expertise",
        "psoups",
        "psoups",
        "for a pupil or an expert, from up to four earlier choices",
        file="student_phd.json",
    ),
    SuitePart("prism", "prism", "prism", "the preferred of two answers"),
    SuitePart("uf-p-4", "uf-p-4", "uf_p_4", "the preferred of two answers"),
    SuitePart("prefeval-explicit", "prefeval", "prefeval", "one answer of four, the preference stated", "explicit"),
    SuitePart("prefeval-choice", "prefeval", "prefeval", "one answer of four, the preference chosen by", "choice"),
    SuitePart("prefeval-persona", "prefeval", "prefeval", "one answer of four, the preference let through", "persona"),
)
"""What `--data` may hold. HiCUPID and LoCoMo are not among them: their questions need a model that answers."""


@dataclass(frozen=True)
class Suite:
    data: Path
    out: Path
    limit: int | None = None
    judge: str | None = None
    stage: str = "profile"
    embeddings: str | None = None

    def present(self) -> list[SuitePart]:
        """Raises DatasetError when there is none."""
        if not self.data.is_dir():
            raise DatasetError(f"--data {self.data} is no folder")
        found = [part for part in PARTS if part.source(self.data).exists()]
        if not found:
            wanted = ", ".join(dict.fromkeys(part.folder for part in PARTS))
            raise DatasetError(f"--data {self.data} holds no benchmark; looked for: {wanted}")
        return found

    def run(self) -> list[Path]:
        """The files that tell what was found. Raises TrainingError, and AlignXError from a judge."""
        present = self.present()
        tell_absent(self.data, [part.name for part in PARTS if part not in present])
        return [path for part in present for path in self.measured(part)]

    def measured(self, part: SuitePart) -> tuple[Path, Path]:
        rows = rows_of(self.out, part.name)
        plan = Plan(negatives=part.negatives or Plan().negatives)
        with _only(part.source(self.data)) as folder:
            tally = convert(part.converter, folder, rows, plan, limit=self.limit, kind=part.kind)
        del tally.left_out[OF_ANOTHER_KIND]  # they are another part's
        print(tally.line(part.name), file=sys.stderr)
        note, result = note_of(self.out, part.name), result_of(self.out, part.name, self.stage)
        told = Conversion.of(rows, tally, about=part.about, negatives=part.negatives, limit=self.limit)
        told.save(note)
        asyncio.run(evaluate(self._plan(result, rows)))
        return note, result

    def _plan(self, result: Path, rows: Path) -> Evaluation:
        plan = Evaluation(result, self.stage, model=self.judge, data=rows, embeddings=self.embeddings)
        return replace(plan, settings=("wording", "profile")) if self.judge else replace(plan, variants=True)


@contextmanager
def _only(source: Path) -> Iterator[Path]:
    """A folder with one file of another alone, so that what is counted is of that file."""
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="alignx-part-") as folder:
        (Path(folder) / source.name).symlink_to(source.resolve())
        yield Path(folder)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.suite", description="Measure on every benchmark that a folder holds."
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help="official files (default: %(default)s)")
    add("--out", type=Path, default=Path("var/benchmarks"), help="for rows and results (default: %(default)s)")
    add("--limit", type=positive, help="at most this many rows of each")
    add("--judge", help="checkpoint folder or URL that chooses by the profile's text; default: none")
    add("--embeddings", help=f"folder or URL of a sentence model, or {EXTRA} for that extra's; default: none")
    add("--stage", help="what the report calls the run; default: profile, or the judge's folder or host")
    add("--report", type=Path, metavar="FOLDER", help="write results.md of all results in --out, its plots and a page")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises SystemExit."""
    given = options().parse_args(arguments)
    try:
        stage = given.stage or (stage_of(given.judge) if given.judge else "profile")
        found = Suite(given.data, given.out, given.limit, given.judge, stage, given.embeddings).run()
        tell(found, given.out, given.report)
    except (TrainingError, AlignXError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
