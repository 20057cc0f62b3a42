"""Metrics of an HTTP process: its requests, its resources, its version. No label holds a user's id."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from alignx import __version__
from services.errors import error_tree
from services.settings import LATENCY_BUCKETS_S


def create_registry(service: str) -> CollectorRegistry:
    """A registry with the process's own figures (memory, CPU, open files) and what it is."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    about = ("service", "version")
    build = Gauge(
        "alignx_build_info", "Always 1; the labels say which service runs in which version", about, registry=registry
    )
    build.labels(service, __version__).set(1)
    return registry


class HttpMetrics:
    """Requests of one process, by method, route template and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "route")
        self.requests = Counter("alignx_http_requests", "Requests answered", (*labels, "status"), registry=registry)
        self.seconds = Histogram(
            "alignx_http_request_duration_seconds",
            "Seconds from the request to the last byte of its answer",
            labels,
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.in_flight = Gauge("alignx_http_requests_in_flight", "Requests being answered now", registry=registry)
        self.problems = Counter("alignx_problems", "Errors answered, by problem code", ("code",), registry=registry)
        for error in error_tree():
            self.problems.labels(error.code)  # from 0 on: a rate does not see the step from nothing to 1
