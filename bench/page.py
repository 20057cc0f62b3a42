"""The results of benchmarks: rows with figures, saved in bench/results, and the page that shows them all."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "bench" / "results"
DOCUMENT: Final = ROOT / "docs" / "results" / "benchmarks.md"
ORDER: Final = (
    "gateway",
    "ingest",
    "reads",
    "cadence",
    "update_cost",
    "memory",
    "small_model",
    "cluster",
    "choice",
    "training",
)
"""Order of the benchmarks on the page."""


class Row(NamedTuple):
    """One figure. `must` is the bound that the project sets itself; empty where there is none."""

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


def save_results(name: str, rows: Sequence[Row], about: str) -> None:
    """Prints a benchmark's table, saves its figures, and writes the page anew."""
    print(render_table(rows), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = {
        "measured_at": datetime.now(UTC).date().isoformat(),
        "about": about.strip(),
        "rows": [row._asdict() for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1))
    DOCUMENT.write_text(render_page())


def render_table(rows: Iterable[Row]) -> str:
    lines = ["| figure | value | unit | must be |", "|---|---:|---|---|"]
    lines += [f"| {row.figure} | {_short(row.value)} | {row.unit} | {row.must} |" for row in rows]
    return "\n".join(lines) + "\n"


def render_page() -> str:
    """The page of all saved results."""
    machine = f"{os.cpu_count()} cores of one machine ({platform.machine()}, Python {platform.python_version()})"
    parts = [
        "# Benchmarks\n",
        "Written by `make bench`; do not edit by hand. Every process of the suite, Redis and the load\n"
        f"generator shared the {machine}.\n",
    ]
    for name in ORDER:
        path = RESULTS / f"{name}.json"
        if path.exists():
            results = json.loads(path.read_text())
            rows = [Row(**row) for row in results["rows"]]
            parts.append(
                f"## {name}\n\n{results['about']}\n\nMeasured {results['measured_at']}.\n\n{render_table(rows)}"
            )
    return "\n".join(parts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
