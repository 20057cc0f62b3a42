"""The first page: is it healthy, is it good, what does it cost?"""

from docker.grafana.panels import Dashboard, Panel, Query, Row, Variable, by, quantiles, rate

ENDLESS = 'route!="/v1/users/{user}/preferences/stream"'
"""A stream of summaries lasts as long as someone looks: no figure of latency."""

READ, CACHED, WRITTEN = (
    rate(f'alignx_engine_tokens_total{{token="{token}"}}') for token in ("prompt", "cached", "completion")
)

HEALTHY = Row(
    "Is it healthy?",
    (
        Panel(
            "Processes that answer",
            "Replicas of each job that Prometheus reaches. Fewer than were started: TargetDown in the runbook.",
            "short",
            (Query("sum by (job) (up)", by("job")),),
            kind="stat",
            width=12,
            steps=((None, "red"), (1, "green")),
        ),
        Panel(
            "Alerts firing",
            "Each has a section in docs/how-to/runbook.md.",
            "short",
            (Query('count(ALERTS{alertstate="firing"}) or vector(0)', "firing"),),
            kind="stat",
            width=4,
            steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Breaker open",
            "Whether a service has stopped asking the engine, because it does not answer.",
            "bool_yes_no",
            (Query("max by (job) (alignx_engine_breaker_open)", by("job")),),
            kind="stat",
            width=4,
            steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Oldest update is late by",
            "How long after its due time the oldest waiting update still waits. Near 0: there are enough workers.",
            "s",
            (Query("max(alignx_queue_oldest_overdue_seconds)", "late by"),),
            kind="stat",
            width=4,
            steps=((None, "green"), (10, "orange"), (30, "red")),
        ),
        Panel(
            "Requests",
            "Requests a second that each process answers, probes and scrapes included.",
            "reqps",
            (Query(rate("alignx_http_requests_total", "job"), by("job")),),
        ),
        Panel(
            "API calls that failed",
            "Share of the API calls that the gateway answered with a 5xx other than 501. Objective: less than 0.1 %.",
            "percentunit",
            (Query("gateway:request_errors:ratio_rate5m", "5xx"),),
        ),
        Panel(
            "Latency of API calls",
            "From the request to the last byte of its answer, at the gateway; streams of summaries left out.",
            "s",
            quantiles(
                "alignx_http_request_duration_seconds", 0.5, 0.95, 0.99,
                match=f'{{job="gateway",route=~"/v1/.*",{ENDLESS}}}',
            ),
        ),
    ),
)  # fmt: skip

GOOD = Row(
    "Is it good?",
    (
        Panel(
            "Choices that summaries predicted",
            "Share of new choices that the summary written before them predicted, over an hour. A coin has 50 %.",
            "percentunit",
            (Query("scorer:prequential_accuracy:ratio_increase1h", by("scorer")),),
            most=1,
        ),
        Panel(
            "From event to summary",
            "From a user's oldest waiting event to the summary that knows it.",
            "s",
            quantiles("alignx_event_to_summary_seconds", 0.5, 0.95),
        ),
        Panel(
            "Time to the first token of a chat",
            "From the call of the engine to the first text of a chat. The objective is 2.5 s for 95 % of them.",
            "s",
            quantiles("alignx_engine_time_to_first_token_seconds", 0.5, 0.95, match='{job="response",kind="chat"}'),
        ),
    ),
)

COST = Row(
    "What does it cost?",
    (
        Panel(
            "Tokens",
            "Tokens a second that the engine reads (cached: those it had read before) and writes.",
            "cps",
            (Query(rate("alignx_engine_tokens_total", "token"), by("token")),),
        ),
        Panel(
            "Tokens of tenants",
            "Tokens a second, read and written, by tenant; those not named in ALIGNX_METRICS__TENANTS are other.",
            "cps",
            (Query(rate('alignx_tenant_tokens_total{token!="cached"}', "tenant"), by("tenant")),),
            stacked=True,
        ),
        Panel(
            "Dollars an hour",
            "At the prices typed in above: tokens read, those from the cache for nothing, and tokens written.",
            "currencyUSD",
            (
                Query(
                    f"3600 / 1e6 * ($price_read * ({READ} - {CACHED}) + $price_written * {WRITTEN})",
                    "an hour",
                ),
            ),
        ),
        Panel(
            "Tokens read from the cache",
            "Share of prompt tokens that the engine need not read again.",
            "percentunit",
            (Query(f"{CACHED} / {READ}", "cached"),),
            most=1,
        ),
        Panel(
            "Processors in use",
            "Cores that each job keeps busy.",
            "short",
            (Query(rate("process_cpu_seconds_total", "job"), by("job")),),
            stacked=True,
        ),
        Panel(
            "Memory",
            "Memory that the processes of each job hold.",
            "bytes",
            (Query("sum by (job) (process_resident_memory_bytes)", by("job")),),
            stacked=True,
        ),
        Panel(
            "Versions that run",
            "Processes of each service and version. Two versions of one service: an upgrade is under way.",
            "short",
            (Query("count by (service, version) (alignx_build_info)", by("service", "version")),),
            kind="stat",
            width=24,
        ),
    ),
)

DASHBOARD = Dashboard(
    "overview",
    "Overview",
    "Is it healthy, is it good, what does it cost?",
    (HEALTHY, GOOD, COST),
    (
        Variable("price_read", "$ for 1 M tokens read", "0.10"),
        Variable("price_written", "$ for 1 M tokens written", "0.40"),
    ),
)
