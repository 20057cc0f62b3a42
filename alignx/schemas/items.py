"""Items, which a user can choose: a text, or named fields; and the base class of every schema.

All models are frozen and refuse unknown fields, so that a typo in a field name is an error. Sizes that
a deployment can change (bytes of an event, events of a call) are settings; the services check them.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from unicodedata import normalize

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    StrictFloat,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)


def compose(text: str) -> str:
    """The text in NFC, so that both forms of an accent are one."""
    return text if text.isascii() else normalize("NFC", text)


def read_id(value: object) -> object:
    """A whole number as its digits."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


UserId = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^/\x00-\x1f\x7f]+$"), BeforeValidator(read_id)
]
"""Your own id of a user: 1 to 256 characters, no slash, no control character. A whole number counts as its digits."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(compose)]
Scalar = str | int | float | bool | None
ITEM_LEVELS = 16
"""How deep lists and objects may be nested in an item's further fields."""
EVENT_BYTES = 64 * 1024
"""Largest event, as JSON, unless the deployment's settings say otherwise."""
MAX_CHOICES = 26
"""Items of one selection: one capital letter each."""


class Frozen(BaseModel):
    """Base of every schema: immutable, strict about field names, documented by its docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="null")


ItemId = Annotated[
    str,
    BeforeValidator(read_id),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
]
"""Your own id of an item; a whole number counts as its digits."""


class ItemFields(Frozen):
    """An item with named fields. Further fields (brand, genres, …) are kept and rendered. The profile also reads
    `year`, and `popularity`: a count of how many have taken the item, or of takings in a thousand showings, whose
    logarithm adds to the score whatever else is known of the user. Models are not shown it."""

    model_config = ConfigDict(extra="allow")

    id: ItemId | None = None
    title: Text
    description: str | None = None
    category: str | None = None
    price: StrictFloat | str | None = None

    @model_validator(mode="after")
    def _check_depth(self) -> "ItemFields":
        if is_deeper(self.model_extra, ITEM_LEVELS):
            raise ValueError(f"fields may be nested {ITEM_LEVELS} levels deep")
        return self


POPULARITY_FIELD = "popularity"
"""A count that the caller supplies: how many took the item, or how often in a thousand displays. Part of the
score, not of the item's text."""
ITEM_FORM = "item:"
"""What pydantic's path to a field of an item names its form by: no part of what the caller wrote."""
Item = Annotated[
    Annotated[str, Tag(ITEM_FORM + "text")] | Annotated[ItemFields, Tag(ITEM_FORM + "fields")],
    Discriminator(lambda value: ITEM_FORM + ("text" if isinstance(value, str) else "fields")),
]
"""What a user can choose: a text, or named fields that are rendered to text."""


class ItemReference(Frozen):
    """An item of the tenant's catalogue, by its id alone."""

    id: ItemId


class CatalogueItem(ItemFields):
    """An item of a catalogue, which others name by its id."""

    id: Annotated[ItemId, StringConstraints(min_length=1)]


def _find_form(value: object) -> str:
    if isinstance(value, str):
        return ITEM_FORM + "text"
    is_reference = isinstance(value, ItemReference) or (isinstance(value, Mapping) and value.keys() == {"id"})
    return ITEM_FORM + ("reference" if is_reference else "fields")


OfferedItem = Annotated[
    Annotated[str, Tag(ITEM_FORM + "text")]
    | Annotated[ItemFields, Tag(ITEM_FORM + "fields")]
    | Annotated[ItemReference, Tag(ITEM_FORM + "reference")],
    Discriminator(_find_form),
]
"""An item of a selection or recommendation. A text is the id of a catalogue's item where any of the texts is one."""


def item_text(item: Item) -> str:
    """`Title` for a title alone, else `Title (category: games; price: 5; …) — description`; without its popularity."""
    if isinstance(item, str):
        return item
    facts = "; ".join(f"{name}: {value}" for name, value in item_facts(item).items())
    text = f"{item.title} ({facts})" if facts else item.title
    return f"{text} — {item.description}" if item.description else text


def item_facts(item: ItemFields) -> dict[str, str]:
    """The fields beside title and description, as text; without popularity."""
    fields: dict[str, Any] = {"category": item.category, "price": item.price, **(item.model_extra or {})}
    return {
        name: _flatten(value)
        for name, value in fields.items()
        if name.lower() != POPULARITY_FIELD and value not in (None, "", [])
    }


def is_deeper(value: object, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels < 0 or any(is_deeper(inner, levels - 1) for inner in value)


def _flatten(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flatten(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_flatten(inner) for inner in value)
    return str(value)


def is_blank(item: Item) -> bool:
    return not item_text(item).strip()


def is_none(value: object) -> bool:
    return value is None
