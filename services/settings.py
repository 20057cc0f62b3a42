"""All configuration, read from the environment and checked once at start.

One block per resource; a field is set by `ALIGNX_<BLOCK>__<FIELD>`, such as
`ALIGNX_REDIS__URL=redis://127.0.0.1:6390/0`. A value can also come from a file named like the
variable in `ALIGNX_SECRETS_DIR`, which is how containers pass secrets.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from alignx.schemas.items import EVENT_BYTES
from alignx.schemas.tenants import Retention, TrialSettings, UpdateCadence

PROFILE_ENGINE = "profile"
PROMPTS = ("own", "alignxplore", "alignxplore-plus")
"""The prompt profiles that the suite brings; services/prompts/profiles.py loads them."""
LATENCY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Upper bounds of the buckets of every duration that is measured."""


class Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ServerSettings(Block):
    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` inside a container."""
    port: int | None = Field(default=None, ge=0, le=65_535)
    """Default: gateway 8080, preference 8101, response 8102."""
    drain_s: float = Field(default=0.0, ge=0)
    """Seconds after SIGTERM for which /readyz answers 503 while requests are still taken, so that a
    load balancer can look elsewhere."""
    shutdown_s: int = Field(default=30, ge=1)
    """Seconds that open answers then have to end."""
    keep_alive_s: int = Field(default=75, ge=1)
    """Seconds for which an idle connection is kept open."""
    connections_per_address: int = Field(default=4_096, ge=1)
    """Connections that one address may hold to a process at once; raise it behind a load balancer, which is one."""


class RedisSettings(Block):
    url: str = "redis://127.0.0.1:6390/0"
    """Where Redis listens; `rediss://` for TLS, `unix://` for a socket. For a cluster some of its
    nodes, such as `redis://a:6379,b:6379,c:6379`: one that answers is enough to find the others."""
    cluster: bool = False
    """Whether `url` names nodes of a Redis Cluster."""
    max_connections: int = Field(default=1_024, ge=4)
    """Connections of one process at most; calls beyond it answer 503. In a cluster: to each node."""
    timeout_s: float = Field(default=5.0, gt=0)
    """Seconds until a command counts as failed."""
    rewrite_after_erase_s: float = Field(default=60.0, ge=0)
    """This long after an erasure Redis is asked to rewrite its append-only file, which holds the
    erased text until then; 0 leaves it to Redis."""

    @property
    def node_urls(self) -> tuple[str, ...]:
        """`url` for each of the hosts it names."""
        scheme, _, rest = self.url.partition("://")
        authority, slash, database = rest.partition("/")
        login, at, hosts = authority.rpartition("@")
        return tuple(f"{scheme}://{login}{at}{host.strip()}{slash}{database}" for host in hosts.split(","))

    @model_validator(mode="after")
    def _check_hosts(self) -> Self:
        if not self.cluster and len(self.node_urls) > 1:
            raise ValueError("url names several hosts, which only a cluster has: set ALIGNX_REDIS__CLUSTER=true")
        if self.cluster and not re.fullmatch(r"rediss?://[^/]+(?:/0?)?(?:\?.*)?", self.url):
            raise ValueError("a cluster's url must be redis:// or rediss:// and name no database but 0")
        return self


class EngineSettings(Block):
    url: str = PROFILE_ENGINE
    """An OpenAI-compatible base URL such as `http://127.0.0.1:8100/v1`, or `profile`: no language
    model; summaries, selection and ranking come from the fast profile."""
    model: str | None = None
    """Model name to ask for; default: the first one the engine lists."""
    api_key: SecretStr | None = None
    """Sent as a bearer token."""
    concurrency: int = Field(default=64, ge=1)
    """Requests under way at once from one process; more wait."""
    connect_timeout_s: float = Field(default=2.0, gt=0)
    read_timeout_s: float = Field(default=120.0, gt=0)
    """Longest silence of the engine within one answer."""
    first_token_timeout_s: float = Field(default=15.0, gt=0)
    """Longest wait for the first token of a chat; for one that is not streamed, for a sign of life: an answer of the
    engine's to anyone, or to a test request. Raise it where prompts are long and the engine is slow."""
    answer_timeout_s: float = Field(default=600.0, gt=0)
    """Longest wait for an answer that is not streamed."""
    breaker_failures: int = Field(default=5, ge=1)
    """Failures in a row after which calls, and a worker's updates, are held back."""
    breaker_cooldown_s: float = Field(default=5.0, gt=0)
    """Seconds until the engine is asked again while they are held back."""
    choose: Literal["auto", "letters", "likelihood"] = "auto"
    """How the engine chooses between items: by the odds of letters, or by the likelihood of the items, for which it
    must report `prompt_logprobs` as vLLM does. `auto` measures both on shipped pairs and takes likelihood where it
    foresees more of them than letters do, and more than a coin by its 95 % interval."""
    cache_salt_secret: SecretStr | None = None
    """If set, each tenant gets its own prefix cache: salt = HMAC(secret, tenant)."""
    session_secret: SecretStr | None = None
    """If set, requests for a user carry `X-Session-ID`, a hash of tenant and user keyed by it, by which a router can
    keep them on one engine."""
    context_tokens: int | None = Field(default=None, ge=256)
    """Tokens that prompt and answer share; both are cut to fit. Default: what the engine says (`max_model_len` in
    its list of models), else 8192. Where both are known the smaller counts."""
    tokens_per_day: int | None = Field(default=None, ge=1, le=10**15)
    """Tokens of prompts and answers that each tenant may spend in a day of UTC, unless its own settings say otherwise;
    default: no limit."""
    tokens_per_month: int | None = Field(default=None, ge=1, le=10**15)
    """The same in a month of UTC."""

    @property
    def enabled(self) -> bool:
        return self.url != PROFILE_ENGINE

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        if self.enabled and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url must be '{PROFILE_ENGINE}' or start with http:// or https://, not {self.url!r}")
        return self


