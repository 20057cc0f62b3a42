"""Prometheus metrics of the preference service and its worker. No label names a user."""

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from alignx.schemas.summaries import SummaryVersion
from services.preference.queue_records import PrequentialSums
from services.prompts.replies.summary_checks import CHECKS
from services.storage.user_profile import USER_SOURCE

_EVENTS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_UPDATE_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120)
_PROFILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_OUTCOMES = (
    *("committed", "conflict", "engine", "data", "dead", "halved", "lost", "dropped", "postponed"),
    *("held", "skipped", "budget"),
)
_CHARS_BUCKETS = (125, 250, 500, 1_000, 2_000, 4_000, 8_000)


def written_by(version: SummaryVersion) -> str:
    """What wrote a version: `user`, `profile`, or the engine, from the whole history (`full`) or from the
    summary before it and new events (`streaming`, a user's first summary too)."""
    if version.source == USER_SOURCE:
        return "user"
    if version.source == "profile":
        return "profile"
    return "full" if version.parent is None and version.version > 1 else "streaming"


class QualityMetrics:
    """Prequential tests of summaries over all users; divide the sums by the count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, label = partial(Counter, registry=registry), ("scorer", "source")
        self.comparisons = counter(
            "alignx_prequential_comparisons", "Choices that a summary was tested on before it saw them", label
        )
        self.correct = counter(
            "alignx_prequential_correct", "Tested choices that the summary predicted, a tie counting half", label
        )
        self.probability = counter(
            "alignx_prequential_probability", "Sum of the probabilities given to what users chose", label
        )

    def add(self, scorer: str, source: str, scored: PrequentialSums) -> None:
        """`scorer` is who read the summary (profile, engine, or fused: both), `source` who wrote it (`written_by`)."""
        if scored.count:
            self.comparisons.labels(scorer, source).inc(scored.count)
            self.correct.labels(scorer, source).inc(scored.hits)
            self.probability.labels(scorer, source).inc(scored.mass)


def _start_at_zero(counter: Counter, values: Iterable[str]) -> None:
    """Counts from 0 on: a rate does not see the step from nothing to 1."""
    for value in values:
        counter.labels(value)


def _versions(registry: CollectorRegistry) -> Counter:
    about = "Summary versions written, by what wrote them (streaming, full, profile, user, rollback)"
    return Counter("alignx_summary_versions", about, ("source",), registry=registry)


class IngestMetrics:
    """Metrics of the preference service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.quality = QualityMetrics(registry)
        self.events = counter("alignx_events_accepted", "Interactions stored", ("type",))
        self.replays = counter("alignx_events_replayed", "Calls answered from their Idempotency-Key")
        self.moved = counter("alignx_profile_conflicts", "Appends made again because another writer came first")
        self.delay = histogram(
            "alignx_event_to_profile_seconds",
            "Seconds from a call's arrival until the profile with its events is stored",
            buckets=_PROFILE_BUCKETS,
        )
        self.versions = _versions(registry)
        self.rollbacks = counter("alignx_rollbacks", "Summaries taken back to an older version")
        self.rebuilds = counter("alignx_rebuilds", "Summaries asked to be written anew")
        self.dead_retries = counter("alignx_dead_letter_retries", "Dead letters that a caller put back into the queue")
        self.erasures = counter("alignx_erasures", "Users erased")
        self.changes = counter(
            "alignx_preference_changes", "Users whose choices turned against what was known of them (drift)"
        )
        self.streams = gauge("alignx_summary_streams", "Open summary streams")
        self.chats_lag = gauge(
            "alignx_chats_lag_seconds", "Seconds by which the oldest served chat is late in becoming an event"
        )


class WorkerMetrics:
    """Metrics of a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.quality = QualityMetrics(registry)
        self.updates = counter("alignx_updates", f"Updates ended, by outcome ({', '.join(_OUTCOMES)})", ("outcome",))
        _start_at_zero(self.updates, _OUTCOMES)
        self.seconds = histogram(
            "alignx_update_duration_seconds", "Seconds from claim to commit", buckets=_UPDATE_BUCKETS
        )
        self.events = histogram("alignx_update_events", "Events that one update took in", buckets=_EVENTS_BUCKETS)
        self.delay = histogram(
            "alignx_event_to_summary_seconds",
            "Seconds from the oldest event of an update to its commit",
            buckets=_UPDATE_BUCKETS,
        )
        self.retries = counter(
            "alignx_update_retries",
            "Updates given back to be tried again, by what was at fault (engine, data)",
            ("fault",),
        )
        _start_at_zero(self.retries, ("engine", "data"))
        self.dead = counter("alignx_dead_letters", "Events set aside because no update could take them in")
        self.checks = counter(
            "alignx_summary_checks",
            "Replies of the engine to updates, by check and its outcome (passed, cleaned, refused)",
            ("check", "outcome"),
        )
        for check in CHECKS:
            for outcome in ("passed", "cleaned", "refused"):
                self.checks.labels(check, outcome)
        self.sentences = counter(
            "alignx_summary_sentences",
            "Sentences of the engine: in versions with events behind them (supported) and without (unsupported), and"
            " dropped for a denied subject (denied)",
            ("outcome",),
        )
        _start_at_zero(self.sentences, ("supported", "unsupported", "denied"))
        self.trials = counter(
            "alignx_model_trials", "Trials of a new model or prompt template that ended (accepted, held)", ("outcome",)
        )
        _start_at_zero(self.trials, ("accepted", "held"))
        self.regressions = counter(
            "alignx_summary_regressions", "Versions left behind because they predict worse than an earlier one"
        )
        self.versions = _versions(registry)
        self.chars = histogram("alignx_summary_chars", "Characters of a new summary", buckets=_CHARS_BUCKETS)
        self.expiries = counter("alignx_lease_expiries", "Leases of silent workers given back")
        self.concurrency = gauge("alignx_worker_concurrency", "Updates this worker allows itself at once")
        self.in_flight = gauge("alignx_updates_in_flight", "Updates under way")
        self.waiting = gauge("alignx_queue_users_waiting", "Users whose update is due")
        self.overdue = gauge(
            "alignx_queue_oldest_overdue_seconds", "Seconds by which the oldest waiting update is late, backfills aside"
        )
