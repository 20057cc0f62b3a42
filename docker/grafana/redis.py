"""Where everything is kept. The workers read these figures from Redis and export them."""

from docker.grafana.panels import Dashboard, Panel, Query, Row

STATE = Row(
    "State",
    (
        Panel(
            "Answers",
            "Whether every worker reaches Redis.",
            "bool_yes_no",
            (Query("min by (node) (alignx_redis_up)", "{{node}} up"),),
            kind="stat",
            width=6,
            steps=((None, "red"), (1, "green")),
        ),
        Panel(
            "Append-only file is written",
            "Whether the latest write was kept on disk. If not, nothing new would survive a restart.",
            "bool_yes_no",
            (Query("min by (node) (alignx_redis_aof_last_write_ok)", "{{node}} written"),),
            kind="stat",
            width=6,
            steps=((None, "red"), (1, "green")),
        ),
        Panel(
            "Append-only file is rewritten",
            "Redis makes the file shorter, after erasures too; it costs memory meanwhile.",
            "bool_yes_no",
            (Query("max by (node) (alignx_redis_aof_rewrite_in_progress)", "{{node}} rewriting"),),
            kind="stat",
            width=6,
        ),
        Panel(
            "Replicas connected",
            "0 where Redis runs alone.",
            "short",
            (Query("max by (node) (alignx_redis_connected_replicas)", "{{node}} replicas"),),
            kind="stat",
            width=6,
        ),
    ),
)

LOAD = Row(
    "Load",
    (
        Panel(
            "Memory",
            "Memory used, and the limit, which is 0 where none is set. At the limit Redis refuses writes.",
            "bytes",
            (
                Query("max by (node) (alignx_redis_memory_bytes)", "{{node}} used"),
                Query("max by (node) (alignx_redis_memory_limit_bytes)", "{{node}} limit"),
            ),
        ),
        Panel(
            "Keys",
            "Keys kept: a few for each user.",
            "short",
            (Query("max by (node) (alignx_redis_keys)", "{{node}} keys"),),
        ),
        Panel(
            "Commands",
            "Commands a second, as Redis counts them.",
            "ops",
            (Query("max by (node) (rate(alignx_redis_commands_total[$__rate_interval]))", "{{node}} commands"),),
        ),
        Panel(
            "Connections",
            "Clients connected, those of the suite among them.",
            "short",
            (Query("max by (node) (alignx_redis_clients)", "{{node}} clients"),),
        ),
        Panel(
            "Keys evicted",
            "Keys evicted to save memory since Redis started. Always 0 under the policy noeviction, as it must be.",
            "short",
            (Query("max by (node) (alignx_redis_evicted_keys)", "{{node}} evicted"),),
        ),
    ),
)

DASHBOARD = Dashboard("redis", "Redis", "Where everything is kept: is it durable, is there room?", (STATE, LOAD))
