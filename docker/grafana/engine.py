"""The language model: vLLM's own figures, and what the services see of it."""

from docker.grafana.panels import Dashboard, Panel, Query, Row, by, quantiles, rate, share

LOAD = Row(
    "Load",
    (
        Panel(
            "Requests in the engine",
            "Those being computed, and those that wait for a place. Waiting for long: more engines are needed.",
            "short",
            (
                Query("sum by (model_name) (vllm:num_requests_running)", "{{model_name}} running"),
                Query("sum by (model_name) (vllm:num_requests_waiting)", "{{model_name}} waiting"),
            ),
        ),
        Panel(
            "Cache of keys and values in use",
            "Above 95 % requests leave the batch and are computed again.",
            "percentunit",
            (Query("max by (instance) (vllm:kv_cache_usage_perc)", by("instance")),),
            most=1,
            steps=((None, "green"), (0.9, "orange"), (0.95, "red")),
        ),
        Panel(
            "Tokens",
            "Tokens a second that are read and written.",
            "cps",
            (Query(rate("vllm:prompt_tokens_total"), "read"), Query(rate("vllm:generation_tokens_total"), "written")),
        ),
        Panel(
            "Prompts found in the cache",
            "Share of the prompt tokens asked for in the prefix cache that were in it.",
            "percentunit",
            (Query(share("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"), "hits"),),
            most=1,
        ),
        Panel(
            "Requests ended",
            "By reason: stop is an end of its own, length the limit of tokens, abort a caller that went away.",
            "reqps",
            (Query(rate("vllm:request_success_total", "finished_reason"), by("finished_reason")),),
        ),
        Panel(
            "Preempted and rejected requests",
            "Requests that left the batch for lack of cache, and requests refused because the queue was full.",
            "ops",
            (
                Query(rate("vllm:num_preemptions_total"), "preempted"),
                Query(rate("vllm:admission_rejections_total"), "refused"),
            ),
        ),
    ),
)

LATENCY = Row(
    "Latency, as vLLM measures it",
    (
        Panel(
            "Time to the first token",
            "From a request's arrival in the engine to its first token.",
            "s",
            quantiles("vllm:time_to_first_token_seconds", 0.5, 0.95),
        ),
        Panel(
            "Time between tokens",
            "The pace at which an answer is written.",
            "s",
            quantiles("vllm:inter_token_latency_seconds", 0.5, 0.95),
        ),
        Panel(
            "Duration of requests",
            "From a request's arrival in the engine to its last token.",
            "s",
            quantiles("vllm:e2e_request_latency_seconds", 0.5, 0.95),
        ),
        Panel(
            "Time in the queue",
            "Part of it spent waiting before anything is computed.",
            "s",
            quantiles("vllm:request_queue_time_seconds", 0.5, 0.95),
        ),
    ),
)

CALLS = Row(
    "Calls, as the services see them",
    (
        Panel(
            "Calls by kind",
            "stream: a summary. chat: an answer. choose: the probability of a choice, one token.",
            "ops",
            (Query(rate("alignx_engine_calls_total", "kind"), by("kind")),),
            stacked=True,
        ),
        Panel(
            "Calls by outcome",
            "unavailable: no answer. rejected: this very input was refused. cancelled: the caller went away.",
            "ops",
            (Query(rate("alignx_engine_calls_total", "job", "outcome"), by("job", "outcome")),),
        ),
        Panel(
            "Duration of calls",
            "95 of 100 calls end within this time, the wait for a free slot of the service included.",
            "s",
            quantiles("alignx_engine_call_duration_seconds", 0.95, labels=("kind",)),
        ),
        Panel(
            "Time to the first token of a call",
            "From the call to the first text.",
            "s",
            quantiles("alignx_engine_time_to_first_token_seconds", 0.95, labels=("kind",)),
        ),
        Panel(
            "Calls in flight",
            "From each job to the engine.",
            "short",
            (Query("sum by (job) (alignx_engine_calls_in_flight)", by("job")),),
        ),
        Panel(
            "Breaker open",
            "1 while a service has stopped asking an engine that does not answer.",
            "bool_yes_no",
            (Query("max by (job) (alignx_engine_breaker_open)", by("job")),),
            most=1,
        ),
    ),
)

MODELS = Row(
    "By model, in OpenTelemetry's names",
    (
        Panel(
            "Tokens by model",
            "Tokens a second of the calls to each model; adapters and axes are models of their own.",
            "cps",
            (
                Query(
                    rate("gen_ai_client_token_usage_sum", "gen_ai_request_model", "gen_ai_token_type"),
                    by("gen_ai_request_model", "gen_ai_token_type"),
                ),
            ),
        ),
        Panel(
            "Duration by model",
            "95 of 100 calls end within this time, without the wait for a free slot of the service.",
            "s",
            quantiles("gen_ai_client_operation_duration_seconds", 0.95, labels=("gen_ai_request_model",)),
        ),
    ),
)

DASHBOARD = Dashboard(
    "engine",
    "Engine",
    "The language model: load and latency as vLLM measures them, calls as the services see them.",
    (LOAD, LATENCY, CALLS, MODELS),
)
