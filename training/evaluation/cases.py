"""Held-out users as evaluation reads them: a history, the choice to foresee, and ways to disturb both.

Rows are of the UPI form. Two further fields of a row are read where they stand there: "kind", what
sort of choice the target is, and "summary", what a perfect summary would say.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import orjson
from pydantic import Field

from services.core.schemas import ComparisonInteraction, Pair
from training.data.formats import MaybeText, UpiRow
from training.data.reading import ReadReport, read


class MeasuredRow(UpiRow):
    sort: MaybeText = Field(default="", alias="kind")
    truth: MaybeText = Field(default="", alias="summary")


@dataclass(frozen=True)
class Case:
    """One user."""

    digest: str
    history: tuple[ComparisonInteraction, ...]
    target: Pair
    kind: str | None = None
    truth: str | None = None

    @classmethod
    def of(cls, row: MeasuredRow) -> "Case":
        aim = row.aim
        said = orjson.dumps([[triple.texts() for triple in row.history], aim.texts()])
        return cls(
            digest=hashlib.sha256(said).hexdigest()[:16],
            history=tuple(row.comparisons()),
            target=Pair(aim.query, aim.chosen, aim.rejected),
            kind=row.sort or None,
            truth=row.truth or None,
        )


def read_cases(
    path: Path, *, limit: int | None, malformed: Literal["skip", "fatal"] = "skip"
) -> tuple[list[Case], ReadReport]:
    """The first `limit` users of a file and what was wrong with others. Raises DatasetError."""
    report = ReadReport()
    rows = islice(read(path, MeasuredRow, malformed=malformed, report=report), limit)
    return [Case.of(row) for row in rows], report


def flipped(cases: Sequence[Case], share: float, *, seed: int) -> list[Case]:
    """The users with `share` of all choices the wrong way round.

    The share is exact over all users up to half a choice: who has 12 choices gets 3 or 4 of 12
    flipped at .3, and what rounding leaves over passes to the next user.
    """
    rng = random.Random(seed)
    disturbed, seen, turned = [], 0, 0
    for case in cases:
        seen += len(case.history)
        wrong = set(rng.sample(range(len(case.history)), round(share * seen) - turned))
        turned += len(wrong)
        history = (_swapped(event) if place in wrong else event for place, event in enumerate(case.history))
        disturbed.append(replace(case, history=tuple(history)))
    return disturbed


def _swapped(event: ComparisonInteraction) -> ComparisonInteraction:
    return event.model_copy(update={"chosen": event.rejected, "rejected": event.chosen})


def parts(case: Case, count: int) -> list[tuple[ComparisonInteraction, ...]]:
    """The history in `count` parts of equal length, oldest first; a short history has fewer parts."""
    history = case.history
    cuts = [round(place * len(history) / count) for place in range(count + 1)]
    return [history[start:end] for start, end in pairwise(cuts) if start < end]
