"""The users of a synthesis run: their choices, oldest first, from behaviours, UPI or AlignXplore+ RL rows.

UPI's `target` is for evaluation, so it is never read here.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import orjson

from alignx.schemas.interactions import ComparisonInteraction
from training.data.formats import KINDS, BehavioursRow, RlRow, UpiRow
from training.data.published import kind_of
from training.data.reading import ReadReport, read, sample
from training.exceptions import DatasetError

UserRow = BehavioursRow | RlRow | UpiRow


@dataclass(frozen=True)
class User:
    uid: str
    history: tuple[ComparisonInteraction, ...]

    @property
    def digest(self) -> str:
        """Detects an input whose users have changed."""
        texts = [[choice.query, choice.chosen, choice.rejected] for choice in self.history]
        return hashlib.sha256(orjson.dumps([self.uid, texts])).hexdigest()[:16]


@dataclass
class Users:
    """The users of a file or folder, in its order. Each iteration reads it again."""

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
        users = max(self.read, round(self.read * self.report.bytes_total / self.report.bytes_read))
        return users if self.limit is None else min(users, self.limit)


def _kind(path: Path) -> type[UserRow]:
    detected = kind_of(sample(path))
    for kind in (BehavioursRow, RlRow, UpiRow):
        if detected == kind.kind:
            return kind
    label = f"{KINDS[detected].label} rows" if detected in KINDS else "no known kind of rows"
    raise DatasetError(
        f"{path} looks like {label}, but {BehavioursRow.label}, {RlRow.label} or {UpiRow.label} rows are wanted"
    )


def _user(row: UserRow) -> User:
    uid = row.userid if isinstance(row, UpiRow) else row.uid
    return User(uid or "", tuple(triple.comparison() for triple in row.history))
