"""The words every part of the suite speaks: interactions, summary versions, requests and answers.

All models are frozen and refuse unknown fields, so a typo in a field name is an error that names
the field instead of a silent loss. Sizes that a deployment can change (bytes of an event, events
of a call) are settings, not schema; they are checked where the request comes in.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

UserId = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^/\x00-\x1f\x7f]+$")]
"""Your own id of a user: 1 to 256 characters, no slash and no control character."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Scalar = str | int | float | bool | None

ITEM_LEVELS = 16
"""Lists and objects inside one another that an item's further fields may hold."""

MAX_CHOICES = 26
"""Items of one selection: one capital letter each."""

PREFERENCE_DIMENSIONS = 90
"""Values of one preference direction; services/core/directions.py names them."""


def _complete(directions: tuple[float, ...]) -> tuple[float, ...]:
    if len(directions) != PREFERENCE_DIMENSIONS:
        raise ValueError(f"exactly {PREFERENCE_DIMENSIONS} values are needed, one a dimension, not {len(directions)}")
    return directions


Directions = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...],
    AfterValidator(_complete),  # after the values, so that one that is not valid is not also one too few
    Field(json_schema_extra={"minItems": PREFERENCE_DIMENSIONS, "maxItems": PREFERENCE_DIMENSIONS}),
]
"""Where a choice leans on each fixed dimension of preference: 1 its first label, 0 its second, 0.5 neither."""


class Frozen(BaseModel):
    """Base of every schema: immutable, strict about field names, documented by its docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="null")


# --- items -------------------------------------------------------------------------------------


class ItemFields(Frozen):
    """An item with named fields. Further fields (brand, genres, …) are kept and rendered. The profile also reads
    `year`, and `popularity`: a count of how many have taken the item, or of takings in a thousand showings, whose
    logarithm adds to the score whatever else is known of the user. Models are not shown it."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    title: Text
    description: str | None = None
    category: str | None = None
    price: float | str | None = None

    @model_validator(mode="after")
    def _shallow(self) -> "ItemFields":
        if _deeper(self.model_extra, ITEM_LEVELS):
            raise ValueError(f"fields may be nested {ITEM_LEVELS} levels deep")
        return self


POPULARITY_FIELD = "popularity"
"""How many have taken the item, or takings in a thousand showings: a count that the caller supplies. Part of
the score, and no part of the item's text."""

Item = str | ItemFields
"""What a user can choose: a text, or named fields that are rendered to text."""


def item_text(item: Item) -> str:
    """`Title` for a title alone, else `Title (category: games; price: 5; …) — description`; without its popularity."""
    if isinstance(item, str):
        return item
    named: dict[str, Any] = {"category": item.category, "price": item.price, **(item.model_extra or {})}
    told = {name: value for name, value in named.items() if name.lower() != POPULARITY_FIELD}
    facts = "; ".join(f"{name}: {_flat(value)}" for name, value in told.items() if value not in (None, "", []))
    text = f"{item.title} ({facts})" if facts else item.title
    return f"{text} — {item.description}" if item.description else text


def item_category(item: Item) -> str | None:
    return None if isinstance(item, str) else item.category


def _deeper(value: object, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels < 0 or any(_deeper(inner, levels - 1) for inner in value)


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_flat(inner) for inner in value)
    return str(value)


# --- interactions ------------------------------------------------------------------------------


class Pair(NamedTuple):
    """One observed choice: for `query` the user preferred `chosen` to `rejected`."""

    query: str
    chosen: Item
    rejected: Item


class InteractionBase(Frozen):
    """What every event may carry beside its own fields."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """Your own id of the event: kept and given back, not used to detect repeats
    (send an Idempotency-Key for that)."""
    occurred_at: AwareDatetime | None = None
    source: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Where it happened, such as "news" or "shop"."""
    metadata: dict[str, Scalar] | None = None
    """Kept and exported; never shown to a model."""

    def pairs(self) -> tuple[Pair, ...]:
        """The choices this event shows by itself; empty when it is no choice."""
        return ()


def _blank(item: Item) -> bool:
    return not item_text(item).strip()


def _absent(value: object) -> bool:
    return value is None


