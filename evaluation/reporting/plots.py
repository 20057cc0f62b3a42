"""The plots of reports: small PNG files, the same bytes for the same figures."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from evaluation.reporting.collect import BenchmarkResults
from evaluation.reporting.gather_runs import TrainingReportData, TrainingRun
from evaluation.results import Estimate, EvaluationResult

MAX_BYTES: Final = 60_000
MAX_BENCHMARK_BYTES: Final = 150_000
STAGE_COLORS: Final = {"none": "#9aa0a6", "full": "#1a73e8", "streaming": "#12a37f", "flipped": "#e8710a"}
CURVE_COLOR: Final = "#1a73e8"
COLORS: Final = ("#1a73e8", "#12a37f", "#e8710a", "#a142f4", "#d93025", "#5f6368", "#b8860b", "#008b8b")
BASELINES: Final = {"random": "|", "longer wins": "x", "popularity": "D"}
OVERLAPPING: Final = ("profile-text", "profile-flipped")
"""Settings that would cover others in the plot of benchmarks."""
_DPI, _MIN_DPI = 110, 40


def plot_training(data: TrainingReportData, folder: Path) -> list[str]:
    """Plots the curves and accuracies that exist; returns the names of the files."""
    files = []
    for name, curves in (("loss", ("loss",)), ("reward", ("reward", "rewards/accuracies"))):
        pairs = [(run, curve) for run in data.runs for curve in curves if curve in run.curves]
        if pairs:
            files.append(_save(_plot_curves(pairs), folder / f"{name}.png"))
    results = [result for result in data.results.values() if STAGE_COLORS.keys() & result.settings.keys()]
    if results:
        files.append(_save(_plot_stages(results), folder / "accuracy.png"))
    return files


def plot_benchmarks(results: BenchmarkResults, path: Path) -> None:
    """A row for each benchmark, a point with its interval for each run and setting, a mark for each baseline."""
    lines = [line for line in results.lines if line.setting not in OVERLAPPING]
    names = list(dict.fromkeys(line.benchmark for line in lines))
    labels = list(dict.fromkeys(line.label for line in lines))
    figure = Figure(figsize=(7.5, 1.2 + 0.36 * len(names)), layout="constrained")
    panel = figure.add_subplot()
    for number, label in enumerate(labels):
        own = [line for line in lines if line.label == label]
        shift = 0.6 * ((number + 0.5) / len(labels) - 0.5)
        positions = [names.index(line.benchmark) + shift for line in own]
        values = [line.accuracy for line in own]
        style = {"fmt": "o", "ms": 3, "capsize": 1, "elinewidth": 0.8, "color": COLORS[number % len(COLORS)]}
        panel.errorbar(_means(values), positions, xerr=_interval_arms(values), label=label, **style)
    baselines = {benchmark: result.baselines for benchmark, result in results.results}
    for name, mark in BASELINES.items():
        marks = [
            (row, baselines[benchmark][name]) for row, benchmark in enumerate(names) if name in baselines[benchmark]
        ]
        if marks:
            means = _means([value for _, value in marks])
            panel.scatter(means, [row for row, _ in marks], marker=mark, s=28, color="#80868b", label=name, zorder=1)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.set_xlim(0, 100)
    panel.set_xlabel("accuracy, %", fontsize=8)
    panel.grid(axis="x", color="#e8eaed", linewidth=0.6)
    panel.set_axisbelow(True)
    figure.legend(fontsize=7, loc="outside upper center", ncols=4, frameon=False)
    _simplify(panel)
    _save(figure, path, MAX_BENCHMARK_BYTES)


def _save(figure: Figure, path: Path, max_bytes: int = MAX_BYTES) -> str:
    """At the highest resolution within the limit."""
    dpi = _DPI
    while True:
        image = BytesIO()
        figure.savefig(image, format="png", dpi=dpi, metadata={"Software": None})
        if image.tell() <= max_bytes or dpi <= _MIN_DPI:
            path.write_bytes(image.getvalue())
            return path.name
        dpi = max(_MIN_DPI, int(dpi * 0.8))


def _plot_curves(pairs: Sequence[tuple[TrainingRun, str]]) -> Figure:
    """A panel for each run."""
    columns = min(3, len(pairs))
    lines = math.ceil(len(pairs) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * lines), layout="constrained")
    for number, (run, name) in enumerate(pairs, 1):
        panel = figure.add_subplot(lines, columns, number)
        steps, values = zip(*run.curves[name], strict=True)
        panel.plot(steps, values, color=CURVE_COLOR, linewidth=1, marker="." if len(steps) < 3 else None)
        panel.set_title(f"{run.name}: {name}", fontsize=8)
        panel.set_xlabel("step", fontsize=7)
        _simplify(panel)
    return figure


def _plot_stages(results: Sequence[EvaluationResult]) -> Figure:
    """Bars by stage and setting, with their intervals."""
    figure = Figure(figsize=(max(4.5, 1.6 * len(results)), 3.2), layout="constrained")
    panel = figure.add_subplot()
    width = 0.8 / len(STAGE_COLORS)
    for number, (setting, color) in enumerate(STAGE_COLORS.items()):
        stages = [stage for stage, result in enumerate(results) if setting in result.settings]
        if not stages:
            continue
        values = [results[stage].settings[setting].accuracy for stage in stages]
        positions = [stage + width * (number - (len(STAGE_COLORS) - 1) / 2) for stage in stages]
        style = {"color": color, "capsize": 2, "error_kw": {"linewidth": 0.8}}
        panel.bar(positions, _means(values), width, yerr=_interval_arms(values), label=setting, **style)
    panel.axhline(50, color="#444444", linewidth=0.8, linestyle="--")
    panel.set_ylim(0, 100)
    panel.set_ylabel("accuracy, %", fontsize=8)
    panel.set_xticks(range(len(results)), [result.stage for result in results])
    figure.legend(fontsize=7, ncols=len(STAGE_COLORS), loc="outside upper center", frameon=False)
    _simplify(panel)
    return figure


def _means(values: Sequence[Estimate]) -> list[float]:
    return [100 * value.mean for value in values]


def _interval_arms(values: Sequence[Estimate]) -> list[list[float]]:
    return [
        [100 * max(0.0, value.mean - value.low) for value in values],
        [100 * max(0.0, value.high - value.mean) for value in values],
    ]


def _simplify(panel: Any) -> None:
    panel.tick_params(labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)
