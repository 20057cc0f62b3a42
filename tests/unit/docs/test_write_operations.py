"""The tables of docs/how-to/operations.md show what the dashboards ask; how figures are written."""

import re
from datetime import UTC, datetime

import pytest

from docker.grafana.panels import Panel, Query, Unit
from docker.grafana.write import DASHBOARDS
from docs.write_operations import MARKER, PAGE, Reading, figure, row, tables


def test_the_tables_are_of_the_dashboards_as_they_are() -> None:
    written = PAGE.read_text(encoding="utf-8").split(MARKER)[1]
    readings = [
        Reading(dashboard.name, panel, query, [])
        for dashboard in DASHBOARDS
        for panel in dashboard.panels()
        for query in panel.queries
    ]
    rows = re.findall(r"^(\| .* \| `.*` \|)", tables(readings, datetime.now(UTC)), re.MULTILINE)
    assert len(rows) == len(readings)
    assert re.findall(r"^(\| .* \| `.*` \|)", written, re.MULTILINE) == rows, (
        "run: WRITE_DOCS=1 pytest tests/live/test_observability.py"
    )
    assert not re.findall(r"^.* \|  \|$", written, re.MULTILINE), "a query gave nothing"


def test_a_row_says_which_series_has_which_figure() -> None:
    panel = Panel("Waiting", "Who waits.", "short", ())
    query = Query('sum by (job) (a{b=~"c|d"})', "{{job}} waits")
    figures = [({"job": f"j{number}"}, number) for number in range(1, 7)]
    assert row(Reading("a", panel, query, figures)) == (
        '| Waiting | `sum by (job) (a{b=~"c\\|d"})` | j1 waits 1; j2 waits 2; j3 waits 3; j4 waits 4; and 2 more |\n'
    )


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (0.123, "percentunit", "12.3 %"),
        (0.00123, "s", "0.00123 s"),
        (12345.6, "reqps", "12,346 /s"),
        (3 * 2**20, "bytes", "3.0 MiB"),
        (1, "bool_yes_no", "yes"),
        (0.25, "currencyUSD", "0.25 $"),
    ],
)
def test_a_figure_is_written_with_its_unit(value: float, unit: Unit, written: str) -> None:
    assert figure(value, unit) == written
