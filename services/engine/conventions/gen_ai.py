"""Calls to the engine by the names of OpenTelemetry's semantic conventions for generative AI: spans and metrics.

Those names are in development; these are of version 1.39, in Prometheus's spelling for metrics. The convention's time
to the first token is the server's own, so that of a client is `time_to_first_chunk`. Seconds count from when a call
goes out, while those of the `alignx_` metrics count the wait for a free slot too.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Histogram

from alignx.schemas.summaries import TokenCounts

PROVIDER: Final = "openai"
"""The convention's name for whatever speaks OpenAI's API."""
OTHER_MODEL: Final = "other"
_MOST_MODELS: Final = 20
_SECONDS: Final = tuple(0.01 * 2**power for power in range(14))
_TOKENS: Final = tuple(4**power for power in range(14))
_SAMPLING: Final = ("max_tokens", "temperature", "top_p")


class ModelNames:
    """The models that an engine has answered by. A caller may name any: no other name is written down."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def add(self, model: str) -> None:
        if len(self._known) < _MOST_MODELS:
            self._known.add(model)

    def name(self, model: object) -> str:
        return model if isinstance(model, str) and model in self._known else OTHER_MODEL


class Operation(NamedTuple):
    """A call that has ended."""

    name: str
    """`chat`, or `text_completion` for the likelihood of a text."""
    model: str
    seconds: float
    first_chunk_s: float | None
    """Null where the answer was no stream, or had no text."""
    tokens: TokenCounts
    error: str
    """How it failed; empty where it did not."""

    @property
    def title(self) -> str:
        """Of its span."""
        return self.name if self.model == OTHER_MODEL else f"{self.name} {self.model}"

    @property
    def labels(self) -> dict[str, str]:
        return {
            "gen_ai_operation_name": self.name,
            "gen_ai_provider_name": PROVIDER,
            "gen_ai_request_model": self.model,
        }

    def attributes(self) -> dict[str, str | int | float]:
        """What a span says at the end of the call."""
        found: dict[str, str | int | float] = {
            "gen_ai.usage.input_tokens": self.tokens.prompt,
            "gen_ai.usage.output_tokens": self.tokens.completion,
            "gen_ai.usage.cache_read.input_tokens": self.tokens.cached,
        }
        if self.model != OTHER_MODEL:
            found["gen_ai.request.model"] = self.model
        if self.first_chunk_s is not None:
            found["gen_ai.response.time_to_first_chunk"] = self.first_chunk_s
        return found | ({"error.type": self.error} if self.error else {})


def operation_name(body: Mapping[str, Any]) -> str:
    return "text_completion" if "prompt" in body else "chat"


def request_attributes(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a span says from the start: of the engine at `url` and of what it is asked, but for texts."""
    server = urlsplit(url)
    sampling = {f"gen_ai.request.{name}": body.get(name) for name in _SAMPLING}
    return {
        "gen_ai.operation.name": operation_name(body),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.stream": body.get("stream") is True,
        "server.address": server.hostname or "",
        "server.port": server.port or (443 if server.scheme == "https" else 80),
        **{name: value for name, value in sampling.items() if type(value) in (int, float)},
    }


class GenAiMetrics:
    """The client's metrics of the convention."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
        histogram = partial(Histogram, registry=registry)
        self.seconds = histogram(
            "gen_ai_client_operation_duration_seconds",
            "Seconds from sending a call to the engine to the end of its answer (OpenTelemetry)",
            (*labels, "error_type"),
            buckets=_SECONDS,
        )
        self.first_chunk = histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "Seconds from sending a call to the engine to the first text of a streamed answer (OpenTelemetry)",
            labels,
            buckets=_SECONDS,
        )
        self.tokens = histogram(
            "gen_ai_client_token_usage",
            "Tokens of one call to the engine, by gen_ai_token_type: input or output (OpenTelemetry)",
            (*labels, "gen_ai_token_type"),
            buckets=_TOKENS,
        )

    def observe(self, operation: Operation) -> None:
        labels = operation.labels
        self.seconds.labels(**labels, error_type=operation.error).observe(operation.seconds)
        if operation.first_chunk_s is not None:
            self.first_chunk.labels(**labels).observe(operation.first_chunk_s)
        for kind, count in (("input", operation.tokens.prompt), ("output", operation.tokens.completion)):
            if count:
                self.tokens.labels(**labels, gen_ai_token_type=kind).observe(count)
