"""Held-out users as evaluation reads them: a history, the choice to foresee, and ways to disturb both.

Rows are of the UPI form or benchmark rows (evaluation/cases/benchmark_rows.py). Two further fields of a UPI
row are read where they stand there: "kind", what sort of choice the target is, and "summary", what a
perfect summary would say.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, TypeVar

import orjson
from pydantic import Field

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    Interaction,
    Pair,
    PurchaseInteraction,
    RatingInteraction,
)
from alignx.schemas.items import Item
from evaluation.cases.benchmark_rows import BenchmarkRow, Target, holds_benchmark_rows, read_rows
from evaluation.cases.held_out import aside
from services.prompts.build import interaction_lines
from training.data.formats import MaybeText, UpiRow
from training.data.reading import ReadReport, read, sample
from training.exceptions import DatasetError


class MeasuredRow(UpiRow):
    sort: MaybeText = Field(default="", alias="kind")
    truth: MaybeText = Field(default="", alias="summary")


@dataclass(frozen=True, kw_only=True)
class User:
    """What is known of one user, and what sort of row tells it."""

    digest: str
    """Of the whole row: history and what is to be foreseen."""
    history: tuple[Interaction, ...]
    kind: str | None = None
    truth: str | None = None
    benchmark: str | None = None
    userid: str = ""
    cluster: str = ""
    """Which rows are alike for another reason than their user."""
    aside: bool | None = None
    """Whether the row is of the users that no feature was chosen on; none where nothing was kept aside."""

    @cached_property
    def history_digest(self) -> str:
        """Of the history as a prompt tells it: the same for rows of other tasks on the same events."""
        return _digest([interaction_lines(event) for event in self.history])


OneUser = TypeVar("OneUser", bound=User)


@dataclass(frozen=True, kw_only=True)
class Question(User):
    """A question to answer for the user, and an answer that suits them."""

    question: str
    reference: str

    @classmethod
    def of(cls, row: BenchmarkRow) -> "Question":
        assert row.question
        assert row.reference
        told = row.model_dump(mode="json", include={"history", "question", "reference"}, exclude_none=True)
        return cls(
            digest=_digest(told),
            history=row.history,
            kind=row.kind or None,
            benchmark=row.benchmark,
            userid=row.userid,
            cluster=row.cluster,
            question=row.question,
            reference=row.reference,
        )


@dataclass(frozen=True, kw_only=True)
class Case(User):
    """A choice of the user to foresee."""

    target: Pair
    others: tuple[Item, ...] = ()
    """Further items that the user was offered and did not take."""
    popularity: tuple[float, float] | None = None
    """Of the chosen and the rejected item; none where unknown."""

    @classmethod
    def of(cls, row: MeasuredRow) -> "Case":
        aim = row.aim
        return cls(
            digest=_digest([[triple.texts() for triple in row.history], aim.texts()]),
            history=tuple(row.comparisons()),
            target=Pair(aim.query, aim.chosen, aim.rejected),
            kind=row.sort or None,
            truth=row.truth or None,
            userid=row.userid or "",
        )

    @classmethod
    def of_benchmark(cls, row: BenchmarkRow, target: Target) -> "Case":
        told = row.model_dump(mode="json", include={"history", "target", "others"}, exclude_none=True)
        return cls(
            digest=_digest(told),
            history=row.history,
            target=Pair(target.query, target.chosen, target.rejected),
            kind=row.kind or None,
            benchmark=row.benchmark,
            userid=row.userid,
            cluster=row.cluster,
            aside=aside(row.benchmark, row.userid),
            others=row.others,
            popularity=row.popularity,
        )


def _digest(said: object) -> str:
    return hashlib.sha256(orjson.dumps(said)).hexdigest()[:16]


def read_cases(
    path: Path, *, limit: int | None, malformed: Literal["skip", "fatal"] = "skip"
) -> tuple[list[Case], ReadReport]:
    """The first `limit` users of a file and what was wrong with others. Raises DatasetError.

    Rows of response generation have no choice to foresee: `read_questions` reads them, and here they
    are refused.
    """
    if holds_benchmark_rows(path):
        found, report = read_rows(path, limit=limit, malformed=malformed)
        aims = [(row, row.target) for row in found]
        unfit = sum(target is None for _, target in aims)
        if unfit:
            raise DatasetError(f"{path}: {unfit} of {len(found)} rows have a question and no target to choose")
        return [Case.of_benchmark(row, target) for row, target in aims if target], report
    report = ReadReport()
    rows = islice(read(path, MeasuredRow, malformed=malformed, report=report), limit)
    return [Case.of(row) for row in rows], report


def holds_questions(path: Path) -> bool:
    """Whether the first rows are of response generation. Raises DatasetError as `sample`."""
    first = [value for value in sample(path) if isinstance(value, Mapping) and "benchmark" in value]
    return bool(first) and all(value.get("target") is None for value in first)


def read_questions(
    path: Path, *, limit: int | None, malformed: Literal["skip", "fatal"] = "skip"
) -> tuple[list[Question], ReadReport]:
    """The first `limit` rows of response generation and what was wrong with others. Raises DatasetError."""
    rows, report = read_rows(path, limit=limit, malformed=malformed)
    unfit = sum(not (row.question and row.reference) for row in rows)
    if unfit:
        raise DatasetError(f"{path}: {unfit} of {len(rows)} rows have a target and no question with its reference")
    return [Question.of(row) for row in rows], report


def clusters(users: Sequence[User]) -> tuple[str, list[str]] | None:
    """What the bootstrap draws, in a word, and of each row which it belongs to: rows of one question, of one
    user, or, where all are of one user, of one history. None where rows stand by themselves."""
    ways = (
        ("questions", [user.cluster for user in users]),
        ("users", [user.userid for user in users]),
        ("histories", [user.history_digest for user in users]),
    )
    for name, found in ways:
        if all(found) and len(set(found)) > 1:
            return (name, found) if len(set(found)) < len(found) else None
    return None


def flipped(cases: Sequence[OneUser], share: float, *, seed: int) -> list[OneUser]:
    """The users with `share` of all choices the wrong way round.

    The share is exact over all users up to half a choice: who has 12 choices gets 3 or 4 of 12
    flipped at .3, and what rounding leaves over passes to the next user. Events that have no other
    side, such as a post or a click on a page nobody recorded, stay and do not count.
    """
    rng = random.Random(seed)
    disturbed, seen, turned = [], 0, 0
    for case in cases:
        places = [place for place, event in enumerate(case.history) if has_other_side(event)]
        seen += len(places)
        wrong = set(rng.sample(places, round(share * seen) - turned))
        turned += len(wrong)
        history = (turned_round(event, rng) if place in wrong else event for place, event in enumerate(case.history))
        disturbed.append(replace(case, history=tuple(history)))
    return disturbed


def has_other_side(event: Interaction) -> bool:
    """Whether `turned_round` changes what the event says."""
    if isinstance(event, RatingInteraction):
        return event.liking != 0
    return bool(event.pairs())


def turned_round(event: Interaction, rng: random.Random) -> Interaction:
    """The event as the opposite taste would have left it.

    A comparison swaps its sides, a rating is mirrored on its scale, a click or a purchase takes one of
    the other items on the page; anything else stays.
    """
    if not has_other_side(event):
        return event
    if isinstance(event, ComparisonInteraction):
        return event.model_copy(update={"chosen": event.rejected, "rejected": event.chosen})
    if isinstance(event, RatingInteraction):
        return event.model_copy(update={"value": sum(event.scale) - event.value})
    other = rng.choice(event.pairs()).rejected
    if isinstance(event, ClickInteraction):
        return event.model_copy(update={"clicked": other, "shown": _instead(event.shown, other, event.clicked)})
    assert isinstance(event, PurchaseInteraction)
    return event.model_copy(update={"item": other, "considered": _instead(event.considered, other, event.item)})


def _instead(page: Sequence[Item], taken: Item, left: Item) -> tuple[Item, ...]:
    """The page of who took `taken` and left `left`: `left` is on it, where `taken` was if need be."""
    return tuple(page) if left in page else tuple(left if item == taken else item for item in page)


def parts(case: User, count: int) -> list[tuple[Interaction, ...]]:
    """The history in `count` parts of equal length, oldest first; a short history has fewer parts."""
    history = case.history
    cuts = [round(place * len(history) / count) for place in range(count + 1)]
    return [history[start:end] for start, end in pairwise(cuts) if start < end]
