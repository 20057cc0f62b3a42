"""What the shipped checkpoint must hold, and whether it does: verdicts follow from the figures alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from evaluation.reporting.gather_runs import paired
from evaluation.results import Estimate, EvaluationResult

Verdict = Literal["met", "not met", "too few users", "not measured"]
SFT, RL = "sft", "rl"
ALIGNED: Final = ("dpo-ica", "dpo-pba")
LEAST_ROWS: Final = 500

CHANCE, NEAR = 0.5, 0.05
SFT_ACCURACY = 0.80
RL_GAIN = 0.03
STREAMING_LOSS = 0.015
FLIPPED_LOSS = 0.05
ALIGNMENT_GAIN = 0.15


@dataclass(frozen=True)
class Bounds:
    """Where a figure must lie, ends included."""

    least: float = float("-inf")
    most: float = float("inf")

    def hold(self, value: float) -> bool:
        return self.least <= value <= self.most

    def gap(self, value: float) -> float:
        """How far outside a value lies."""
        return max(self.least - value, value - self.most, 0.0)


@dataclass(frozen=True)
class Criterion:
    name: str
    wanted: str
    bounds: Bounds
    figure: Estimate | None
    difference: bool
    """Whether the figure is a difference, in points, or a share."""

    @property
    def verdict(self) -> Verdict:
        if self.figure is None:
            return "not measured"
        if self.figure.rows < LEAST_ROWS:
            return "too few users"
        return "met" if self.bounds.hold(self.figure.mean) else "not met"

    @property
    def sentence(self) -> str:
        """The verdict with its grounds."""
        if self.figure is None:
            return "not measured"
        whole = self.bounds.hold(self.figure.low) and self.bounds.hold(self.figure.high)
        missing = 100 * self.bounds.gap(self.figure.mean)
        grounds = {
            "met": "with the whole interval" if whole else "by the mean; the interval reaches beyond the bound",
            "not met": f"{missing:.1f} points are missing",
            "too few users": f"{self.figure.rows}, at least {LEAST_ROWS} are asked for; the mean "
            + ("would do" if self.bounds.hold(self.figure.mean) else f"lacks {missing:.1f} points"),
        }
        return f"{self.verdict}: {grounds[self.verdict]}"


def criteria(results: Mapping[str, EvaluationResult]) -> list[Criterion]:
    """Each condition with its figure, in the order in which they build on each other."""
    sft, rl = results.get(SFT), results.get(RL)
    last = RL if rl else SFT
    found = [
        Criterion(
            f"{stage}: no summary",
            f"within {100 * NEAR:g} points of {100 * CHANCE:g} %",
            Bounds(CHANCE - NEAR, CHANCE + NEAR),
            _accuracy(results.get(stage), "none"),
            difference=False,
        )
        for stage in (SFT, RL)
    ]
    found += [
        Criterion(
            f"{SFT}: full history",
            f"at least {100 * SFT_ACCURACY:g} %",
            Bounds(least=SFT_ACCURACY),
            _accuracy(sft, "full"),
            difference=False,
        ),
        Criterion(
            f"{RL} less {SFT}: full history",
            f"at least {100 * RL_GAIN:+g} points",
            Bounds(least=RL_GAIN),
            paired(rl, sft, "full") if rl and sft else None,
            difference=True,
        ),
        _loss(results, last, "streaming", STREAMING_LOSS),
        _loss(results, last, "flipped", FLIPPED_LOSS),
    ]
    return found + [
        Criterion(
            f"{stage}: alignment accuracy",
            f"at least {100 * (CHANCE + ALIGNMENT_GAIN):g} %, {100 * ALIGNMENT_GAIN:g} points over the reference's own",
            Bounds(least=CHANCE + ALIGNMENT_GAIN),
            _alignment(results.get(stage)),
            difference=False,
        )
        for stage in ALIGNED
    ]


def _accuracy(result: EvaluationResult | None, setting: str) -> Estimate | None:
    return _of(result, lambda measured: measured.settings[setting].accuracy)


def _loss(results: Mapping[str, EvaluationResult], stage: str, setting: str, most: float) -> Criterion:
    figure = _of(results.get(stage), lambda measured: measured.differences[f"{setting} - full"])
    wanted = f"at most {100 * most:g} points below"
    return Criterion(f"{stage}: {setting} less full", wanted, Bounds(least=-most), figure, difference=True)


def _alignment(result: EvaluationResult | None) -> Estimate | None:
    return result.alignment.alignment if result and result.alignment else None


def _of(result: EvaluationResult | None, figure: Callable[[EvaluationResult], Estimate]) -> Estimate | None:
    try:
        return figure(result) if result else None
    except KeyError:  # this setting was not measured
        return None
