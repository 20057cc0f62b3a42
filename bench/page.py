"""The results of benchmarks: rows with figures, and the page that keeps them all."""

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = ROOT / "docs" / "results" / "benchmarks.md"


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
    """Prints a benchmark's table, and puts it into the page in place of its last one."""
    print(render_table(rows), flush=True)
    page = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    measured = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores ({platform.machine()}, Python {platform.python_version()})"
    section = f"{about.strip()}\n\nMeasured {measured}, {machine}.\n\n{render_table(rows)}"
    DOCUMENT.write_text(render_page({**read_sections(page), name: section}))


def render_table(rows: Iterable[Row]) -> str:
    lines = ["| figure | value | unit | must be |", "|---|---:|---|---|"]
    lines += [f"| {row.figure} | {_short(row.value)} | {row.unit} | {row.must} |" for row in rows]
    return "\n".join(lines) + "\n"


def read_sections(page: str) -> dict[str, str]:
    """The text below each heading of the page, by the benchmark's name."""
    return {name: text.strip() + "\n" for name, _, text in (part.partition("\n") for part in page.split("\n## ")[1:])}


def render_page(sections: Mapping[str, str]) -> str:
    """The page of all sections; a new one comes last."""
    parts = [
        "# Benchmarks\n",
        "Written by `make bench`; do not edit by hand. Every process of the suite, Redis and the load\n"
        "generator shared one machine.\n",
    ]
    parts += [f"## {name}\n\n{section}" for name, section in sections.items()]
    return "\n".join(parts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
