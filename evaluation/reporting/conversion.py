"""The note of a conversion, a small JSON beside the results: counts of what was read and left out."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from evaluation.cases.benchmark import Negatives, Tally
from evaluation.model_sources import file_sha256
from evaluation.results import JsonFile


class Conversion(JsonFile):
    label: ClassVar[str] = "note of a conversion"

    format: Literal["alignx-conversion/1"] = "alignx-conversion/1"
    name: str
    """Stem of the file of rows."""
    about: str
    """What a row asks for, in words."""
    negatives: Negatives | None = None
    """Of recommendation; null elsewhere."""
    limit: int | None = None
    """Limit of rows; null for all."""
    rows: int
    read: dict[str, int]
    left_out: dict[str, int]
    sha256: str
    """Of the file of rows, as in results on it."""

    @classmethod
    def of(
        cls, rows: Path, tally: Tally, *, about: str, negatives: Negatives | None = None, limit: int | None = None
    ) -> Self:
        return cls(
            name=rows.stem,
            about=about,
            negatives=negatives,
            limit=limit,
            rows=tally.rows,
            read=dict(tally.read),
            left_out=dict(tally.left_out),
            sha256=file_sha256(rows),
        )
