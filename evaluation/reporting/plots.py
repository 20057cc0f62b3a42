"""The plot of a report: a small PNG, the same bytes for the same figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from evaluation.conditions import ABLATIONS
from evaluation.reporting.collect import CollectedResults
from evaluation.results import Estimate

COLORS: Final = ("#1a73e8", "#12a37f", "#e8710a", "#a142f4", "#d93025", "#5f6368", "#b8860b", "#008b8b")
BASELINES: Final = {"random": "|", "longer wins": "x", "popularity": "D"}
OVERLAPPING: Final = ("profile-text", "profile-flipped", *ABLATIONS)
"""Settings that would cover others."""


def plot_accuracy(collected: CollectedResults, path: Path) -> None:
    """A row for each benchmark, a point with its interval for each run and setting, a mark for each baseline."""
    lines = [line for line in collected.lines if line.setting not in OVERLAPPING]
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
    baselines = {benchmark: result.baselines for benchmark, result in collected.results}
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
    panel.tick_params(labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=7, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _means(values: Sequence[Estimate]) -> list[float]:
    return [100 * value.mean for value in values]


def _interval_arms(values: Sequence[Estimate]) -> list[list[float]]:
    return [
        [100 * max(0.0, value.mean - value.low) for value in values],
        [100 * max(0.0, value.high - value.mean) for value in values],
    ]