class QueueSettings(Block):
    shards: int = Field(default=8, ge=1, le=4096)
    """Shards of the key space. Fixed when a deployment first starts; checked at every start."""
    debounce_ms: int = Field(default=200, ge=0)
    """An update that is due starts this long after the user's latest event, so that a burst becomes one update."""
    max_wait_ms: int = Field(default=2_000, ge=0)
    """…but at the latest this long after it became due."""
    user_backlog: int = Field(default=1_000, ge=1)
    """Events of one user that may wait; more answer 429, a call with more than that 413."""
    shard_backlog: int = Field(default=100_000, ge=1)
    """Users of one shard whose update may be due; events of further users answer 503."""
    lease_ms: int = Field(default=15_000, ge=100)
    """A worker that is silent this long loses the user to another."""
    heartbeat_ms: int = Field(default=5_000, ge=20)
    """A worker extends its lease this often."""
    poll_ms: int = Field(default=50, ge=1)
    """An idle worker looks for work this often."""
    data_retries: int = Field(default=2, ge=1)
    """Failures blamed on the data before a batch is halved, and at one event set aside."""
    event_failures: int = Field(default=5, ge=1)
    """Times that the engine must refuse one event alone, or write no summary of it, and then take a prompt of our own,
    before the event is set aside (refused) or passed over (no summary)."""
    backoff_ms: int = Field(default=500, ge=1)
    """First delay after an engine fault; doubled up to `backoff_max_ms`."""
    backoff_max_ms: int = Field(default=60_000, ge=1)
    tenant_in_flight: int = Field(default=16, ge=1)
    """Updates of one tenant under way at once in a shard."""
    idempotency_s: int = Field(default=86_400, ge=1)
    """Seconds for which an Idempotency-Key is remembered."""

    @model_validator(mode="after")
    def _check_heartbeat(self) -> Self:
        if self.heartbeat_ms * 2 > self.lease_ms:
            raise ValueError(f"heartbeat_ms ({self.heartbeat_ms}) must be at most half of lease_ms ({self.lease_ms})")
        return self


def _check_prompts(name: str) -> str:
    if name not in PROMPTS and not Path(name).is_file():
        raise ValueError(f"must be {', '.join(PROMPTS)}, or name a file; there is no file {name!r}")
    return name


