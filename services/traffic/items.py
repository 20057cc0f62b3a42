"""The items of an event, and the keys by which a tenant's traffic is counted.

An item is known by its id, else by its title. A key is a hash of that, so that it has one length, names no bucket by
its text and cannot be read back.
"""

import unicodedata
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    Interaction,
    PurchaseInteraction,
    RatingInteraction,
)
from alignx.schemas.items import Item

KEY_CHARS: Final = 8
BUCKETS: Final = 8
"""Parts of a tenant's items, each with a hash tag of its own. Part of the stored data: never change it."""
MAX_NAME: Final = 200
"""Characters of a text that may be the name of an item; a longer one is prose, which no two users share."""
MAX_OTHERS: Final = 64
"""Items of one event that count as shown, beside the one taken."""
_CACHED: Final = 1 << 16
"""Keys of each sort kept in memory: a catalogue's come again with each recommendation."""
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_BUCKET: Final = {letter: place * BUCKETS // len(_ALPHABET) for place, letter in enumerate(_ALPHABET)}


class Contact(NamedTuple):
    """An item that a user met."""

    key: str
    category: str
    """The key of its category, or of none."""


class Contacts(NamedTuple):
    """The items of one event."""

    taken: Contact | None
    """The one that the user took, or rated above the middle."""
    others: tuple[Contact, ...]
    """Shown and not taken."""


@lru_cache(_CACHED)
def _hash(kind: str, text: str) -> str:
    return urlsafe_b64encode(blake2b(f"{kind}\0{text}".encode(), digest_size=6).digest()).decode()


def _normalize(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


NO_CATEGORY: Final = _hash("c", "")


@lru_cache(_CACHED)
def _hash_words(kind: str, text: str) -> str:
    """One key for all ways to write the same words."""
    return _hash(kind, _normalize(text))


def id_key(item_id: str) -> str:
    return _hash("i", item_id)


def item_key(item: Item) -> str | None:
    """None for prose."""
    if isinstance(item, str):
        return _hash_words("t", item) if len(item) <= MAX_NAME else None
    return id_key(item.id) if item.id else _hash_words("t", item.title[:MAX_NAME])


def category_key(item: Item) -> str:
    if isinstance(item, str) or not item.category:
        return NO_CATEGORY
    return _hash_words("c", item.category[:MAX_NAME])


def bucket_of(key: str) -> int:
    return _BUCKET[key[0]]


def find_contact(item: Item) -> Contact | None:
    key = item_key(item)
    return None if key is None else Contact(key, category_key(item))


def find_contacts(event: Interaction) -> Contacts:
    """The items that the event shows and takes; of one that stands twice, the first."""
    taken, others = _split(event)
    first = find_contact(taken) if taken is not None else None
    rest = {found.key: found for item in others[: MAX_OTHERS + 1] if (found := find_contact(item))}
    if first:
        rest.pop(first.key, None)
    return Contacts(first, tuple(rest.values())[:MAX_OTHERS])


def _split(event: Interaction) -> tuple[Item | None, tuple[Item, ...]]:
    match event:
        case ComparisonInteraction():
            return event.chosen, (event.rejected,)
        case ClickInteraction():
            return event.clicked, event.shown
        case PurchaseInteraction():
            return event.item, event.considered
        case RatingInteraction():
            return (event.item, ()) if event.liking > 0 else (None, (event.item,))
    return None, ()


def has_items(event: Interaction) -> bool:
    return _split(event) != (None, ())


def find_choice(event: Interaction) -> Item | None:
    """The item that the event takes, or rates above the middle."""
    return _split(event)[0]


def find_taken(event: Interaction) -> Item | None:
    """The item that the event takes by itself; None where it shows others beside it."""
    taken, others = _split(event)
    return None if others else taken