class ComparisonInteraction(InteractionBase):
    """The user preferred one text or item to another."""

    type: Literal["comparison"] = "comparison"
    query: str | None = None
    chosen: Item
    rejected: Item
    directions: Directions | None = Field(default=None, exclude_if=_absent)
    """What the choice says on the 90 preference dimensions of AlignX, in their order: 1 for the first
    label, 0 for the second, 0.5 for neither. Only chat mode pba reads it."""

    @model_validator(mode="after")
    def _some_text(self) -> "ComparisonInteraction":
        if _blank(self.chosen) and _blank(self.rejected):
            raise ValueError("chosen and rejected are both empty; at least one must hold text")
        return self

    def pairs(self) -> tuple[Pair, ...]:
        return (Pair(self.query or "", self.chosen, self.rejected),)


class ClickInteraction(InteractionBase):
    """The user clicked one of the items shown."""

    type: Literal["click"] = "click"
    query: str | None = None
    clicked: Item
    shown: tuple[Item, ...] = Field(default=(), max_length=200)
    """What was on the page; the clicked item may be among them."""

    @model_validator(mode="after")
    def _some_text(self) -> "ClickInteraction":
        if _blank(self.clicked):
            raise ValueError("clicked is empty")
        return self

    def pairs(self) -> tuple[Pair, ...]:
        return tuple(Pair(self.query or "", self.clicked, item) for item in self.shown if item != self.clicked)


class RatingInteraction(InteractionBase):
    """The user gave an item a number, and perhaps a review."""

    type: Literal["rating"] = "rating"
    item: Item
    value: float
    scale: tuple[float, float] = (1.0, 5.0)
    """Lowest and highest value."""
    review: str | None = None

    @model_validator(mode="after")
    def _inside_scale(self) -> "RatingInteraction":
        low, high = self.scale
        if not low < high:
            raise ValueError(f"scale must rise: [{low:g}, {high:g}]")
        if not low <= self.value <= high:
            raise ValueError(f"value {self.value:g} is outside the scale [{low:g}, {high:g}]")
        if _blank(self.item):
            raise ValueError("item is empty")
        return self

    @property
    def liking(self) -> float:
        """The rating on [-1, 1]: -1 the lowest, 0 the middle, 1 the highest of the scale."""
        low, high = self.scale
        return 2 * (self.value - low) / (high - low) - 1


class PurchaseInteraction(InteractionBase):
    """The user bought an item, perhaps after considering others."""

    type: Literal["purchase"] = "purchase"
    item: Item
    considered: tuple[Item, ...] = Field(default=(), max_length=200)

    @model_validator(mode="after")
    def _some_text(self) -> "PurchaseInteraction":
        if _blank(self.item):
            raise ValueError("item is empty")
        return self

    def pairs(self) -> tuple[Pair, ...]:
        return tuple(Pair("", self.item, other) for other in self.considered if other != self.item)


class PostInteraction(InteractionBase):
    """Something the user wrote, perhaps in answer to a prompt."""

    type: Literal["post"] = "post"
    prompt: str | None = None
    text: Text


class Message(Frozen):
    """One turn of a dialogue."""

    role: Literal["user", "assistant"]
    content: Text


class DialogueInteraction(InteractionBase):
    """A conversation; what the user said in it is read turn by turn."""

    type: Literal["dialogue"] = "dialogue"
    messages: tuple[Message, ...] = Field(min_length=1, max_length=500)


class DemographicInteraction(InteractionBase):
    """A fact about the user, as a sentence."""

    type: Literal["demographic"] = "demographic"
    text: Text


class StatementInteraction(InteractionBase):
    """What the user says of their own preferences; it outranks what is inferred."""

    type: Literal["statement"] = "statement"
    text: Text


Interaction = Annotated[
    ComparisonInteraction
    | ClickInteraction
    | RatingInteraction
    | PurchaseInteraction
    | PostInteraction
    | DialogueInteraction
    | DemographicInteraction
    | StatementInteraction,
    Field(discriminator="type"),
]
"""One event of a user's history; `type` says which."""

INTERACTION_TYPES = frozenset(
    ("comparison", "click", "rating", "purchase", "post", "dialogue", "demographic", "statement")
)
INTERACTION: TypeAdapter[Interaction] = TypeAdapter(Interaction)


# --- summaries ---------------------------------------------------------------------------------


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
    quality: dict[str, Prequential] = {}
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


# --- requests and answers ----------------------------------------------------------------------


class EventsRequest(Frozen):
    """One interaction or a list of them, appended in the order given."""

    events: tuple[Interaction, ...] = Field(min_length=1)


class EventsAccepted(Frozen):
    """The events are stored; the summary follows."""

    ids: tuple[str, ...]
    pending: NonNegativeInt
    version: int | None = None
    """With `Prefer: wait`: the version that includes the events; null if it took longer."""
    replayed: bool = False
    """True when an Idempotency-Key had stored them before."""


