"""The note of a conversion, a small JSON beside the results: counts of what was read and left out."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from evaluation.cases.benchmark import Negatives, Tally
from evaluation.model_sources import file_sha256
from training.data.reading import reason
from training.exceptions import DatasetError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([-_][a-z0-9]+)*$")]
Count = Annotated[int, Field(ge=0)]


class Conversion(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal["alignx-conversion/1"] = "alignx-conversion/1"
    name: Name
    """Stem of the file of rows."""
    about: str
    """What a row asks for, in words."""
    negatives: Negatives | None = None
    """Of recommendation; null elsewhere."""
    limit: int | None = None
    """Limit of rows; null for all."""
    rows: Count
    read: dict[str, Count]
    left_out: dict[str, Count]
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

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read_from(cls, path: Path) -> Self:
        """Raises DatasetError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise DatasetError(f"{path} is no note of a conversion: {reason(error)}") from error
