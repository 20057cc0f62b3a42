"""Summary versions, the events behind them, and their prequential quality."""

from typing import Literal

from pydantic import AwareDatetime, Field, NonNegativeInt

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import Frozen, UserId


class EventRange(Frozen):
    """The events a version added to its parent, by their ids in the user's log."""

    first: str | None = None
    last: str | None = None
    count: NonNegativeInt = 0


class TokenCounts(Frozen):
    """Tokens of the engine call that wrote a version; zero without an engine."""

    prompt: NonNegativeInt = 0
    completion: NonNegativeInt = 0
    cached: NonNegativeInt = 0


class RecentQuality(Frozen):
    """The same over the user's latest comparisons, at most 50."""

    comparisons: NonNegativeInt
    accuracy: float
    low: float
    """Lower end of the 95 % interval of `accuracy` (Wilson's)."""
    high: float
    mean_probability: float
    baselines: dict[str, float] = {}  # noqa: RUF012  # pydantic copies it
    """The accuracy to beat: 0.5 of a `coin`, and for the engine that of the `profile` on its latest comparisons."""


class Prequential(Frozen):
    """How well summaries predicted choices that were made after they were written."""

    comparisons: NonNegativeInt = 0
    accuracy: float | None = None
    """Share of them that were predicted right, a tie counting half."""
    low: float | None = None
    """Lower end of the 95 % interval of `accuracy` (Wilson's)."""
    high: float | None = None
    mean_probability: float | None = None
    """Mean probability given to what the user chose; 0.5 is chance."""
    recent: RecentQuality | None = None


class PreferenceChange(Frozen):
    """The user's choices have turned against what was known of them (concept drift)."""

    since: AwareDatetime
    """When the first of the `comparisons` was received."""
    detected_at: AwareDatetime
    comparisons: NonNegativeInt
    """Choices that showed the change."""
    accuracy_before: float
    """Share of the choices before them that the profile predicted."""
    accuracy_since: float
    """Share of the `comparisons` that it predicted."""
    text: str = ""
    """What turned, in words; empty where no single trait stands out."""


class RegressionTest(Frozen):
    """Whether versions predict worse than the version `against`, on choices that neither has read."""

    against: NonNegativeInt
    choices: NonNegativeInt = 0
    evidence: float = 0.0
    """Logarithm of the evidence that they do; from 3.0 on (20 to 1) the version is held back."""


MAX_SUPPORT = 5
"""Events that a claim names."""


class Claim(Frozen):
    """One sentence of a summary and what it rests on."""

    id: str
    """Stays the same over versions; for kind `model` a hash of the sentence."""
    text: str
    kind: Literal["own", "stated", "fact", "style", "topic", "price", "year", "change", "model"]
    """own: written by the user over the summary. stated and fact: said by the user. style to change: seen in choices.
    model: written by the engine."""
    support: tuple[str, ...] = Field(default=(), max_length=MAX_SUPPORT)
    """Ids of events that speak for it, newest last."""
    count: NonNegativeInt = 0
    """Events that speak for it, as far as they were counted."""
    since: AwareDatetime | None = None
    """When the first of them was received, as far as known."""
    supported: bool = True
    """Whether any event speaks for it."""


class SummaryVersion(Frozen):
    """One immutable state of a user's preference summary."""

    version: NonNegativeInt
    """0 is the profile as it is now, before any version was written."""
    text: str
    reasoning: str | None = None
    source: str
    """"llm:<model>", "profile" or "user"."""
    parent: NonNegativeInt | None = None
    """The version this one was made from; null when made from the history alone."""
    restored_from: NonNegativeInt | None = None
    """Set by a rollback: the version whose text this one repeats."""
    events: EventRange = EventRange()
    template: str | None = None
    """Id of the prompt template that asked for it."""
    tokens: TokenCounts = TokenCounts()
    latency_ms: float = 0.0
    """Milliseconds from the start of the update to its text."""
    created_at: AwareDatetime
    prequential: Prequential | None = None
    """How the parent predicted the choices this version has added."""
    regression: RegressionTest | None = None
    """The running test that this version is part of; null for one that no model wrote."""
    claims: tuple[Claim, ...] = ()
    """The sentences of the text and what each rests on; empty where that is not recorded."""


