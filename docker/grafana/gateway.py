"""The public door: who calls, how fast it answers, whom it refuses."""

from docker.grafana.overview import ENDLESS
from docker.grafana.panels import Dashboard, Panel, Query, Row, by, quantiles, rate

API = 'job="gateway",route=~"/v1/.*"'

TRAFFIC = Row(
    "Calls",
    (
        Panel(
            "Calls by route",
            "API calls a second.",
            "reqps",
            (Query(rate(f"alignx_http_requests_total{{{API}}}", "method", "route"), by("method", "route")),),
            width=12,
            stacked=True,
        ),
        Panel(
            "Answers by status",
            "499: the caller went away first.",
            "reqps",
            (Query(rate(f"alignx_http_requests_total{{{API}}}", "status"), by("status")),),
            width=12,
            stacked=True,
        ),
        Panel(
            "Latency by route",
            "95 of 100 calls are answered to the last byte within this time.",
            "s",
            quantiles(
                "alignx_http_request_duration_seconds", 0.95, match=f"{{{API},{ENDLESS}}}", labels=("route",)
            ),
            width=12,
        ),
        Panel(
            "Requests in flight",
            "Requests being answered, streams and the scrape itself among them.",
            "short",
            (Query("sum by (job) (alignx_http_requests_in_flight)", by("job")),),
            width=12,
        ),
    ),
)  # fmt: skip

OWN = Row(
    "What the gateway adds",
    (
        Panel(
            "Overhead",
            "From a request's arrival to the call of its service: key, limits, routing.",
            "s",
            quantiles("alignx_gateway_overhead_seconds", 0.5, 0.99),
        ),
        Panel(
            "Response time of services",
            "From the call of a service to the first byte of its answer.",
            "s",
            quantiles("alignx_gateway_upstream_seconds", 0.5, 0.95, labels=("service",)),
        ),
        Panel(
            "Services that failed",
            "Calls that a service did not answer (answer), or not to the end (body).",
            "ops",
            (Query(rate("alignx_gateway_upstream_failures_total", "service", "stage"), by("service", "stage")),),
        ),
        Panel(
            "Processors in use",
            "Cores that the gateway's processes keep busy; one process uses one at most.",
            "short",
            (Query(rate('process_cpu_seconds_total{job="gateway"}', "instance"), by("instance")),),
        ),
        Panel(
            "Memory",
            "Memory that each gateway process holds.",
            "bytes",
            (Query('process_resident_memory_bytes{job="gateway"}', by("instance")),),
        ),
        Panel(
            "Open files",
            "Connections and files, as a share of what the process may open.",
            "percentunit",
            (Query('process_open_fds{job="gateway"} / process_max_fds{job="gateway"}', by("instance")),),
            most=1,
        ),
    ),
)

REFUSED = Row(
    "Calls refused",
    (
        Panel(
            "Rejected API keys",
            "By reason. Many wrong secrets: someone guesses. Many revoked: a client kept an old key.",
            "reqps",
            (Query(rate("alignx_gateway_auth_failures_total", "reason"), by("reason")),),
        ),
        Panel(
            "Rate-limited calls",
            "Calls refused with 429 because a key sent more than it may.",
            "reqps",
            (Query(rate("alignx_gateway_rate_limited_total"), "refused"),),
        ),
        Panel(
            "Errors by kind",
            "Errors that the services answered, by code (docs/reference/errors.md); codes without any are left out.",
            "ops",
            (Query(rate("alignx_problems_total", "job", "code") + " > 0", by("job", "code")),),
        ),
    ),
)

DASHBOARD = Dashboard(
    "gateway", "Gateway", "Who calls, how fast calls are answered, whom it refuses.", (TRAFFIC, OWN, REFUSED)
)
