"""The figures that benchmarks found, kept in bench/results, and the page that shows them all."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.result import Row

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "bench" / "results"
DOCUMENT: Final = ROOT / "docs" / "benchmarks.md"
ORDER: Final = (
    "gateway",
    "ingest",
    "reads",
    "coalescing",
    "update_cost",
    "memory",
    "cluster",
    "scale",
    "profile",
    "profile_benchmarks",
    "training",
    "data_reading",
    "choice",
    "alignment",
)
"""Of the benchmarks on the page."""


def keep(name: str, rows: Sequence[Row], about: str) -> None:
    """Prints a benchmark's table, keeps its figures, and writes the page anew."""
    print(table(rows), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    kept = {
        "measured_at": datetime.now(UTC).date().isoformat(),
        "about": about.strip(),
        "rows": [row._asdict() for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1))
    DOCUMENT.write_text(document())


def table(rows: Iterable[Row]) -> str:
    lines = ["| figure | value | unit | must be |", "|---|---:|---|---|"]
    lines += [f"| {row.figure} | {_short(row.value)} | {row.unit} | {row.must} |" for row in rows]
    return "\n".join(lines) + "\n"


def document() -> str:
    """The page of all kept results."""
    machine = f"{os.cpu_count()} cores of one machine ({platform.machine()}, Python {platform.python_version()})"
    parts = [
        "# Benchmarks\n",
        "Written by `make bench`; do not edit by hand. Every process of the suite, Redis and the load\n"
        f"generator shared the {machine}.\n",
    ]
    for name in ORDER:
        path = RESULTS / f"{name}.json"
        if path.exists():
            kept = json.loads(path.read_text())
            rows = [Row(**row) for row in kept["rows"]]
            parts.append(f"## {name}\n\n{kept['about']}\n\nMeasured {kept['measured_at']}.\n\n{table(rows)}")
    return "\n".join(parts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
