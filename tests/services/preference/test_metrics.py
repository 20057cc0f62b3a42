from prometheus_client import CollectorRegistry

from services.core.errors import BacklogFull, QueueFull
from services.core.telemetry import HttpMetrics
from services.preference.metrics import WorkerMetrics


def test_what_alerts_look_at_counts_from_0_on() -> None:
    """The first refused event, the first cut by the guard: no rate shows it unless a 0 was seen before."""
    registry = CollectorRegistry()
    HttpMetrics(registry)
    WorkerMetrics(registry)
    for name, label, values in (
        ("alignx_problems_total", "code", (BacklogFull.code, QueueFull.code)),
        ("alignx_summary_guard_removals_total", "rule", ("control", "url", "command", "length")),
        ("alignx_updates_total", "outcome", ("committed", "lost")),
        ("alignx_update_retries_total", "fault", ("engine", "data")),
    ):
        assert [registry.get_sample_value(name, {label: value}) for value in values] == [0.0] * len(values)