class SummarySettings(UpdateCadence, TrialSettings, Block):
    prompts: str = "own"
    """What the worker's model reads: `own`, for any instruction model; `alignxplore-plus`, for the released
    AlignXplore+ checkpoint; `alignxplore`, for those of AlignXplore, by raw completion; or a profile file by
    `python -m services.prompts.official`, with its public sentences."""
    workers: int = Field(default=16, ge=1)
    """Updates under way at once in one worker process."""
    batch_events: int = Field(default=256, ge=1)
    """Events of one update."""
    batch_tokens: int = Field(default=4_096, ge=64)
    """Estimated prompt tokens of the new events of one update."""
    past_tokens: int = Field(default=1_024, ge=16)
    """Estimated tokens of the past summary shown to an update."""
    max_tokens: int | None = Field(default=None, ge=16)
    """Tokens an update may write, reasoning included; default: that of the prompts, 1024 for `own` and 4096 for
    the others."""
    max_chars: int = Field(default=8_000, ge=100)
    """Longest summary text kept."""
    grounded: bool = False
    """Refuse a summary whose topics no event names, or that claims a style where the events hold no texts. For small
    models in English, which invent; a large one rightly writes "sports" of football and tennis. After replies that are
    refused, by whatever check, the profile writes the version."""
    temperature: float = Field(default=0.6, ge=0, le=2)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int = Field(default=20, ge=-1)
    keep_versions: int = Field(default=50, ge=2)
    """Newest versions kept for a user. Of older ones those stay that a profile made anew needs: the user's own text
    that holds, and what shows which events the newest rollbacks took back, about thirty at most."""
    keep_events: int = Field(default=10_000, ge=1)
    """Applied events kept for a user, for listing, export and rebuild; of older ones a profile is kept."""
    prequential_sample: int = Field(default=2, ge=0)
    """Comparisons of a batch on which the engine first tests the current summary; 0 turns it off."""
    keep_reasoning: bool = True
    """Whether the text before the summary is kept with the version."""

    _valid_prompts = field_validator("prompts")(_check_prompts)


class RetentionSettings(Retention, Block):
    sweep_s: int = Field(default=86_400, ge=60)
    """Seconds between two looks at a user for events that are too old; each look costs the user one call of the engine
    at most. So an event can stay this much longer than `event_ttl` says."""


class LimitSettings(Block):
    event_bytes: int = Field(default=EVENT_BYTES, ge=256)
    """Largest event, as JSON."""
    events_per_call: int = Field(default=1_000, ge=1)
    """Most events of one POST."""
    body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Largest request body."""
    wait_s: float = Field(default=30.0, ge=0)
    """Longest wait that `Prefer: wait` is granted."""
    streams: int = Field(default=10_000, ge=1)
    """Open summary streams of one preference process; each is an open file of it, and two of the gateway's."""


class ResponseSettings(Block):
    selection_prompts: str = "own"
    """What the model of the response service reads when it judges items; values as of ALIGNX_SUMMARY__PROMPTS."""
    max_tokens: int = Field(default=1_024, ge=1)
    """Tokens of an answer when the request names no limit."""
    keep_alive_after_s: float = Field(default=1.0, gt=0)
    """A streamed chat whose first token takes longer sends its headers and a comment; an engine that fails earlier
    still becomes a status."""
    keep_alive_s: float = Field(default=5.0, gt=0)
    """Seconds between the comments that keep the connection open until the answer begins."""
    pass_fields: tuple[str, ...] = Field(default=(), max_length=100)
    """Further fields of a chat request that pass to the engine, as a JSON list: those of an engine of your own."""
    user_headers: tuple[str, ...] = Field(default=("X-OpenWebUI-User-Id",), max_length=10)
    """Headers beside `X-User-Id` that name a chat's user, as a JSON list; the gateway needs the setting too. Whoever
    holds an API key chooses the user by them, as by the body; a user token keeps to its own."""
    select_timeout_s: float = Field(default=1.5, gt=0)
    """Longest wait for the engine at a selection or recommendation that names no `method`; then the profile answers."""
    select_engine_timeout_s: float = Field(default=30.0, gt=0)
    """The same where `method` is `engine` or `fused`; then the answer is 503."""
    rotations: int = Field(default=4, ge=1, le=26)
    """Orders in which the items of a selection are shown to the engine; two items are always
    shown in both orders."""
    rerank: int = Field(default=26, ge=2, le=26)
    """Candidates of a recommendation that the engine reads, best of the profile first."""

    @field_validator("user_headers")
    @classmethod
    def _check_headers(cls, headers: tuple[str, ...]) -> tuple[str, ...]:
        for name in headers:
            if not re.fullmatch(r"(?!x-alignx-|x-api-key$|authorization$|cookie$)[a-z0-9-]+", name, re.IGNORECASE):
                raise ValueError(f"{name!r} is no name of a header that could name a user")
        return headers

    _valid_prompts = field_validator("selection_prompts")(_check_prompts)


