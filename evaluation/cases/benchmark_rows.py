"""The common row of all benchmarks: a history of typed interactions, and a target or a question.

One JSON object a line. A row holds nothing about a user beyond the history: no persona, no profile, no system
message. Choice rows have a target; rows of response generation have a question and a reference answer.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import Item, item_text
from training.data.reading import Malformed, ReadReport, parse, raw_rows, sample, shards
from training.exceptions import DatasetError

Name = Annotated[str, StringConstraints(min_length=1)]


class FrozenRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(FrozenRecord):
    """For `query` the user took `chosen` and not `rejected`."""

    query: str = ""
    chosen: Item
    rejected: Item

    @model_validator(mode="after")
    def _different(self) -> Self:
        if item_text(self.chosen) == item_text(self.rejected):
            raise ValueError("chosen and rejected are the same text")
        return self


class BenchmarkRow(FrozenRecord):
    """One user at one moment."""

    userid: Name
    benchmark: Name
    """Such as "mind"."""
    history: Annotated[tuple[Interaction, ...], Field(min_length=1)]
    """Oldest first, all before the target."""
    target: Target | None = None
    others: tuple[Item, ...] = ()
    """Further options that the user did not take, where there are more than two."""
    topic: str = ""
    """Name of a subject that many rows share; a topic lies wholly in one half (evaluation/cases/halves.py)."""
    kind: str = ""
    """Kind of row within the benchmark, such as a type of question."""
    cluster: str = ""
    """Name of a group of rows that depend on each other, such as the text of a question asked of many users; without
    it rows are grouped by user."""
    popularity: tuple[float, float] | None = None
    """How often others took the chosen and the rejected item, counted before the target; None where unknown."""
    question: str | None = None
    """In rows of response generation."""
    reference: str | None = None
    """An answer written for this user, in rows of response generation."""

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if self.target is None and not (self.question and self.reference):
            raise ValueError("a row has a target, or a question and a reference")
        if self.target is None and (self.others or self.popularity):
            raise ValueError("others and popularity belong to a target")
        return self

    def line(self) -> bytes:
        """The row as one line of JSON, with its line end."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"


def read_rows(path: Path, *, limit: int | None = None) -> tuple[list[BenchmarkRow], ReadReport]:
    """The first `limit` rows of a file or a folder of shards, and a report of malformed rows.

    Raises DatasetError when there is no good row.
    """
    report = ReadReport()
    rows = list(islice(_rows(shards(path), report), limit))
    if not rows:
        first = f"; the first: {report.examples[0].location}: {report.examples[0].reason}" if report.examples else ""
        raise DatasetError(f"{path} holds no usable benchmark row ({report.left_out} malformed{first})")
    return rows, report


def _rows(files: Iterable[Path], report: ReadReport) -> Iterator[BenchmarkRow]:
    for file in files:
        with closing(raw_rows(file, report)) as raws:
            for raw in raws:
                row = parse(raw, BenchmarkRow)
                if isinstance(row, Malformed):
                    report.add(row)
                else:
                    report.rows += 1
                    yield row


def has_benchmark_rows(path: Path) -> bool:
    """Whether the first rows name their benchmark. Raises DatasetError as `sample`."""
    return any(isinstance(value, Mapping) and "benchmark" in value for value in sample(path))
