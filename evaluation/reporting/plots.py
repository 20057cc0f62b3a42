"""The report's plots: small PNG files, the same bytes for the same figures."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from evaluation.reporting.gather_runs import Gathered, TrainingRun
from evaluation.results import EvaluationResult

MAX_BYTES: Final = 60_000
SHOWN: Final = {"none": "#9aa0a6", "full": "#1a73e8", "streaming": "#12a37f", "flipped": "#e8710a"}
LINE: Final = "#1a73e8"
_DPI, _LEAST_DPI = 110, 40


def write(gathered: Gathered, folder: Path) -> list[str]:
    """Draws what there is to draw; returns the names of the files."""
    drawn = []
    for name, curves in (("loss", ("loss",)), ("reward", ("reward", "rewards/accuracies"))):
        shown = [(run, curve) for run in gathered.runs for curve in curves if curve in run.curves]
        if shown:
            drawn.append(_save(_courses(shown), folder / f"{name}.png"))
    measured = [result for result in gathered.results.values() if SHOWN.keys() & result.settings.keys()]
    if measured:
        drawn.append(_save(_accuracies(measured), folder / "accuracy.png"))
    return drawn


def _save(figure: Figure, path: Path) -> str:
    """At the resolution that the limit of bytes allows."""
    dpi = _DPI
    while True:
        drawn = BytesIO()
        figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
        if drawn.tell() <= MAX_BYTES or dpi <= _LEAST_DPI:
            path.write_bytes(drawn.getvalue())
            return path.name
        dpi = max(_LEAST_DPI, int(dpi * 0.8))


def _courses(shown: Sequence[tuple[TrainingRun, str]]) -> Figure:
    """A panel for each run."""
    columns = min(3, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * lines), layout="constrained")
    for place, (run, name) in enumerate(shown, 1):
        panel = figure.add_subplot(lines, columns, place)
        steps, values = zip(*run.curves[name], strict=True)
        panel.plot(steps, values, color=LINE, linewidth=1, marker="." if len(steps) < 3 else None)
        panel.set_title(f"{run.name}: {name}", fontsize=8)
        panel.set_xlabel("step", fontsize=7)
        _tidy(panel)
    return figure


def _accuracies(measured: Sequence[EvaluationResult]) -> Figure:
    """Bars by stage and setting, with their intervals."""
    figure = Figure(figsize=(max(4.5, 1.6 * len(measured)), 3.2), layout="constrained")
    panel = figure.add_subplot()
    width = 0.8 / len(SHOWN)
    for place, (setting, color) in enumerate(SHOWN.items()):
        accuracies = [(at, result.settings.get(setting)) for at, result in enumerate(measured)]
        bars = [(at, scores.accuracy) for at, scores in accuracies if scores]
        if not bars:
            continue
        where = [at + width * (place - (len(SHOWN) - 1) / 2) for at, _ in bars]
        means = [100 * value.mean for _, value in bars]
        arms = [
            [100 * (value.mean - value.low) for _, value in bars],
            [100 * (value.high - value.mean) for _, value in bars],
        ]
        panel.bar(where, means, width, yerr=arms, label=setting, color=color, capsize=2, error_kw={"linewidth": 0.8})
    panel.axhline(50, color="#444444", linewidth=0.8, linestyle="--")
    panel.set_ylim(0, 100)
    panel.set_ylabel("accuracy, %", fontsize=8)
    panel.set_xticks(range(len(measured)), [result.stage for result in measured])
    figure.legend(fontsize=7, ncols=len(SHOWN), loc="outside upper center", frameon=False)
    _tidy(panel)
    return figure


def _tidy(panel: Any) -> None:
    panel.tick_params(labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)
