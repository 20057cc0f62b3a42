"""The lint of the dashboards: nothing is shown that no component exports, and nothing without words."""

import json
import re
from itertools import combinations
from typing import Any, get_args

import pytest
import yaml

from docker.grafana.panels import COLUMNS, SOURCE, Dashboard, Panel, Query, Row, Unit
from docker.grafana.write import DASHBOARDS, FOLDER, text
from tests.containers.exported import SCRAPED, Series, faults
from tests.containers.promql import grouping, selectors

PROVISIONING = FOLDER.parent / "provisioning"
WINDOW = "1m"


def lint(dashboard: Dashboard, known: Series) -> list[str]:
    """Everything that is wrong with a dashboard."""
    faulty = []
    for panel in dashboard.panels():
        fields = {"title": panel.title, "description": panel.description, "unit": panel.unit, "query": panel.queries}
        wrong = [f"has no {name}" for name, value in fields.items() if not value]
        wrong += [] if panel.unit in get_args(Unit) else [f"has the unit {panel.unit!r}, which Grafana does not know"]
        for query in panel.queries:
            expr = dashboard.filled(query.expr, WINDOW)
            wrong += faults(expr, known)
            unknown = set(re.findall(r"{{(\w+)}}", query.legend)) - labels_of(expr, known)
            wrong += [f"shows {label}, which its query does not give" for label in sorted(unknown)]
        faulty += [f"{dashboard.title} / {panel.title} {fault}" for fault in wrong]
    return faulty


def labels_of(expr: str, known: Series) -> set[str]:
    """Labels that the answer may have: those grouped by, or else all."""
    own = [labels for selector in selectors(expr) for labels in known.get(selector.name or "", {}).values()]
    return grouping(expr) or SCRAPED.union(*own)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_every_panel_shows_what_is_exported_and_says_what_it_is(dashboard: Dashboard, known: Series) -> None:
    assert lint(dashboard, known) == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"queries": (Query("sum(alignx_no_such_thing)"),)}, "no component exports alignx_no_such_thing"),
        ({"queries": (Query('alignx_updates_total{result="committed"}'),)}, "alignx_updates_total has no label result"),
        ({"queries": (Query('rate(alignx_updates_total{job="gateway"}[1m])'),)}, "gateway does not export"),
        ({"queries": (Query("sum by (colour) (alignx_updates_total)"),)}, "no label colour to group by"),
        ({"queries": (Query("sum by (job) (up)", "{{instance}}"),)}, "shows instance"),
        ({"queries": ()}, "has no query"),
        ({"unit": ""}, "has no unit"),
        ({"unit": "furlongs"}, "Grafana does not know"),
        ({"description": ""}, "has no description"),
        ({"title": ""}, "has no title"),
    ],
)
def test_the_lint_finds(changed: dict[str, Any], fault: str, known: Series) -> None:
    fields: dict[str, Any] = {"title": "A", "description": "B", "unit": "short", "queries": (Query("up"),)}
    good, bad = Panel(**fields), Panel(**fields | changed)
    assert lint(Dashboard("a", "A", "A", (Row("A", (good,)),)), known) == []
    assert any(fault in message for message in lint(Dashboard("a", "A", "A", (Row("A", (bad,)),)), known))


def test_what_grafana_reads_is_what_the_code_says() -> None:
    written = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert written == {dashboard.name: text(dashboard) for dashboard in DASHBOARDS}, (
        "run: python -m docker.grafana.write"
    )


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_panels_lie_side_by_side(dashboard: Dashboard) -> None:
    panels = dashboard.json()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    boxes = [panel["gridPos"] for panel in panels]
    assert all(box["x"] >= 0 and box["x"] + box["w"] <= COLUMNS for box in boxes)
    assert not [(first, second) for first, second in combinations(boxes, 2) if overlap(first, second)]


def overlap(first: dict[str, int], second: dict[str, int]) -> bool:
    return all(
        first[start] < second[start] + second[size] and second[start] < first[start] + first[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def test_provisioning_gives_grafana_the_source_and_the_folder_that_dashboards_name() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yaml").read_text())["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/alignx.yaml").read_text())["providers"]
    assert provider["type"] == "file"
    assert not provider["allowUiUpdates"]
    uids = [json.loads(path.read_text())["uid"] for path in FOLDER.glob("*.json")]
    assert len(set(uids)) == len(DASHBOARDS)
