"""Interactions: the kinds of events in a user's history, distinguished by `type`."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from alignx.schemas.items import Frozen, Item, Scalar, Text, is_blank, is_none, read_id

PREFERENCE_DIMENSIONS = 90
"""Values of one preference direction; services/prompts/directions.py names them."""


def _check_length(directions: tuple[float, ...]) -> tuple[float, ...]:
    if len(directions) != PREFERENCE_DIMENSIONS:
        raise ValueError(f"exactly {PREFERENCE_DIMENSIONS} values are needed, one a dimension, not {len(directions)}")
    return directions


Directions = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...],
    AfterValidator(_check_length),  # after the values, so that one that is not valid is not also one too few
    Field(json_schema_extra={"minItems": PREFERENCE_DIMENSIONS, "maxItems": PREFERENCE_DIMENSIONS}),
]
"""Where a choice leans on each fixed dimension of preference: 1 its first label, 0 its second, 0.5 neither."""


class Pair(NamedTuple):
    """One observed choice: for `query` the user preferred `chosen` to `rejected`."""

    query: str
    chosen: Item
    rejected: Item


class InteractionBase(Frozen):
    """What every event may carry beside its own fields."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=128), BeforeValidator(read_id)] | None = None
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


class ComparisonInteraction(InteractionBase):
    """The user preferred one text or item to another."""

    type: Literal["comparison"] = "comparison"
    query: str | None = None
    chosen: Item
    rejected: Item
    directions: Directions | None = Field(default=None, exclude_if=is_none)
    """What the choice says on the 90 preference dimensions of AlignX, in their order: 1 for the first
    label, 0 for the second, 0.5 for neither. Only chat mode pba reads it."""

    @model_validator(mode="after")
    def _check_text(self) -> "ComparisonInteraction":
        if is_blank(self.chosen) and is_blank(self.rejected):
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
    def _check_text(self) -> "ClickInteraction":
        if is_blank(self.clicked):
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
    def _check_scale(self) -> "RatingInteraction":
        low, high = self.scale
        if not low < high:
            raise ValueError(f"scale must rise: [{low:g}, {high:g}]")
        if not low <= self.value <= high:
            raise ValueError(f"value {self.value:g} is outside the scale [{low:g}, {high:g}]")
        if is_blank(self.item):
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
    def _check_text(self) -> "PurchaseInteraction":
        if is_blank(self.item):
            raise ValueError("item is empty")
        return self

    def pairs(self) -> tuple[Pair, ...]:
        return tuple(Pair("", self.item, other) for other in self.considered if other != self.item)


class PostInteraction(InteractionBase):
    """Something the user wrote, perhaps in answer to a prompt."""

    type: Literal["post"] = "post"
    prompt: str | None = None
    text: Text


def _read_content(content: object) -> object:
    """The texts of OpenAI's content parts, a line each; null is no text."""
    if content is None:
        return ""
    if not isinstance(content, list | tuple):
        return content
    if not all(isinstance(part, Mapping) for part in content):
        raise ValueError("each part must be an object with a type")
    texts = (part.get("text") or part.get("refusal") for part in content)
    return "\n".join(text for text in texts if isinstance(text, str))


class Message(Frozen):
    """One turn of a dialogue, in OpenAI's form. Of content parts the texts are read; other parts and further members
    (name, tool_calls, tool_call_id, …) are ignored."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["user", "assistant", "system", "developer", "tool", "function"]
    content: Annotated[
        str,
        StringConstraints(strip_whitespace=True),
        BeforeValidator(_read_content),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}, {"type": "null"}]}
        ),
    ] = ""

    @model_validator(mode="after")
    def _check_content(self) -> "Message":
        if self.role == "user" and "content" not in self.model_fields_set:
            raise ValueError("a turn of the user needs content")
        return self


def _keep_read_turns(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns of the user and the assistant that hold text; where there are none, the first turn without its text."""
    read = tuple(turn for turn in messages if turn.content and turn.role in ("user", "assistant"))
    return read or tuple(turn.model_copy(update={"content": ""}) for turn in messages[:1])


class DialogueInteraction(InteractionBase):
    """A conversation; what the user said in it is read turn by turn. Of it the texts of the user and the assistant
    are kept: not those of instructions and tools, nor images or calls."""

    type: Literal["dialogue"] = "dialogue"
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=500), AfterValidator(_keep_read_turns)]


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