class AxesSettings(Block):
    folder: Path | None = None
    """Folder of the axis adapters that the engine has loaded, as `make up AXES=folder` sets it: chats then take `axes`
    (docs/how-to/axes.md). The response service reads it at its start. Default: none are served."""
    harmless_floor: float = Field(default=0.0, ge=0, le=1)
    """Least weight of harmlessness: lower ones are raised to it, and no adapter with less of it answers."""


class GatewaySettings(Block):
    preference_url: str = "http://127.0.0.1:8101"
    """Where the preference service listens; several replicas are separated by commas."""
    response_url: str = "http://127.0.0.1:8102"
    """The same for the response service."""
    replica_check_s: float = Field(default=0.5, gt=0)
    """Each replica of a service is asked this often whether it runs, and one of several for its readiness. The
    services' `drain_s` must be longer, so that a replica that shuts down is left in time."""
    hung_after_s: float = Field(default=1.2, gt=0)
    """A replica that takes connections and answers nothing for so long hangs: calls that wait for it end as 503."""
    bootstrap_key: SecretStr | None = None
    """An admin key `ax_<id>_<secret>` that is registered at start, so that a new deployment can be
    administered; once it is rotated, it keeps the secrets it was given."""
    rate: float = Field(default=200.0, gt=0)
    """Requests per second of a key that has no rate of its own."""
    burst: int = Field(default=400, ge=1)
    user_rate: float = Field(default=10.0, gt=0)
    """Requests per second of one user's tokens; they count for the key that minted them as well."""
    user_burst: int = Field(default=40, ge=1)
    tenant_requests: int = Field(default=128, ge=2)
    """Requests of one tenant under way at once in one process; one of its keys may have half as many. Chats, bulk
    and streams are counted for themselves; so they are below."""
    tenant_bulk: int = Field(default=8, ge=2)
    """Requests with a body above 64 KiB."""
    tenant_waiting: int = Field(default=512, ge=2)
    """Chats, and requests with `Prefer: wait`."""
    tenant_streams: int = Field(default=100, ge=2)
    """Open summary streams; a preference process serves `ALIGNX_LIMITS__STREAMS` of all tenants."""
    service_requests: int = Field(default=256, ge=1)
    """Requests of all tenants under way at once to one service, chats and others that wait aside. Beyond it, those of a
    tenant with more than an equal part of them answer 503."""
    audit_entries: int = Field(default=10_000, ge=100)
    """Entries of a tenant's audit log; older ones are dropped."""
    audit_days: int = Field(default=365, ge=1, le=3_650)
    """Days for which an entry of the audit log is kept."""
    connect_timeout_s: float = Field(default=2.0, gt=0)
    read_timeout_s: float = Field(default=630.0, gt=0)
    """Longest silence of a service within the answer to a chat; longer than the engine's `answer_timeout_s`,
    since a chat that is not streamed is silent until it is whole."""
    quick_timeout_s: float = Field(default=45.0, gt=0)
    """The same for all other calls; longer than `Prefer: wait` and a selection by the engine may take."""
    body_timeout_s: float = Field(default=60.0, gt=0)
    """Longest silence of a caller within one request body."""
    cors_origins: tuple[str, ...] = ()
    """Browser origins that may call the API, as a JSON list such as `["https://shop.example"]`; give their pages user
    tokens, never an API key. The console is served from the gateway itself."""
    metrics_token: SecretStr | None = Field(default=None, min_length=16)
    """Bearer token by which Prometheus reads the gateway's /metrics; an admin key may read them too."""

    @property
    def preference_urls(self) -> tuple[str, ...]:
        return _split_urls(self.preference_url)

    @property
    def response_urls(self) -> tuple[str, ...]:
        return _split_urls(self.response_url)

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not re.fullmatch(r"https?://[^/*?#@\s]+", origin):
                raise ValueError(f"{origin!r} is no origin such as https://shop.example")
        return origins

    @model_validator(mode="after")
    def _check_urls(self) -> Self:
        for name, urls in (("preference_url", self.preference_urls), ("response_url", self.response_urls)):
            if not urls or not all(url.startswith(("http://", "https://")) for url in urls):
                raise ValueError(f"{name} must hold URLs that start with http:// or https://, separated by commas")
        return self


