"""From a user's event to the summary that knows it."""

from docker.grafana.panels import Dashboard, Panel, Query, Row, by, quantiles, rate, share

INGEST = Row(
    "Events come in",
    (
        Panel(
            "Events accepted",
            "Interactions stored, by type.",
            "eps",
            (Query(rate("alignx_events_accepted_total", "type"), by("type")),),
            stacked=True,
        ),
        Panel(
            "Duration of calls with events",
            "A POST of events, from the request to its answer; those that wait for a summary (Prefer: wait) included.",
            "s",
            quantiles(
                "alignx_http_request_duration_seconds", 0.5, 0.95, 0.99,
                match='{job="preference",method="POST",route="/v1/users/{user}/events"}',
            ),
        ),
        Panel(
            "From event to profile",
            "From a call's arrival until the fast profile knows its events.",
            "s",
            quantiles("alignx_event_to_profile_seconds", 0.5, 0.95),
        ),
        Panel(
            "Repeated calls",
            "Calls answered from their Idempotency-Key, and appends repeated because another writer came first.",
            "ops",
            (
                Query(rate("alignx_events_replayed_total"), "replayed"),
                Query(rate("alignx_profile_conflicts_total"), "append conflicts"),
            ),
        ),
        Panel(
            "Events refused",
            "Calls refused because too many events of the user, or users of the shard, already wait.",
            "ops",
            (
                Query(
                    rate('alignx_problems_total{job="preference",code=~"backlog_full|queue_full"}', "code"), by("code")
                ),
            ),
        ),
        Panel(
            "Chats learned",
            "Served chats of users who are learned from, by what became of them; kept: events of their users by now.",
            "ops",
            (Query(rate("alignx_chats_learned_total", "outcome"), by("outcome")),),
        ),
        Panel(
            "Streams of summaries",
            "Callers that watch a summary being written.",
            "short",
            (Query("sum(alignx_summary_streams)", "open"),),
        ),
    ),
)  # fmt: skip

QUEUE = Row(
    "Updates wait",
    (
        Panel(
            "Users that wait",
            "Users with new events and no update under way.",
            "short",
            (Query("max(alignx_queue_users_waiting)", "users"),),
        ),
        Panel(
            "Oldest update is late by",
            "How long after its due time the oldest waiting update still waits.",
            "s",
            (Query("max(alignx_queue_oldest_overdue_seconds)", "late by"),),
        ),
        Panel(
            "Updates in flight",
            "Against what the workers allow themselves; that halves when the engine is overloaded or gone.",
            "short",
            (
                Query("sum(alignx_updates_in_flight)", "in flight"),
                Query("sum(alignx_worker_concurrency)", "allowed"),
            ),
        ),
        Panel(
            "Leases expired",
            "Updates taken from workers that fell silent.",
            "ops",
            (Query(rate("alignx_lease_expiries_total"), "expired"),),
        ),
        Panel(
            "Retried updates",
            "By who is at fault: the engine, or the data of the user.",
            "ops",
            (Query(rate("alignx_update_retries_total", "fault"), by("fault")),),
        ),
        Panel(
            "Dead letters",
            "Events from which no summary could be written, and without which the user went on.",
            "eps",
            (Query(rate("alignx_dead_letters_total"), "set aside"),),
        ),
    ),
)

UPDATES = Row(
    "Summaries are written",
    (
        Panel(
            "Updates ended",
            "By outcome: committed is what should be; the others are told in docs/reference/metrics.md.",
            "ops",
            (Query(rate("alignx_updates_total", "outcome"), by("outcome")),),
            stacked=True,
        ),
        Panel(
            "Duration of an update",
            "From the claim of a user to the commit of the new version.",
            "s",
            quantiles("alignx_update_duration_seconds", 0.5, 0.95),
        ),
        Panel(
            "From event to summary",
            "From the oldest event of an update to its commit.",
            "s",
            quantiles("alignx_event_to_summary_seconds", 0.5, 0.95, 0.99),
        ),
        Panel(
            "Events in one update",
            "How many events one call of the engine takes in, on average: what waiting a moment for more saves.",
            "short",
            (Query(share("alignx_update_events_sum", "alignx_update_events_count"), "events"),),
        ),
        Panel(
            "Versions written",
            "By who wrote them.",
            "ops",
            (Query(rate("alignx_summary_versions_total", "source"), by("source")),),
            stacked=True,
        ),
        Panel(
            "Rebuilds, rollbacks, erasures",
            "Rebuilds from the whole history, steps back to an older version, users erased.",
            "ops",
            (
                Query(rate("alignx_rebuilds_total"), "rebuilds"),
                Query(rate("alignx_rollbacks_total"), "rollbacks"),
                Query(rate("alignx_erasures_total"), "erasures"),
            ),
        ),
    ),
)

ITEMS = Row(
    "Items are counted",
    (
        Panel(
            "Counting is behind by",
            "Age of the oldest event whose items are not counted yet: so much do selections know late of other users.",
            "s",
            (Query("max(alignx_items_lag_seconds)", "behind by"),),
        ),
        Panel(
            "Users that are not counted yet",
            "Users with events whose items are not counted yet.",
            "short",
            (Query("max(alignx_items_unread_users)", "users"),),
        ),
        Panel(
            "Events counted",
            "Events whose items are counted, for the selections of others.",
            "eps",
            (Query(rate("alignx_items_events_total"), "counted"),),
        ),
    ),
)

DASHBOARD = Dashboard(
    "preference",
    "Preference pipeline",
    "From a user's event to the summary that knows it: what comes in, what waits, what is written.",
    (INGEST, QUEUE, UPDATES, ITEMS),
)
