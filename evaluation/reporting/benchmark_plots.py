"""Plots of benchmark results: SVG, the same bytes for the same figures."""

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure

from evaluation.reporting.collect import Line, Measured
from evaluation.reporting.document import Picture
from evaluation.results import Calibration, Estimate, Scores

COLORS: Final = ("#1a73e8", "#12a37f", "#e8710a", "#a142f4", "#d93025", "#5f6368", "#b8860b", "#008b8b")
BASELINES: Final = {"random": "|", "longer wins": "x", "popularity": "D"}
_STYLE: Final = {"svg.hashsalt": "alignx", "svg.fonttype": "none", "font.size": 8}


def write(measured: Measured, folder: Path) -> list[Picture]:
    """Draws what there is to draw."""
    drawings: tuple[tuple[str, str, Callable[[Measured], Figure | None]], ...] = (
        ("accuracy.svg", "Accuracy by benchmark with 95 % intervals, and baselines", accuracies),
        ("streaming.svg", "Accuracy with streaming updates against one inference", streaming),
        ("cost.svg", "Accuracy against tokens of a summary and against engine calls", costs),
        ("calibration.svg", "Share of options chosen, by their probability", calibrations),
    )
    drawn = []
    with rc_context(_STYLE):
        for file, about, draw in drawings:
            figure = draw(measured)
            (folder / file).unlink(missing_ok=True)
            if figure:
                (folder / file).write_bytes(_svg(figure))
                drawn.append(Picture(file, about))
    return drawn


def _svg(figure: Figure) -> bytes:
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return b"\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + b"\n"


OF_THE_TABLE = ("profile-text", "profile-flipped")
"""Settings that would lie over others."""


def accuracies(measured: Measured) -> Figure:
    """A line a benchmark, a point with its interval for each run and setting, a mark for each baseline."""
    lines = [line for line in measured.lines if line.setting not in OF_THE_TABLE]
    names = list(dict.fromkeys(line.benchmark for line in lines))
    labels = list(dict.fromkeys(line.label for line in lines))
    figure = Figure(figsize=(7.5, 1.2 + 0.36 * len(names)), layout="constrained")
    panel = figure.add_subplot()
    for place, label in enumerate(labels):
        found = [line for line in lines if line.label == label]
        shift = 0.6 * ((place + 0.5) / len(labels) - 0.5)
        where = [names.index(line.benchmark) + shift for line in found]
        values = [line.accuracy for line in found]
        color = COLORS[place % len(COLORS)]
        panel.errorbar(_means(values), where, xerr=_arms(values), fmt="o", ms=4, color=color, capsize=2, label=label)
    for name, mark in BASELINES.items():
        marked = {at: value for at, value in enumerate(_baselines(measured, names, name)) if value}
        if marked:
            means = _means(list(marked.values()))
            panel.scatter(means, list(marked), marker=mark, s=28, color="#80868b", linewidths=1, label=name, zorder=1)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.set_xlim(0, 100)
    panel.set_xlabel("accuracy, %")
    panel.grid(axis="x", color="#e8eaed", linewidth=0.6)
    panel.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    _tidy(panel)
    return figure


def streaming(measured: Measured) -> Figure | None:
    """Where both were measured."""
    full = {(line.benchmark, line.run): line.accuracy for line in measured.lines if line.setting == "full"}
    pairs = [
        (line, full[line.benchmark, line.run])
        for line in measured.lines
        if line.setting == "streaming" and (line.benchmark, line.run) in full
    ]
    if not pairs:
        return None
    figure = Figure(figsize=(6.5, 1.2 + 0.36 * len(pairs)), layout="constrained")
    panel = figure.add_subplot()
    for shift, name, values in (
        (-0.12, "full", [value for _, value in pairs]),
        (0.12, "streaming", [line.accuracy for line, _ in pairs]),
    ):
        where = [at + shift for at in range(len(pairs))]
        panel.errorbar(_means(values), where, xerr=_arms(values), fmt="o", ms=4, capsize=2, label=name)
    panel.set_yticks(range(len(pairs)), [f"{line.benchmark} ({line.run})" for line, _ in pairs])
    panel.invert_yaxis()
    panel.set_xlabel("accuracy, %")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    _tidy(panel)
    return figure


def costs(measured: Measured) -> Figure | None:
    """Where an engine was called."""
    lines = [line for line in measured.lines if line.scores.calls]
    if not lines:
        return None
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axes: tuple[tuple[str, Callable[[Line], float | None]], ...] = (
        ("tokens of a summary", _tokens),
        ("engine calls a row", lambda line: line.scores.calls / line.accuracy.rows),
    )
    labels = list(dict.fromkeys(line.label for line in lines))
    for place, (name, figure_of) in enumerate(axes, 1):
        panel = figure.add_subplot(1, 2, place)
        for color, label in enumerate(labels):
            told = [(figure_of(line), 100 * line.accuracy.mean) for line in lines if line.label == label]
            points = [(x, y) for x, y in told if x is not None]
            shown = label if place == len(axes) else None
            panel.scatter(*_columns(points), s=16, color=COLORS[color % len(COLORS)], label=shown)
        panel.set_xlabel(name)
        panel.set_ylabel("accuracy, %")
        _tidy(panel)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def calibrations(measured: Measured) -> Figure | None:
    """A panel a benchmark: on the diagonal a probability is what it says."""
    found = [(line, told) for line in measured.lines if (told := _calibration(line))]
    if not found:
        return None
    names = list(dict.fromkeys(line.benchmark for line, _ in found))
    labels = list(dict.fromkeys(line.label for line, _ in found))
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(2.1 * columns, 2.0 * rows + 0.6), layout="constrained")
    for place, name in enumerate(names, 1):
        panel = figure.add_subplot(rows, columns, place)
        panel.plot([0, 1], [0, 1], color="#bdc1c6", linewidth=0.8, linestyle="--")
        for line, told in found:
            if line.benchmark == name:
                points = [(part.probability, part.chosen) for part in told.bins]
                color = COLORS[labels.index(line.label) % len(COLORS)]
                panel.plot(*_columns(points), marker=".", linewidth=1, color=color)
        panel.set_title(name, fontsize=8)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1)
        panel.set_xticks([0, 0.5, 1])
        panel.set_yticks([0, 0.5, 1])
        _tidy(panel)
    figure.supxlabel("probability", fontsize=8)
    figure.supylabel("share chosen", fontsize=8)
    handles = [figure.axes[0].plot([], [], color=COLORS[at % len(COLORS)])[0] for at in range(len(labels))]
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _calibration(line: Line) -> Calibration | None:
    return line.scores.calibration if isinstance(line.scores, Scores) else None


def _tokens(line: Line) -> float | None:
    return line.scores.writing.summary_tokens if line.scores.writing else None


def _baselines(measured: Measured, names: Sequence[str], baseline: str) -> list[Estimate | None]:
    found = {benchmark: result.baselines.get(baseline) for benchmark, result in measured.results}
    return [found.get(name) for name in names]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _means(values: Sequence[Estimate]) -> list[float]:
    return [100 * value.mean for value in values]


def _arms(values: Sequence[Estimate]) -> list[list[float]]:
    return [
        [100 * max(0.0, value.mean - value.low) for value in values],
        [100 * max(0.0, value.high - value.mean) for value in values],
    ]


def _tidy(panel: Any) -> None:
    panel.tick_params(labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)
