"""Prometheus's configuration, its rules and their own tests; that each alert is explained and tested."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from docker.grafana.write import DASHBOARDS
from docs.code_blocks import find_blocks
from tests.containers.exported import PORTS, ROOT, RULES, Series, faults, rules
from tests.containers.promql import selectors

RUNBOOK = ROOT / "docs" / "how-to" / "runbook.md"

FOLDER = RULES.parent
CASES = FOLDER / "tests" / "alerts.yml"
LOCAL = ROOT / "docker" / "local" / "prometheus.yml"
CONFIG = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
ALERTS = rules("alert")


def promtool(*arguments: str) -> None:
    if not shutil.which("promtool"):
        pytest.fail("promtool is missing; it comes with Prometheus: apt-get install --no-install-recommends prometheus")
    run = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_prometheus_takes_the_configuration() -> None:
    for path in (FOLDER / "prometheus.yml", LOCAL):  # syntax only: the token's file is there when the suite is
        promtool("check", "config", "--syntax-only", str(path))


def test_what_is_commented_out_in_the_configuration_works_when_it_is_not(tmp_path: Path) -> None:
    blocks = r"^( *)# ((?:external_labels|alerting):\n(?:\1#   .*\n)+)"
    text, count = re.subn(
        blocks,
        lambda block: block[1] + block[2].replace(f"\n{block[1]}# ", f"\n{block[1]}"),
        (FOLDER / "prometheus.yml").read_text(),
        flags=re.MULTILINE,
    )
    assert count == 2
    config = yaml.safe_load(text)
    assert config["global"]["external_labels"]["docs"].endswith("/")
    assert config["alerting"]["alertmanagers"]
    path = tmp_path / "prometheus.yml"
    path.write_text(text)
    promtool("check", "config", "--syntax-only", str(path))


def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", "--lint-fatal", *(str(path) for path in sorted(RULES.glob("*.yml"))))


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", str(CASES))


def test_every_alert_is_shown_to_fire_and_to_stay_quiet() -> None:
    outcomes: dict[str, set[bool]] = defaultdict(set)
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for checked in case["alert_rule_test"]:
            outcomes[checked["alertname"]].add(bool(checked["exp_alerts"]))
    assert outcomes == {str(rule["alert"]): {True, False} for rule in ALERTS}


def test_every_alert_has_its_section_in_the_runbook() -> None:
    runbook = RUNBOOK.read_text()
    sections = re.findall(r"^## (\w+)$", runbook, re.MULTILINE)
    assert len(sections) == len(set(sections))
    assert set(sections) == {rule["alert"] for rule in ALERTS}
    for section in re.split(r"^## ", runbook, flags=re.MULTILINE)[1:]:
        assert all(part in section for part in ("**Means.**", "**Look.**", "**Do.**")), section


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    page = f"docs/how-to/runbook.md#{rule['alert'].lower()}"
    assert rule["annotations"]["runbook_url"] == "{{ $externalLabels.docs }}" + page


def test_rules_and_runbook_ask_only_for_what_is_exported(known: Series) -> None:
    queries = [str(rule["expr"]) for kind in ("alert", "record") for rule in rules(kind)] + runbook_queries()
    assert {expr: wrong for expr in queries if (wrong := faults(expr, known))} == {}


def quotations() -> list[str]:
    """What stands between backticks, fences left out."""
    text = re.sub(r"^```.*?^```$", "", RUNBOOK.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]*)`", text)


def runbook_queries() -> list[str]:
    blocks = [block.text for block in find_blocks(RUNBOOK) if block.language == "promql"]
    lines = [line for block in blocks for line in re.split(r"\n(?! )", block)]
    quoted = quotations()
    return [query.strip() for query in (*lines, *quoted) if re.search(r"[({][\w:]*(alignx|vllm|process)[_:]", query)]


def test_the_runbook_asks_redis_where_it_can_be_reached() -> None:
    commands = [line for line in quotations() if "redis-cli" in line or "redis-check-aof" in line]
    assert len(commands) >= 6
    assert [line for line in commands if not line.startswith("docker compose exec redis ")] == []


def test_every_recording_rule_is_used() -> None:
    queries = [str(rule["expr"]) for rule in ALERTS]
    queries += [
        dashboard.filled(query.expr, "1m")
        for dashboard in DASHBOARDS
        for panel in dashboard.panels()
        for query in panel.queries
    ]
    used = {selector.name for expr in queries for selector in selectors(expr)}
    assert {str(rule["record"]) for rule in rules("record")} <= used


def test_prometheus_scrapes_every_process_where_it_listens() -> None:
    ports = {job["job_name"]: job["dns_sd_configs"][0]["port"] for job in CONFIG["scrape_configs"][:-1]}
    assert ports.pop("engine") == 8100
    assert ports == PORTS
    assert [job["job_name"] for job in CONFIG["scrape_configs"] if "authorization" in job] == ["gateway"]


def test_beside_make_up_the_same_jobs_are_scraped() -> None:
    local = yaml.safe_load(LOCAL.read_text())
    ports = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in local["scrape_configs"]}
    assert list(ports) == [job["job_name"] for job in CONFIG["scrape_configs"]]
    offsets = re.search(r"^OFFSETS = (.*)$", (LOCAL.parent / "environment.py").read_text(), re.MULTILINE)
    assert offsets
    expected = {name: 8080 + offset for name, offset in json.loads(offsets[1]).items() if name != "redis"}
    expected |= {"gateway": 8080, "prometheus": 9090}
    assert ports == {name: f"127.0.0.1:{port}" for name, port in expected.items()}
    assert [LOCAL.parent / name for name in local["rule_files"]] == [LOCAL.parent / "../prometheus/rules/*.yml"]