class ModelTrial(Frozen):
    """Whether a new model, adapter or prompt template may write a tenant's summaries."""

    state: Literal["none", "trial", "held"]
    """held: its summaries predict worse, so it writes no more."""
    incumbent: str | None = None
    """The model and prompt template that write now, such as "llm:qwen3-8b first/2"; null before the first summary."""
    candidate: str | None = None
    users_tested: NonNegativeInt = 0
    evidence: float = 0.0
    """Logarithm of the evidence that the candidate is worse; from 4.6 on (100 to 1) it is held."""


WaitReason = Literal["update", "worker", "cadence", "backfill", "engine", "trial", "budget"]
"""Why events wait: the update is being written; it is due and waits for its turn; it is not due yet, since the events
tell little (cadence) or are history from elsewhere (backfill); the engine fails, refuses or writes no summary, and is
asked again; a new model may not write for this user yet (trial); the tenant's token budget is spent."""


class Preferences(SummaryVersion):
    """A user's current summary and the state of its upkeep."""

    user: UserId
    pending: NonNegativeInt
    """Events accepted and not yet part of the summary."""
    waiting_for: WaitReason | None = None
    """Why they wait; null where none does."""
    events_total: NonNegativeInt
    quality: dict[str, Prequential] = {}  # noqa: RUF012  # pydantic copies it
    """Running prequential quality of this user by scorer, "profile" or "engine"."""
    changed: PreferenceChange | None = None
    """The latest change of the user's preferences; null where none was detected."""


class VersionList(Frozen):
    """A page of versions, newest first."""

    versions: tuple[SummaryVersion, ...]
    next: int | None = None
    """Give it as `before` to read the next page; null at the end."""


class VersionDiff(Frozen):
    """What changed between two versions, as a unified diff of their sentences."""

    from_version: NonNegativeInt
    to_version: NonNegativeInt
    added: tuple[str, ...]
    removed: tuple[str, ...]
    unified: str


class StoredInteraction(Frozen):
    """An event as the log keeps it."""

    event_id: str
    """Its place in the user's log, `<milliseconds>-<sequence>`."""
    received_at: AwareDatetime
    interaction: Interaction
    predicted: tuple[float, ...] = Field(default=(), exclude=True)
    """What the profile before the event gave the chosen item against each of the first others; kept for learning."""
    first_id: str = Field(default="", exclude=True)
    """Its id before it was set aside and tried again; empty for most. Versions since then may tell of it."""


Order = Literal["asc", "desc"]
"""The oldest first, or the newest."""


class InteractionList(Frozen):
    """A page of events, in the order that was asked for."""

    events: tuple[StoredInteraction, ...]
    next: str | None = None
    """Give it as `after` to read the next page; null at the end."""


class DeadLetter(Frozen):
    """An event that could not be worked into the summary and was set aside."""

    event_id: str
    error: str
    failed_at: AwareDatetime
    interaction: Interaction | None = None
    """Null when the stored event could not even be read."""
    first_id: str = Field(default="", exclude=True)
    """As of `StoredInteraction`."""


class DeadLetterList(Frozen):
    events: tuple[DeadLetter, ...]
    next: str | None = None


class RejectedDraft(Frozen):
    """A reply of the engine that is no summary: the version before it stays current."""

    check: str
    """The check that refused it, such as `refusal` or `degenerate`."""
    reason: str
    text: str
    """The reply, cut to 4,000 characters. It is part of no prompt."""
    source: str
    events: EventRange = EventRange()
    created_at: AwareDatetime


class RejectedDraftList(Frozen):
    """The latest rejected drafts, newest first."""

    drafts: tuple[RejectedDraft, ...]