class EditRequest(Frozen):
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]


class RollbackRequest(Frozen):
    version: Annotated[int, Field(ge=1)]


class RetryRequest(Frozen):
    """Which dead letters are to be tried again."""

    event_ids: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=40)], ...] | None, Field(min_length=1, max_length=1_000)
    ] = None
    """Their event ids; null for all. An id that is no dead letter, or none any more, is passed over."""


class RetriedEvent(Frozen):
    """A dead letter that waits for an update again, as the newest event of its user."""

    event_id: str
    """Its id so far."""
    new_event_id: str


class RetryQueued(Frozen):
    """Dead letters wait again, in the order in which they were set aside."""

    events: tuple[RetriedEvent, ...]
    pending: NonNegativeInt


class UpdateQueued(Frozen):
    """An update was asked for; read the summary or its stream for the outcome."""

    pending: NonNegativeInt


Method = Literal["engine", "profile", "fused"]
"""Who scores: the engine's letter probabilities, the fast profile, or both."""


class SelectRequest(Frozen):
    """Which of these would the user choose?"""

    query: str = ""
    items: tuple[Item, ...] = Field(min_length=2, max_length=MAX_CHOICES)
    method: Method | None = None
    """Default: "fused" with an engine, "profile" without."""

    @model_validator(mode="after")
    def _some_text(self) -> "SelectRequest":
        if all(_blank(item) for item in self.items):
            raise ValueError("all items are empty; at least one must hold text")
        return self


class ScoredItem(Frozen):
    index: NonNegativeInt
    """Place in the request."""
    id: str | None = None
    probability: float


class SelectResponse(Frozen):
    """Probabilities add up to 1 and stand in the order of the request."""

    choice: NonNegativeInt
    items: tuple[ScoredItem, ...]
    method: Method
    version: NonNegativeInt
    """Summary version the engine read; 0 when the profile alone decided."""
    position_bias: float | None = None
    """Mean absolute change of an item's probability between the orders shown to the engine;
    null when no engine was asked."""


class RecommendRequest(Frozen):
    """Rank candidates for the user."""

    query: str = ""
    candidates: tuple[Item, ...] = Field(min_length=1, max_length=1_000)
    k: Annotated[int, Field(ge=1, le=1_000)] = 10
    method: Method | None = None
    explain: bool = False
    """Adds a reason in words to each item of the answer."""


class RankedItem(Frozen):
    rank: int
    index: NonNegativeInt
    id: str | None = None
    score: float
    """Higher is better; comparable within one answer only."""
    reason: str | None = None


class RecommendResponse(Frozen):
    items: tuple[RankedItem, ...]
    method: Method
    version: NonNegativeInt


ChatMode = Literal["summary", "ica", "pba", "direct", "none"]
"""What the answer is conditioned on: the text summary, the raw history in context (ica), the names of
the preference directions that recent comparisons carry (pba), the whole recent history without
inference (direct), or nothing (the control)."""


class Personalization(Frozen):
    """Our extension of the chat request."""

    mode: ChatMode = "summary"
    max_history: Annotated[int, Field(ge=1, le=1_000)] | None = None
    """Modes ica, pba and direct: at most this many recent events."""


class PersonalizationUsed(Frozen):
    """What an answer was conditioned on."""

    mode: ChatMode
    user: str | None
    version: NonNegativeInt | None = None
    history: NonNegativeInt = 0


class KeyRequest(Frozen):
    """An API key to make."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    tenant: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    admin: bool = False
    rate: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = None
    """Requests per second; default from the settings."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class KeyInfo(Frozen):
    """An API key without its secret."""

    id: str
    name: str
    tenant: str
    admin: bool
    rate: float
    burst: int
    created_at: AwareDatetime
    revoked_at: AwareDatetime | None = None


class KeyCreated(KeyInfo):
    key: str
    """The whole key. It is shown this once; only its hash is kept."""


class KeyList(Frozen):
    keys: tuple[KeyInfo, ...]
    next: str | None = None


class TenantInfo(Frozen):
    tenant: str
    keys: NonNegativeInt
    """API keys made for it, revoked ones included."""


class TenantList(Frozen):
    tenants: tuple[TenantInfo, ...]
    next: str | None = None
    """Give it as `after` to read the next page; null at the end."""


class Readiness(Frozen):
    """Answer of /readyz: each check by name, "ok" or what is wrong. The gateway is ready while Redis and one
    of the services are."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, str]
