"""Renders what each dashboard shows as tables, into docs/how-to/operations.md below its marker.

    WRITE_DOCS=1 pytest tests/live/test_observability.py

The figures come from that run: a real Redis, a real engine, every service, and a real Prometheus.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from docker.grafana.panels import Panel, Query, Unit
from docker.grafana.write import DASHBOARDS

PAGE = Path(__file__).parent / "how-to" / "operations.md"
MARKER = "<!-- What follows is written by a run: WRITE_DOCS=1 pytest tests/live/test_observability.py -->\n"
SHOWN = 4
"""Series of one query that are written out."""

_UNITS: Mapping[Unit, str] = {
    "s": " s",
    "reqps": " /s",
    "ops": " /s",
    "eps": " /s",
    "cps": " /s",
    "currencyUSD": " $",
    "short": "",
}


@dataclass(frozen=True)
class Reading:
    """What one query of a panel gave."""

    dashboard: str
    panel: Panel
    query: Query
    figures: list[tuple[Mapping[str, str], float]]


def write(readings: Iterable[Reading]) -> None:
    """Replaces everything below the marker."""
    introduction = PAGE.read_text(encoding="utf-8").split(MARKER)[0]
    PAGE.write_text(introduction + MARKER + tables(readings, datetime.now(UTC)), encoding="utf-8")


def tables(readings: Iterable[Reading], when: datetime) -> str:
    titles = {dashboard.name: dashboard.title for dashboard in DASHBOARDS}
    parts = [f"\nMeasured {when:%Y-%m-%d}.\n"]
    for name, rows in groupby(readings, lambda reading: reading.dashboard):
        parts.append(f"\n### {titles[name]}\n\n| panel | query | in that run |\n|---|---|---|\n")
        parts += [row(reading) for reading in rows]
    return "".join(parts)


def row(reading: Reading) -> str:
    """One line; a vertical bar would end its cell, even inside of code."""
    query = " ".join(reading.query.expr.split()).replace("|", r"\|")
    unit = reading.panel.unit
    values = [f"{legend(reading.query, labels)} {figure(value, unit)}" for labels, value in reading.figures]
    more = [f"and {len(values) - SHOWN} more"] if len(values) > SHOWN else []
    values_text = "; ".join([value.strip() for value in values[:SHOWN]] + more)
    return f"| {reading.panel.title} | `{query}` | {values_text} |\n"


def legend(query: Query, labels: Mapping[str, str]) -> str:
    """The words that Grafana puts beside a series."""
    text = query.legend
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text.replace("{{node}}", "").strip()


def figure(value: float, unit: Unit) -> str:
    if unit == "percentunit":
        return f"{value:.1%}".replace("%", " %")
    if unit == "bool_yes_no":
        return "yes" if value else "no"
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    return f"{value:.3g}{_UNITS[unit]}" if abs(value) < 1000 else f"{value:,.0f}{_UNITS[unit]}"
