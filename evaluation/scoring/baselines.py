"""Baselines that read no history, and the fast profile: what any score stands beside, row by row."""

from collections.abc import Mapping, Sequence

from alignx.schemas.items import item_text
from evaluation.cases.cases import Case
from evaluation.results import Estimate
from evaluation.scoring.calibration import hit
from evaluation.scoring.choice_scores import choose_by_profile
from evaluation.scoring.intervals import estimate_over

RowScores = Mapping[str, Sequence[float | None]]
"""By baseline its score on each row; None on a row without what it needs."""


def score_baselines(cases: Sequence[Case]) -> RowScores:
    """Chance, the longest text (for a judge that prefers length), popularity where the rows have it, the fast
    profile."""
    return {
        "random": [1 / len(case.options) for case in cases],
        "longer wins": [hit([len(item_text(option)) for option in case.options]) for case in cases],
        "popularity": [hit(case.popularity) if case.popularity else None for case in cases],
        "profile": [hit(choose_by_profile(case).probabilities) for case in cases],
    }


def estimate_baselines(baselines: RowScores, cases: Sequence[Case], seed: int) -> dict[str, Estimate]:
    return {
        name: estimate_over(scores, cases, seed=seed)
        for name, scores in baselines.items()
        if any(score is not None for score in scores)
    }


def estimate_margins(
    baselines: RowScores, hits: Sequence[float], cases: Sequence[Case], seed: int
) -> dict[str, Estimate]:
    """`hits` less each baseline, paired by row."""
    margins = {
        name: [None if score is None else value - score for value, score in zip(hits, scores, strict=True)]
        for name, scores in baselines.items()
    }
    return estimate_baselines(margins, cases, seed)
