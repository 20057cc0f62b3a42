"""What a process says of itself: problems, readiness, and its engine."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from alignx.schemas.items import Frozen

PROBLEM_PREFIX = "urn:alignx:problem:"
"""What the `type` of every problem document begins with."""


class EngineState(Frozen):
    """What a process has found out about its language model engine."""

    model: str | None = None
    dialect: str
    """How requests differ from vLLM's; "vllm" for not at all."""
    context_tokens: int
    letters: bool
    """Whether the engine reports the odds of letters, by which it can choose between items."""
    protocol: Literal["letters", "likelihood"] = "letters"
    """How it chooses between items; without letters and likelihood the profile does."""
    accuracies: dict[str, float] = Field(default_factory=dict)
    """Share of the shipped pairs that it foresees, by protocol; empty where it was not measured."""
    reasons: bool = False
    """Whether its reply to a test request held reasoning."""
    checked_at: datetime | None = None
    """When a test request last found this out; null before the first one has passed."""
    state: Literal["ok", "degraded"]
    detail: str | None = None
    """Why it is degraded, or what it lacks."""
    words: str | None = None
    """What it last refused, in its own words. The gateway shows them to admin keys alone."""


class Readiness(Frozen):
    """Answer of /readyz: each check by name, "ok" or what is wrong. The gateway is ready while Redis and one
    of the services are."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, str]
    engine: EngineState | None = None
    """Null without an engine, and for a process that asks none."""
