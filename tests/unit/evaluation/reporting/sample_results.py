"""Sample results of benchmarks: few rows, round figures."""

from collections.abc import Mapping
from datetime import UTC, datetime

from evaluation.conditions import ABLATIONS
from evaluation.reporting.collect import CollectedResults, collect
from evaluation.reporting.conversion import Conversion
from evaluation.results import AlignmentScores, Estimate, EvaluationResult, Scores, Source, Writing

ENGINE = Source(name="http://engine/v1 made-up")


def share(mean: float, rows: int = 200) -> Estimate:
    parts = {"development": (mean + 0.01, rows // 2), "kept": (mean - 0.01, rows - rows // 2)}
    whole, *halves = (
        Estimate(mean=middle, low=middle - 0.05, high=middle + 0.05, rows=count)
        for middle, count in ((mean, rows), *parts.values())
    )
    return whole.model_copy(update={"halves": dict(zip(parts, halves, strict=True))})


def scores(mean: float, *, tokens: float | None = None, calls: int = 0) -> Scores:
    """`tokens` of a summary that an engine wrote."""
    writing = None
    if tokens is not None:
        writing = Writing(replies=200, well_formed=1.0, usable=1.0, summary_tokens=tokens)
    return Scores(
        accuracy=share(mean),
        probability=share(0.6),
        auc=share(mean + 0.02),
        margins={"random": share(mean - 0.5), "longer wins": share(mean - 0.55)},
        calibration_error=0.0625,
        writing=writing,
        calls=calls,
        seconds=1.5,
    )


def result(
    benchmark: str,
    settings: Mapping[str, Scores],
    *,
    stage: str = "profile",
    popularity: Estimate | None = None,
    users: int = 200,
    shortened: int = 0,
) -> EvaluationResult:
    baselines = {"random": share(0.5), "longer wins": share(0.55)}
    both = {"streaming", "full"} <= settings.keys()
    engine = ENGINE if settings.keys() != {"profile"} else None
    return EvaluationResult(
        stage=stage,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=2.0,
        model=engine,
        judge=engine,
        data=Source(name=f"var/benchmarks/{benchmark}.jsonl", sha256=f"rows of {benchmark}"),
        config={"protocol": {"flip": 0.25}},
        versions={},
        drawn="users",
        clusters=150 if benchmark == "movielens" else None,
        users=tuple(f"user {number}" for number in range(users)),
        shortened=shortened,
        settings={name: _beside(each, popularity) for name, each in settings.items()},
        differences=({"streaming - full": share(-0.01)} if both else {})
        | {f"{name} - profile": share(-0.1) for name in ABLATIONS if name in settings},
        baselines=baselines | ({"popularity": popularity} if popularity else {}),
    )


def _beside(found: Scores, popularity: Estimate | None) -> Scores:
    """With its margin over popularity."""
    if popularity is None:
        return found
    above = share(found.accuracy.mean - popularity.mean, rows=popularity.rows)
    return found.model_copy(update={"margins": found.margins | {"popularity": above}})


def conversion(benchmark: str, **changes: object) -> Conversion:
    fields = {
        "name": benchmark,
        "about": "a film | one rated 4 or more",
        "negatives": "random",
        "rows": 200,
        "read": {"ratings": 1_000, "films": 50},
        "left_out": {"films without a title": 1},
        "sha256": f"rows of {benchmark}",
    }
    return Conversion.model_validate(fields | changes)


def samples() -> CollectedResults:
    """A profile and an engine on films, a profile alone on style, a step of alignment."""
    engine = {
        "full": scores(0.75, tokens=120.0, calls=400),
        "streaming": scores(0.74, tokens=130.0, calls=600),
        "none": scores(0.5, calls=200),
    }
    step = {"reference": ENGINE, "data": Source(name="pairs"), "beta": 0.1, "alignment": share(0.7, rows=1_000)}
    step |= dict.fromkeys(("gain", "gain_by_token"), share(0.1)) | dict.fromkeys(
        ("policy_prefers", "reference_prefers"), share(0.6)
    )
    aligned = result("", {}, stage="dpo").model_copy(
        update={"data": None, "alignment": AlignmentScores(**step), "measures": {"drift (0)": share(0.2)}}
    )
    kinds = {"plain": share(0.95, rows=100), "warm": share(0.85, rows=100)}
    return collect(
        [
            result(
                "movielens",
                {name: scores(0.7) for name in ("profile", "profile-popularity", "without-words")},
                popularity=share(0.8, rows=150),
            ),
            result("movielens", engine, stage="made-up", popularity=share(0.8, rows=150), shortened=3),
            result("psoups-style", {"profile": scores(0.9).model_copy(update={"by_kind": kinds})}),
            aligned,
        ],
        [conversion("movielens", limit=200)],
    )
