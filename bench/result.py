"""What a benchmark gives: rows of a table, each with what it must reach."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One figure. `must` says what the project holds itself to; empty where the figure only tells."""

    figure: str
    value: float
    unit: str
    must: str = ""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median_ms(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1000
