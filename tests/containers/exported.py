"""Every series that Prometheus can know here, with its labels: what dashboards and alerts may ask for.

Ours come from the code. Those of vLLM are a list (vllm_series.json) that a live test compares with a
real engine; Prometheus adds its own.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

import gateway.__main__
import services.preference.__main__
import services.preference.worker
import services.response.__main__
from docs.exported_metrics import exported
from services.settings import Settings
from tests.containers.promql import grouping, selectors

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docker" / "prometheus" / "rules"
VLLM_SERIES = Path(__file__).with_name("vllm_series.json")
PORTS = {
    "gateway": gateway.__main__.PORT,
    "preference": services.preference.__main__.PORT,
    "response": services.response.__main__.PORT,
    "worker": services.preference.worker.PORT,
}
"""Where each process listens."""
SCRAPED = {"job", "instance"}
"""Labels that Prometheus puts to every series."""

Series = Mapping[str, Mapping[str, set[str]]]
"""Name → job that exports it → its labels."""


def rules(kind: str) -> list[dict[str, object]]:
    """Every rule that is an `alert`, or a `record`."""
    groups = [group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def known_variables() -> set[str]:
    """Of the environment, that a process reads."""
    blocks = {name: getattr(field.annotation, "model_fields", {}) for name, field in Settings.model_fields.items()}
    names = {f"ALIGNX_{block}__{field}".upper() for block, fields in blocks.items() for field in fields}
    return names | {f"ALIGNX_{name}".upper() for name, fields in blocks.items() if not fields} | {"ALIGNX_SECRETS_DIR"}


def known_series() -> Series:
    known: dict[str, dict[str, set[str]]] = {"up": {"": set()}, "ALERTS": {"": {"alertname", "alertstate", "severity"}}}
    for job, metrics in exported().items():
        for metric in metrics.values():
            for name, labels in metric.series.items():
                known.setdefault(name, {})[job] = set(labels)
    for name, labels in json.loads(VLLM_SERIES.read_text()).items():
        known[name] = {"engine": set(labels)}
    for rule in rules("record"):
        known[str(rule["record"])] = {"": grouping(str(rule["expr"])) - {"le"}}
    return known


def faults(expr: str, known: Series) -> list[str]:
    """What the query asks for that nothing exports."""
    messages = []
    labels = set(SCRAPED)
    for selector in selectors(expr):
        by_job = known.get(selector.name or "")
        if by_job is None:
            messages.append(f"no component exports {selector.name}")
            continue
        jobs = {matcher.value for matcher in selector.matchers.matchers if matcher.name == "job"}
        if jobs and "" not in by_job and not jobs & by_job.keys():
            messages.append(f"{', '.join(sorted(jobs))} does not export {selector.name}")
        own = set().union(*by_job.values()) | SCRAPED
        names = {matcher.name for matcher in selector.matchers.matchers}
        messages += [f"{selector.name} has no label {label}" for label in sorted(names - own)]
        labels |= own
    return messages + [f"no label {label} to group by" for label in sorted(grouping(expr) - labels)]
