"""What each process exports to Prometheus, asked of the processes themselves: for the page and for lints.

`exported()` builds every process as its command does, without starting it, and reads its registry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gateway.__main__ import build_app
from services.preference.__main__ import create_preference_app
from services.preference.worker import create_worker_app
from services.response.__main__ import create_response_app
from services.server.metrics import create_registry
from services.server.state import Process, state_of
from services.settings import Settings

PAGE = """\
# Metrics

Written by `python -m docs.write_reference` from the registries of the processes.

Every process answers `GET /metrics` in Prometheus's text format. The services listen on the inner
network and answer anyone; the gateway asks for `Authorization: Bearer <token>` with the token of
`ALIGNX_GATEWAY__METRICS_TOKEN`, or for an admin key. No label names a user; `tenant` takes the names
listed in `ALIGNX_METRICS__TENANTS` and `other`; `node` is empty where Redis is a single server.

A histogram has the series `<name>_bucket` (with `le`), `<name>_sum` and `<name>_count`.
"""

_UNITS = {
    "seconds": "seconds",
    "bytes": "bytes",
    "chars": "characters",
    "tokens": "tokens",
    "events": "events",
    "info": "always 1",
    "open": "0 or 1",
    "up": "0 or 1",
    "ok": "0 or 1",
    "progress": "0 or 1",
    "probability": "probability",
}
"""By the last word of a name."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a process."""

    name: str
    """As PromQL knows it: a counter ends in `_total`, a histogram's series have suffixes."""
    kind: str
    labels: tuple[str, ...]
    about: str

    @property
    def unit(self) -> str:
        return _UNITS.get(self.name.removesuffix("_total").rpartition("_")[2], "number")

    @property
    def series(self) -> Mapping[str, tuple[str, ...]]:
        """The names that a query may use, each with its labels."""
        if self.kind != "histogram":
            return {self.name: self.labels}
        return {
            f"{self.name}_bucket": (*self.labels, "le"),
            f"{self.name}_sum": self.labels,
            f"{self.name}_count": self.labels,
        }


def exported() -> dict[str, dict[str, Metric]]:
    """The metrics of each process by name; the processes are named as Prometheus's jobs."""
    return {job: _metrics(state_of(app, Process).registry) for job, app in _processes().items()}


def _processes() -> dict[str, FastAPI]:
    settings = Settings(internal_token="the-processes-are-not-started")  # noqa: S106
    services: dict[str, Callable[[Settings], FastAPI]] = {
        "preference": create_preference_app,
        "worker": create_worker_app,
        "response": create_response_app,
    }
    gateway = build_app(settings, create_registry("gateway"))
    return {"gateway": gateway} | {job: create(settings) for job, create in services.items()}


def _metrics(registry: CollectorRegistry) -> dict[str, Metric]:
    metrics = {}
    for collector, names in registry._collector_to_names.items():  # a metric without series collects nothing
        labels = {name: tuple(getattr(collector, "_labelnames", ())) for name in names}
        for family in collector.collect():
            name = family.name + ("_total" if family.type == "counter" else "")
            sampled = {label for sample in family.samples for label in sample.labels} - {"le"}
            metric = Metric(
                name, family.type, labels.get(family.name, ()) or tuple(sorted(sampled)), family.documentation
            )
            metrics[name] = metric
    return metrics


def page() -> str:
    jobs = exported()
    by_name = {name: metric for metrics in jobs.values() for name, metric in metrics.items()}
    exporters = {name: tuple(job for job, metrics in jobs.items() if name in metrics) for name in by_name}
    parts = [PAGE]
    for group in sorted(dict.fromkeys(exporters.values()), key=len, reverse=True):
        title = "Every process" if len(group) == len(jobs) else " and ".join(group).capitalize()
        rows = [_row(by_name[name]) for name in sorted(by_name) if exporters[name] == group]
        head = ["| metric | type | labels | unit | meaning |", "|---|---|---|---|---|"]
        parts.append(f"## {title}\n\n" + "\n".join([*head, *rows]) + "\n")
    return "\n".join(parts)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    about = " ".join(metric.about.split())
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {about} |"
