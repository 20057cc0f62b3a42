"""What a dashboard is made of, and how it becomes Grafana's JSON.

A `Dashboard` has rows, a row has panels, a panel has queries in PromQL. Panels fill their row from
left to right; nobody counts columns by hand. A panel cannot be made without title, description and
unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

COLUMNS = 24
SCHEMA = 39
"""Grafana's schema of a dashboard that this writes: that of Grafana 11, which newer ones read."""
SOURCE = {"type": "prometheus", "uid": "prometheus"}
"""The data source, by the id that provisioning/datasources gives it."""

Unit = Literal["short", "percentunit", "s", "bytes", "reqps", "ops", "eps", "cps", "currencyUSD", "bool_yes_no"]
"""Grafana's names: a plain number, a share of one, seconds, bytes, requests, operations, events and
counts a second, dollars, yes or no."""
Kind = Literal["timeseries", "stat"]
Step = tuple[float | None, Literal["green", "orange", "red"]]
"""From this value on, this colour; the first step begins at null."""

INTERVAL = "$__rate_interval"
"""Grafana replaces it by a window that holds at least four scrapes."""


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""
    """Labels in double braces are filled in; empty shows all labels."""


@dataclass(frozen=True)
class Panel:
    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    steps: tuple[Step, ...] = ((None, "green"),)
    stacked: bool = False
    most: float | None = None
    """Upper end of the axis."""

    @property
    def height(self) -> int:
        return 4 if self.kind == "stat" else 8


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A number that whoever looks types in."""

    name: str
    label: str
    value: str


@dataclass(frozen=True)
class Dashboard:
    name: str
    """Its file's name, and what links lead to."""
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = field(default=())

    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels

    def filled(self, expr: str, window: str) -> str:
        """The query as Prometheus takes it: variables with their values, the interval as `window`."""
        expr = expr.replace(INTERVAL, window)
        for variable in self.variables:
            expr = expr.replace(f"${variable.name}", variable.value)
        return expr

    def json(self) -> dict[str, Any]:
        return {
            "uid": f"alignx-{self.name}",
            "title": f"AlignX / {self.title}",
            "description": self.description,
            "tags": ["alignx"],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": False,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "graphTooltip": 1,
            "links": [{"title": "AlignX", "type": "dashboards", "tags": ["alignx"], "keepTime": True}],
            "templating": {"list": [_variable(variable) for variable in self.variables]},
            "panels": list(_placed(self.rows)),
        }


def by(*names: str) -> str:
    """A legend of label values."""
    return " ".join(f"{{{{{name}}}}}" for name in names)


def rate(metric: str, *labels: str) -> str:
    """A second, summed up by `labels`."""
    group = f" by ({', '.join(labels)}) " if labels else ""
    return f"sum{group}(rate({metric}[{INTERVAL}]))"


def share(part: str, whole: str, *labels: str) -> str:
    """The rate of one counter as a share of another's."""
    return f"{rate(part, *labels)} / {rate(whole, *labels)}"


def quantiles(metric: str, *shares: float, match: str = "", labels: tuple[str, ...] = ()) -> tuple[Query, ...]:
    """Quantiles of the histogram `metric`: one query for each of `shares`."""
    buckets = rate(f"{metric}_bucket{match}", "le", *labels)
    return tuple(
        Query(f"histogram_quantile({part:g}, {buckets})", " ".join(filter(None, (by(*labels), f"p{part * 100:g}"))))
        for part in shares
    )


def _variable(variable: Variable) -> dict[str, Any]:
    value = {"text": variable.value, "value": variable.value}
    return {
        "type": "textbox",
        "name": variable.name,
        "label": variable.label,
        "query": variable.value,
        "current": value,
        "options": [{**value, "selected": True}],
    }


def _placed(rows: tuple[Row, ...]) -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for row in rows:
        number += 1
        position = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": position, "panels": []}
        y, x, deepest = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                y, x, deepest = y + deepest, 0, 0
            number += 1
            yield _panel(panel, number, {"h": panel.height, "w": panel.width, "x": x, "y": y})
            x, deepest = x + panel.width, max(deepest, panel.height)
        y += deepest


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel.kind),
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend}
            | ({"instant": True} if panel.kind == "stat" else {})
            for index, query in enumerate(panel.queries)
        ],
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in panel.steps],
        },
    }
    if panel.kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
        }
    if panel.most is not None:
        defaults["max"] = panel.most
    return defaults


def _options(kind: Kind) -> dict[str, Any]:
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
