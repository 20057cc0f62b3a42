"""Summary versions, the events behind them, and their prequential quality."""

from pydantic import AwareDatetime, NonNegativeInt

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


class Prequential(Frozen):
    """How well summaries predicted choices that were made after they were written."""

    comparisons: NonNegativeInt = 0
    accuracy: float | None = None
    """Share of them that were predicted right, a tie counting half."""
    mean_probability: float | None = None
    """Mean probability given to what the user chose; 0.5 is chance."""


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


class Preferences(SummaryVersion):
    """A user's current summary and the state of its upkeep."""

    user: UserId
    pending: NonNegativeInt
    """Events accepted and not yet part of the summary."""
    events_total: NonNegativeInt
    quality: dict[str, Prequential] = {}  # noqa: RUF012  # pydantic copies it
    """Running prequential quality of this user by scorer, "profile" or "engine"."""


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


class InteractionList(Frozen):
    """A page of events, oldest first."""

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