def _split_urls(text: str) -> tuple[str, ...]:
    return tuple(url.strip().rstrip("/") for url in text.split(",") if url.strip())


class WebhookSettings(Block):
    allow_private: bool = False
    """Whether endpoints may have addresses of private networks and plain http: for development and tests alone."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Longest wait for an endpoint's answer."""
    attempts: int = Field(default=12, ge=1, le=100)
    """Attempts after which an event is held as failed; with the delays below they take about 11 hours."""
    backoff_s: float = Field(default=30.0, gt=0)
    """Delay after a first failed attempt, doubled after each further one up to `backoff_max_s`, and shortened by
    chance to as little as half."""
    backoff_max_s: float = Field(default=21_600.0, gt=0)
    disable_after_s: float = Field(default=259_200.0, gt=0)
    """An endpoint that has taken nothing for so long is disabled."""
    concurrency: int = Field(default=256, ge=8)
    """Requests under way at once from one worker; to one tenant's endpoints an eighth."""


class LogSettings(Block):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    access: bool = True
    """One line for each request, and for each update of a worker."""


class MetricsSettings(Block):
    tenants: tuple[str, ...] = Field(default=(), max_length=100)
    """Tenants whose tokens and answers are counted by name, as a JSON list; all others are counted as `other`."""


class TracingSettings(Block):
    endpoint: str | None = None
    """Where traces are sent: an OpenTelemetry collector's OTLP/HTTP address such as
    `http://127.0.0.1:4318`. Needs the extra `tracing`; without an address nothing is recorded."""
    sample: float = Field(default=1.0, ge=0, le=1)
    """Share of the traces that are recorded."""
    trust_callers: bool = False
    """The gateway records each trace that its caller records, whatever `sample` says. Anyone who reaches
    the gateway can ask for that, with or without an API key."""

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        if not endpoint.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        if not _is_installed("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
            raise ValueError("needs OpenTelemetry, which is not installed: pip install 'alignx[tracing]'")
        return endpoint


def _is_installed(*modules: str) -> bool:
    try:
        return all(find_spec(module) for module in modules)
    except ModuleNotFoundError:  # not even the package that should hold it
        return False


class Settings(BaseSettings):
    """The whole configuration of one process."""

    model_config = SettingsConfigDict(
        env_prefix="ALIGNX_",
        env_nested_delimiter="__",
        secrets_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    internal_token: SecretStr = Field(min_length=16)
    """Shared secret by which the services know the gateway. There is no default: auth is never off
    by accident."""
    server: ServerSettings = ServerSettings()
    redis: RedisSettings = RedisSettings()
    engine: EngineSettings = EngineSettings()
    queue: QueueSettings = QueueSettings()
    summary: SummarySettings = SummarySettings()
    retention: RetentionSettings = RetentionSettings()
    limits: LimitSettings = LimitSettings()
    response: ResponseSettings = ResponseSettings()
    axes: AxesSettings = AxesSettings()
    gateway: GatewaySettings = GatewaySettings()
    webhooks: WebhookSettings = WebhookSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then secret files, whose names can reach into a block as variables do."""
        return init_settings, env_settings, NestedSecretsSettingsSource(file_secret_settings)


def load_settings() -> Settings:
    """Reads the environment; ends the process with one line per problem if it is not valid."""
    try:
        return Settings(_secrets_dir=os.environ.get("ALIGNX_SECRETS_DIR"))
    except ValidationError as error:
        lines = ["The configuration is not valid:"]
        for problem in error.errors():
            name = "ALIGNX_" + "__".join(str(part) for part in problem["loc"]).upper()
            lines.append(f"  {name}: {problem['msg']}")
        raise SystemExit("\n".join(lines)) from error
