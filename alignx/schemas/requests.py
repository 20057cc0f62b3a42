"""Bodies of requests and responses, except those of API keys."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, StrictBool, StringConstraints, model_validator

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import MAX_CHOICES, CatalogueItem, Frozen, ItemReference, OfferedItem, is_blank, is_none
from alignx.schemas.outcomes import Served


class EventsRequest(Frozen):
    """One interaction or a list of them. They are appended in the order in which they occurred; those without
    `occurred_at` last, in the order given."""

    events: tuple[Interaction, ...] = Field(min_length=1)
    backfill: StrictBool = False
    """History from elsewhere: the profile learns it at once, and the summary is rewritten once, after the user's last
    backfill, when no other user waits. `Prefer: wait` goes before it."""


class EventsAccepted(Frozen):
    """The events are stored; the summary follows."""

    ids: tuple[str, ...]
    pending: NonNegativeInt
    version: int | None = None
    """With `Prefer: wait`: the version that includes the events; null if it took longer, or if they were set aside."""
    replayed: bool = False
    """True when an Idempotency-Key had stored them before."""
    late: NonNegativeInt = 0
    """How many of them occurred before others that an earlier call had brought: what they say strikes nothing that was
    said later."""


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
"""Who scores: the engine by the summary's text, the fast profile, or both by earned weights."""
Scorer = Literal["profile", "text", "contrast"]
"""The fast profile, the engine by the summary's text, the engine by the contrast of the user's earlier choices."""
Basis = Literal["profile", "text", "contrast", "traffic", "popular"]
"""What took part: scorers, what other users of the tenant took, and in place of all of them what is popular, for a user
of whom nothing is known."""

Fallback = Literal[
    "engine_timeout", "engine_unavailable", "engine_unsupported", "engine_rejected", "engine_error", "budget_spent"
]
"""Why the profile answered in the engine's place: the engine took too long, does not answer (or its breaker is open),
reports no log-probabilities, refused the request, sent an unreadable answer, or the tenant's token budget is spent."""


class SelectRequest(Frozen):
    """Which of these would the user choose?"""

    query: str = ""
    items: tuple[OfferedItem, ...] = Field(min_length=2, max_length=MAX_CHOICES)
    method: Method | None = None
    """Default: "fused" with an engine whose weight the tenant's choices have earned; "profile" without one, or where
    it does not answer in time."""

    @model_validator(mode="after")
    def _check_text(self) -> "SelectRequest":
        if all(not isinstance(item, ItemReference) and is_blank(item) for item in self.items):
            raise ValueError("all items are empty; at least one must hold text")
        return self


class CatalogueRequest(Frozen):
    """Items to put into the tenant's catalogue, over those of the same ids."""

    items: tuple[CatalogueItem, ...] = Field(min_length=1, max_length=1_000)


class CatalogueStored(Frozen):
    """The items are in the catalogue."""

    items: NonNegativeInt
    """Items of the catalogue in all."""


class ScoredItem(Frozen):
    index: NonNegativeInt
    """Place in the request."""
    id: str | None = None
    probability: float
    like: float | None = None
    """The probability that the user would take the item by itself, whatever else is on offer: by how often they take
    what they meet, and how often others take it. Null where too few users have met it."""


class SelectResponse(Served):
    """Probabilities add up to 1 and stand in the order of the request."""

    choice: NonNegativeInt
    items: tuple[ScoredItem, ...]
    method: Method
    version: NonNegativeInt
    """Summary version the engine read; 0 when the profile alone decided."""
    position_bias: float | None = None
    """Mean absolute change of an item's probability between the orders shown to the engine;
    null when no engine was asked."""
    fallback: Fallback | None = None
    """Why the profile alone decided, where an engine was to be asked; null otherwise."""
    basis: tuple[Basis, ...] = ("profile",)
    """What took part."""
    weights: dict[Scorer, float] = Field(default={})
    """What each scorer's log-odds counted."""
    mixture: dict[str, float] = Field(default={})
    """What each feature counted in the log-odds of the scorer "profile": the user's own profile, the popularity that
    the caller gives, and what other users took. Learned of the tenant's choices."""


class RecommendRequest(Frozen):
    """Rank candidates for the user."""

    query: str = ""
    candidates: tuple[OfferedItem, ...] = Field(min_length=1, max_length=1_000)
    k: Annotated[int, Field(ge=1, le=1_000)] = 10
    method: Method | None = None
    explain: StrictBool = False
    """Adds a reason in words to each item of the answer."""


class RankedItem(Frozen):
    rank: int
    index: NonNegativeInt
    id: str | None = None
    score: float
    """Higher is better; comparable within one answer only."""
    reason: str | None = None


class RecommendResponse(Served):
    items: tuple[RankedItem, ...]
    method: Method
    version: NonNegativeInt
    fallback: Fallback | None = None
    """As in a selection, and so are the next three."""
    basis: tuple[Basis, ...] = ("profile",)
    weights: dict[Scorer, float] = Field(default={})
    mixture: dict[str, float] = Field(default={})


ChatMode = Literal["summary", "ica", "pba", "direct", "none"]
"""What the answer is conditioned on: the text summary, the raw history in context (ica), the names of
the preference directions that recent comparisons carry (pba), the whole recent history without
inference (direct), or nothing (the control)."""


AxisWeight = Annotated[float, Field(ge=0, le=1, strict=True)]


class AxisWeights(Frozen):
    """What an answer should be. Only the ratio counts: weights are divided by their sum."""

    helpful: AxisWeight = 0.0
    harmless: AxisWeight = 0.0
    honest: AxisWeight = 0.0

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if not any(weight for _, weight in self):
            raise ValueError("at least one weight must be above 0")
        return self


class Personalization(Frozen):
    """Our extension of the chat request."""

    mode: ChatMode = "summary"
    max_history: Annotated[int, Field(ge=1, le=1_000)] | None = None
    """Modes ica, pba and direct: at most this many recent events."""
    learn: StrictBool | None = None
    """Whether the user's latest turn and the answer become an event of the user's history, once the answer has been
    given in full. Needs the scope events:write. Default: the tenant's setting `learn_from_chats`."""
    axes: AxisWeights | None = None
    """The nearest of the deployment's axis adapters answers, where it serves them; without weights, the one that the
    deployment chooses. With them and without a user, the mode is none by default."""


class AxesUsed(Frozen):
    """Which axis adapter answered, and why."""

    adapter: str
    """Of the deployment's grid, as its engine knows it."""
    weights: AxisWeights
    """What it was chosen for; they add up to 1."""
    distance: float
    """Euclidean, from these weights to those of the adapter."""
    chosen: Literal["requested", "routed", "static"]
    """By the caller's weights, by the router, or by the deployment."""
    confidence: float | None = None
    """The router's probability of the likeliest axis; null where none was asked."""
    raised: bool = False
    """Whether the weight of harmlessness was below the deployment's floor, and was raised to it."""


class PersonalizationUsed(Served):
    """What an answer was conditioned on."""

    mode: ChatMode
    user: str | None
    version: NonNegativeInt | None = None
    history: NonNegativeInt = 0
    learn: bool | None = Field(default=None, exclude_if=is_none)
    """True where the answer becomes an event of the user's history; null otherwise."""
    axes: AxesUsed | None = Field(default=None, exclude_if=is_none)

    def document(self) -> dict[str, Any]:
        fields = super().document()
        axes = fields.pop("axes")
        return fields if axes is None else fields | {"axes": axes.model_dump()}
