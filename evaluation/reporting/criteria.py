"""Conditions for the shipped checkpoint, and verdicts that follow from the figures alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from evaluation.reporting.gather_runs import compare_stages
from evaluation.results import Estimate, EvaluationResult

Verdict = Literal["met", "not met", "too few users", "not measured"]
SFT, RL = "sft", "rl"
PREFERENCE_STAGES: Final = ("dpo-ica", "dpo-pba")
MIN_ROWS: Final = 500

CHANCE, NEAR = 0.5, 0.05
SFT_ACCURACY = 0.80
RL_GAIN = 0.03
STREAMING_LOSS = 0.015
FLIPPED_LOSS = 0.05
ALIGNMENT_GAIN = 0.15


@dataclass(frozen=True)
class Bounds:
    """Bounds of a figure, ends included."""

    least: float = float("-inf")
    most: float = float("inf")

    def contains(self, value: float) -> bool:
        return self.least <= value <= self.most

    def gap(self, value: float) -> float:
        """Distance of a value outside the bounds."""
        return max(self.least - value, value - self.most, 0.0)


@dataclass(frozen=True)
class Criterion:
    name: str
    wanted: str
    bounds: Bounds
    figure: Estimate | None
    is_difference: bool
    """Whether the figure is a difference, in points, or a share."""

    @property
    def verdict(self) -> Verdict:
        if self.figure is None:
            return "not measured"
        if self.figure.rows < MIN_ROWS:
            return "too few users"
        return "met" if self.bounds.contains(self.figure.mean) else "not met"

    @property
    def sentence(self) -> str:
        """The verdict with its reason."""
        if self.figure is None:
            return "not measured"
        is_certain = self.bounds.contains(self.figure.low) and self.bounds.contains(self.figure.high)
        missing = 100 * self.bounds.gap(self.figure.mean)
        reasons = {
            "met": "with the whole interval" if is_certain else "by the mean; the interval reaches beyond the bound",
            "not met": f"{missing:.1f} points are missing",
            "too few users": f"{self.figure.rows}, at least {MIN_ROWS} are asked for; the mean "
            + ("would do" if self.bounds.contains(self.figure.mean) else f"lacks {missing:.1f} points"),
        }
        return f"{self.verdict}: {reasons[self.verdict]}"


def check_criteria(results: Mapping[str, EvaluationResult]) -> list[Criterion]:
    """Each condition with its figure, in the order of the stages."""
    sft, rl = results.get(SFT), results.get(RL)
    last = RL if rl else SFT
    checked = [
        Criterion(
            f"{stage}: no summary",
            f"within {100 * NEAR:g} points of {100 * CHANCE:g} %",
            Bounds(CHANCE - NEAR, CHANCE + NEAR),
            _accuracy(results.get(stage), "none"),
            is_difference=False,
        )
        for stage in (SFT, RL)
    ]
    checked += [
        Criterion(
            f"{SFT}: full history",
            f"at least {100 * SFT_ACCURACY:g} %",
            Bounds(least=SFT_ACCURACY),
            _accuracy(sft, "full"),
            is_difference=False,
        ),
        Criterion(
            f"{RL} less {SFT}: full history",
            f"at least {100 * RL_GAIN:+g} points",
            Bounds(least=RL_GAIN),
            compare_stages(rl, sft, "full") if rl and sft else None,
            is_difference=True,
        ),
        _loss(results, last, "streaming", STREAMING_LOSS),
        _loss(results, last, "flipped", FLIPPED_LOSS),
    ]
    return checked + [
        Criterion(
            f"{stage}: alignment accuracy",
            f"at least {100 * (CHANCE + ALIGNMENT_GAIN):g} %, {100 * ALIGNMENT_GAIN:g} points over the reference's own",
            Bounds(least=CHANCE + ALIGNMENT_GAIN),
            _alignment(results.get(stage)),
            is_difference=False,
        )
        for stage in PREFERENCE_STAGES
    ]


def _accuracy(result: EvaluationResult | None, setting: str) -> Estimate | None:
    return _figure(result, lambda measured: measured.settings[setting].accuracy)


def _loss(results: Mapping[str, EvaluationResult], stage: str, setting: str, most: float) -> Criterion:
    figure = _figure(results.get(stage), lambda measured: measured.differences[f"{setting} - full"])
    wanted = f"at most {100 * most:g} points below"
    return Criterion(f"{stage}: {setting} less full", wanted, Bounds(least=-most), figure, is_difference=True)


def _alignment(result: EvaluationResult | None) -> Estimate | None:
    return result.alignment.alignment if result and result.alignment else None


def _figure(result: EvaluationResult | None, figure: Callable[[EvaluationResult], Estimate]) -> Estimate | None:
    try:
        return figure(result) if result else None
    except KeyError:  # the setting is not measured
        return None
