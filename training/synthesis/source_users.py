"""Users to make rows from: the choices they made, oldest first, read from UPI or AlignXplore+ RL rows.

UPI's `target` is what evaluation asks for, so it is never looked at here.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import orjson

from alignx.schemas.interactions import ComparisonInteraction
from training.data.formats import KINDS, RlRow, UpiRow, kind_of
from training.data.reading import ReadReport, read, sample
from training.exceptions import DatasetError

UserRow = RlRow | UpiRow


@dataclass(frozen=True)
class User:
    uid: str
    history: tuple[ComparisonInteraction, ...]

    @property
    def digest(self) -> str:
        """Tells whether an input still holds the same user at the same place."""
        texts = [[choice.query, choice.chosen, choice.rejected] for choice in self.history]
        return hashlib.sha256(orjson.dumps([self.uid, texts])).hexdigest()[:16]


@dataclass
class Users:
    """The users of a file or folder, in its order. Iterating reads it anew."""

    path: Path
    limit: int | None = None
    malformed: Literal["skip", "fatal"] = "skip"
    report: ReadReport = field(default_factory=ReadReport)
    read: int = 0
    whole: bool = False
    """Whether all have been read."""

    def __iter__(self) -> Iterator[User]:
        """Raises DatasetError: nothing there, rows of another kind, a malformed row where that is fatal."""
        self.report, self.read, self.whole = ReadReport(), 0, False
        rows = read(self.path, _kind(self.path), malformed=self.malformed, report=self.report)
        for row in islice(rows, self.limit):
            self.read += 1
            yield _user(row)
        self.whole = True

    @property
    def estimate(self) -> int | None:
        """About how many there are, by the bytes read so far; None before the first."""
        if self.whole:
            return self.read
        if not self.report.bytes_read or not self.read:
            return self.limit
        found = max(self.read, round(self.read * self.report.bytes_total / self.report.bytes_read))
        return found if self.limit is None else min(found, self.limit)


def _kind(path: Path) -> type[UserRow]:
    looks = kind_of(sample(path))
    for kind in (RlRow, UpiRow):
        if looks == kind.kind:
            return kind
    seen = f"{KINDS[looks].label} rows" if looks in KINDS else "no known kind of rows"
    raise DatasetError(f"{path} looks like {seen}, but {RlRow.label} or {UpiRow.label} rows are wanted")


def _user(row: UserRow) -> User:
    if isinstance(row, RlRow):
        return User(row.uid or "", tuple(triple.comparison() for triple in row.history))
    return User(row.userid or "", tuple(row.comparisons()))
