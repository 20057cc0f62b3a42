"""The results of benchmarks: rows with figures, and the page that keeps them all."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
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
    DOCUMENT.write_text(
        replace_section(DOCUMENT.read_text(), name, f"{about.strip()}\n\n{_origin()}\n\n{render_table(rows)}")
    )


def replace_section(page: str, name: str, text: str) -> str:
    """A section that the page lacks comes last."""
    head, *sections = page.split("\n## ")
    texts = dict(section.split("\n\n", 1) for section in sections)
    return "\n## ".join([head, *(f"{heading}\n\n{section}" for heading, section in (texts | {name: text}).items())])


def _origin() -> str:
    machine = f"{os.cpu_count()} cores ({platform.machine()}, Python {platform.python_version()})"
    return f"Measured {datetime.now(UTC).date().isoformat()}, {machine}."


def render_table(rows: Iterable[Row]) -> str:
    lines = ["| figure | value | unit | must be |", "|---|---:|---|---|"]
    lines += [f"| {row.figure} | {_short(row.value)} | {row.unit} | {row.must} |" for row in rows]
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
