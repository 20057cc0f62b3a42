"""The row that every benchmark becomes: a history of typed interactions and what is to be foreseen.

One JSON object a line. A row holds nothing of what the benchmark knows of a user beyond the history:
no persona, no profile, no system message. Choice rows have a target; rows of response generation have
a question and the answer it is judged against.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import Item, item_text
from training.data.reading import Malformed, ReadReport, raw_rows, reason, sample, shards
from training.exceptions import DatasetError

Name = Annotated[str, StringConstraints(min_length=1)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(Part):
    """For `query` the user took `chosen` and not `rejected`."""

    query: str = ""
    chosen: Item
    rejected: Item

    @model_validator(mode="after")
    def _different(self) -> Self:
        if item_text(self.chosen) == item_text(self.rejected):
            raise ValueError("chosen and rejected are the same text")
        return self


class BenchmarkRow(Part):
    """One user at one moment."""

    userid: Name
    benchmark: Name
    """What it is from, such as "mind"."""
    history: Annotated[tuple[Interaction, ...], Field(min_length=1)]
    """Oldest first; all of it was before the target."""
    target: Target | None = None
    others: tuple[Item, ...] = ()
    """Further items the user was offered and did not take, where a question has more than two: chosen,
    rejected and these are then all its options."""
    kind: str = ""
    """What sort of row it is within the benchmark, such as a type of question."""
    cluster: str = ""
    """Which rows are alike for another reason than their user, such as the text of a question that many are
    asked; without it rows of one user belong together."""
    popularity: tuple[float, float] | None = None
    """How often others took the chosen and the rejected item, counted before the target; none where unknown."""
    question: str | None = None
    """What is to be answered, in rows of response generation."""
    reference: str | None = None
    """An answer that suits this user, in rows of response generation."""

    @model_validator(mode="after")
    def _something_to_foresee(self) -> Self:
        if self.target is None and not (self.question and self.reference):
            raise ValueError("a row has a target, or a question and a reference")
        if self.target is None and (self.others or self.popularity):
            raise ValueError("others and popularity belong to a target")
        return self

    def line(self) -> bytes:
        """The row as one line of JSON, its end included."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"


def read_rows(
    path: Path, *, limit: int | None = None, malformed: Literal["skip", "fatal"] = "skip"
) -> tuple[list[BenchmarkRow], ReadReport]:
    """The first `limit` rows of a file or a folder of shards, and what was wrong with others.

    Raises DatasetError when there is no good row, and at the first malformed one if that is fatal.
    """
    report = ReadReport()
    rows = list(islice(_rows(shards(path), report, fatal=malformed == "fatal"), limit))
    if not rows:
        first = f"; the first: {report.examples[0].place}: {report.examples[0].reason}" if report.examples else ""
        raise DatasetError(f"{path} holds no benchmark row that can be used ({report.left_out} malformed{first})")
    return rows, report


def _rows(files: Iterable[Path], report: ReadReport, *, fatal: bool) -> Iterator[BenchmarkRow]:
    for file in files:
        with closing(raw_rows(file, report)) as raws:
            for raw in raws:
                try:
                    row = None if raw.problem else BenchmarkRow.model_validate(raw.value)
                    problem = raw.problem or ""
                except ValidationError as error:
                    row, problem = None, reason(error)
                if row is not None:
                    report.rows += 1
                    yield row
                elif fatal:
                    raise DatasetError(f"{file}, {raw.place}: {problem}")
                else:
                    report.add(Malformed(raw.place, problem))


def holds_benchmark_rows(path: Path) -> bool:
    """Whether the first rows name their benchmark. Raises DatasetError as `sample`."""
    return any(isinstance(value, Mapping) and "benchmark" in value for value in sample(path))
