"""Writes the dashboards as the JSON that Grafana is provisioned with.

    python -m docker.grafana.write        (writes docker/grafana/dashboards/*.json)

A test fails when a file is older than the code.
"""

import json
from pathlib import Path

from docker.grafana import engine, gateway, overview, preference, quality, redis
from docker.grafana.panels import Dashboard

FOLDER = Path(__file__).with_name("dashboards")
DASHBOARDS: tuple[Dashboard, ...] = tuple(
    module.DASHBOARD for module in (overview, preference, quality, gateway, engine, redis)
)


def text(dashboard: Dashboard) -> str:
    return json.dumps(dashboard.json(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.name}.json").write_text(text(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
