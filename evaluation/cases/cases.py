"""Held-out users as evaluation reads them: a history and a choice to predict, or a question to answer.

Rows have the UPI form or are benchmark rows (evaluation/cases/benchmark_rows.py). Three more fields of a UPI row
are optional: "kind", the kind of choice that the target is, "summary", the text of a perfect summary, and "cluster",
the name of a group of rows that depend on each other.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from pydantic import Field

from alignx.schemas.interactions import Interaction, Pair
from alignx.schemas.items import Item
from evaluation.cases.benchmark_rows import BenchmarkRow, Target, has_benchmark_rows, read_rows
from evaluation.cases.halves import Half, assign_half
from services.profile.fold import fold
from services.profile.statistics import EMPTY, Profile
from services.prompts.build import interaction_lines
from training.data.formats import MaybeText, UpiRow
from training.data.reading import ReadReport, read, sample
from training.exceptions import DatasetError


class UserRow(UpiRow):
    target_kind: MaybeText = Field(default="", alias="kind")
    truth: MaybeText = Field(default="", alias="summary")
    cluster: MaybeText = ""


RECOMMENDATION: Final = "recommendation"
"""Kind of a row whose target is an item to take, not an answer."""
_RECOMMENDATION_FILES: Final = frozenset(("amazon", "movielens", "mind"))


def _kind_of_file(path: Path) -> str:
    """Of the UPI rows of a published file, whose name alone tells it: mind_upi.jsonl."""
    first, mark, _ = path.name.partition("_upi.")
    return RECOMMENDATION if mark and first in _RECOMMENDATION_FILES else ""


def fold_events(events: Iterable[Interaction], profile: Profile = EMPTY) -> Profile:
    for event in events:
        profile, _ = fold(profile, event)
    return profile


@dataclass(frozen=True, kw_only=True)
class User:
    """One row: the user's history and where it comes from."""

    digest: str
    """Of the whole row: history and target or question."""
    history: tuple[Interaction, ...]
    kind: str | None = None
    truth: str | None = None
    benchmark: str | None = None
    userid: str = ""
    cluster: str = ""
    """Name of a group of rows that depend on each other, such as one question asked of many users."""
    half: Half | None = None
    """None for UPI rows."""

    @cached_property
    def profile(self) -> Profile:
        """The fast profile after the history."""
        return fold_events(self.history)

    @cached_property
    def history_digest(self) -> str:
        """Of the history as prompts show it: equal in rows of other tasks with the same events."""
        return _digest([interaction_lines(event) for event in self.history])


@dataclass(frozen=True, kw_only=True)
class Question(User):
    """A question of the user, and a reference answer written for them."""

    question: str
    reference: str

    @classmethod
    def of(cls, row: BenchmarkRow) -> "Question":
        assert row.question
        assert row.reference
        common = _user_fields(row, "question", "reference")
        return cls(**common, question=row.question, reference=row.reference)


@dataclass(frozen=True, kw_only=True)
class Case(User):
    """A choice of the user to predict."""

    target: Pair
    others: tuple[Item, ...] = ()
    """Further options that the user did not take."""
    popularity: tuple[float, float] | None = None
    """Of the chosen and the rejected item; None where unknown."""

    @property
    def options(self) -> list[Item]:
        """The chosen item first."""
        return [self.target.chosen, self.target.rejected, *self.others]

    @classmethod
    def of(cls, row: UserRow, kind: str = "") -> "Case":
        """`kind` is that of rows which name none."""
        target = row.aim
        return cls(
            digest=_digest([[triple.texts() for triple in row.history], target.texts()]),
            history=tuple(row.comparisons()),
            target=Pair(target.query, target.chosen, target.rejected),
            kind=row.target_kind or kind or None,
            truth=row.truth or None,
            userid=row.userid or "",
            cluster=row.cluster,
        )

    @classmethod
    def of_benchmark(cls, row: BenchmarkRow, target: Target) -> "Case":
        return cls(
            **_user_fields(row, "target", "others"),
            target=Pair(target.query, target.chosen, target.rejected),
            others=row.others,
            popularity=row.popularity,
        )


def _user_fields(row: BenchmarkRow, *task: str) -> dict[str, Any]:
    """Those of User; the digest is of the history and the fields of its task."""
    return {
        "digest": _digest(row.model_dump(mode="json", include={"history", *task}, exclude_none=True)),
        "history": row.history,
        "kind": row.kind or None,
        "benchmark": row.benchmark,
        "userid": row.userid,
        "cluster": row.cluster,
        "half": assign_half(row.benchmark, row.topic or row.cluster or row.userid),
    }


def _digest(content: object) -> str:
    return hashlib.sha256(orjson.dumps(content)).hexdigest()[:16]


def read_cases(path: Path, *, limit: int | None) -> tuple[list[Case], ReadReport]:
    """The first `limit` users of a file, and a report of malformed rows.

    Raises DatasetError, also for rows of response generation, which `read_questions` reads.
    """
    if has_benchmark_rows(path):
        benchmark_rows, report = read_rows(path, limit=limit)
        cases = [Case.of_benchmark(row, row.target) for row in benchmark_rows if row.target]
        if missing := len(benchmark_rows) - len(cases):
            raise DatasetError(f"{path}: {missing} of {len(benchmark_rows)} rows have a question and no target")
        return cases, report
    report = ReadReport()
    rows = islice(read(path, UserRow, report=report), limit)
    return [Case.of(row, _kind_of_file(path)) for row in rows], report


def has_questions(path: Path) -> bool:
    """Whether the first rows are of response generation. Raises DatasetError as `sample`."""
    rows = [value for value in sample(path) if isinstance(value, Mapping) and "benchmark" in value]
    return bool(rows) and all(value.get("target") is None for value in rows)


def read_questions(path: Path, *, limit: int | None) -> tuple[list[Question], ReadReport]:
    """The first `limit` rows of response generation, and a report of malformed rows. Raises DatasetError."""
    rows, report = read_rows(path, limit=limit)
    missing = sum(not (row.question and row.reference) for row in rows)
    if missing:
        raise DatasetError(f"{path}: {missing} of {len(rows)} rows have a target and no question with its reference")
    return [Question.of(row) for row in rows], report


class Clusters(NamedTuple):
    """Rows that depend on each other, which the bootstrap draws together."""

    unit: str
    """"questions", "users" or "histories"."""
    ids: list[str]
    """One for each row."""


def find_clusters(users: Sequence[User]) -> Clusters | None:
    """By question, by user, or, where all rows are of one user, by history. None where all rows are independent."""
    candidates = (
        Clusters("questions", [user.cluster for user in users]),
        Clusters("users", [user.userid for user in users]),
        Clusters("histories", [user.history_digest for user in users]),
    )
    for clusters in candidates:
        count = len(set(clusters.ids))
        if all(clusters.ids) and count > 1:
            return clusters if count < len(clusters.ids) else None
    return None


def cluster_ids(users: Sequence[User]) -> list[str] | None:
    """The cluster of each row; None where all rows are independent."""
    clusters = find_clusters(users)
    return clusters.ids if clusters else None
