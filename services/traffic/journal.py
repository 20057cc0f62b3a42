"""What one user has added to the tenant's counts, so that it can be taken out again.

The counts of an item are sums over the journals of all users. A user counts once an item, however often they take it,
and so does an event that arrives twice. What leaves a journal, because it is full or the user is forgotten, is
subtracted. Everything here is pure; services/traffic/item_store.py stores it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.traffic.items import KEY_CHARS, Contact, Contacts

MAX_LIKES: Final = 200
MAX_SHOWN: Final = 300
"""Items of a journal; the oldest leave it."""
SPAN: Final = 50
"""Likes of a user that make each other neighbours: those at most so far apart. Part of the stored data."""
_HOUR_DIGITS: Final = 6
"""Hexadecimal digits of an hour since 1970."""
ENTRY_CHARS: Final = 2 * KEY_CHARS + _HOUR_DIGITS


class Entry(NamedTuple):
    contact: Contact
    hour: int
    """Since 1970, when the user first met the item so."""


@dataclass(slots=True)
class Change:
    """What is added to the counts of one item or category."""

    users: int = 0
    likers: int = 0
    shown: dict[int, int] = field(default_factory=dict)
    """Users by the hour of showing."""
    taken: dict[int, int] = field(default_factory=dict)
    neighbours: dict[str, int] = field(default_factory=dict)
    """Users who liked both, by the key of the other item."""

    @property
    def is_empty(self) -> bool:
        sums = (*self.shown.values(), *self.taken.values(), *self.neighbours.values())
        return not (self.users or self.likers or any(sums))


class Changes(dict[str, Change]):
    """By key."""

    def __missing__(self, key: str) -> Change:
        change = self[key] = Change()
        return change


@dataclass(slots=True)
class Journal:
    """Entries by item, oldest first."""

    likes: dict[str, Entry] = field(default_factory=dict)
    shown: dict[str, Entry] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    """Entries of each category."""

    @classmethod
    def parse(cls, likes: str, shown: str) -> "Journal":
        journal = cls(_parse(likes), _parse(shown))
        for entry in (*journal.likes.values(), *journal.shown.values()):
            journal.categories[entry.contact.category] = journal.categories.get(entry.contact.category, 0) + 1
        return journal

    def texts(self) -> tuple[str, str]:
        """As `parse` reads them."""
        return _render(self.likes.values()), _render(self.shown.values())

    def recent_likes(self) -> list[Contact]:
        """The latest that make neighbours, oldest first."""
        return [entry.contact for entry in list(self.likes.values())[-SPAN:]]

    def add(self, contacts: Contacts, hour: int, changes: Changes) -> None:
        """Takes in an event of that hour, and notes in `changes` what it adds to the counts."""
        for other in contacts.others:
            if other.key not in self.likes and other.key not in self.shown:
                self._show(Entry(other, hour), changes)
        taken = contacts.taken
        if taken and taken.key not in self.likes:
            if taken.key in self.shown:
                self._hide(taken.key, changes)
            self._like(Entry(taken, hour), changes)

    def clear(self, changes: Changes) -> None:
        """Takes everything out again."""
        for key in list(self.likes):
            self._unlike(key, changes)
        for key in list(self.shown):
            self._hide(key, changes)

    def _show(self, entry: Entry, changes: Changes) -> None:
        self.shown[entry.contact.key] = entry
        self._count(entry, 1, changes, is_like=False)
        if len(self.shown) > MAX_SHOWN:
            self._hide(next(iter(self.shown)), changes)

    def _hide(self, key: str, changes: Changes) -> None:
        self._count(self.shown.pop(key), -1, changes, is_like=False)

    def _like(self, entry: Entry, changes: Changes) -> None:
        self._pair(entry.contact.key, list(self.likes)[-SPAN:], 1, changes)
        self.likes[entry.contact.key] = entry
        self._count(entry, 1, changes, is_like=True)
        if len(self.likes) > MAX_LIKES:
            self._unlike(next(iter(self.likes)), changes)

    def _unlike(self, key: str, changes: Changes) -> None:
        """Of the oldest like, whose neighbours are those that follow it."""
        entry = self.likes.pop(key)
        following = [other for other, _ in zip(self.likes, range(SPAN), strict=False)]
        self._pair(key, following, -1, changes)
        self._count(entry, -1, changes, is_like=True)

    @staticmethod
    def _pair(key: str, others: Iterable[str], step: int, changes: Changes) -> None:
        for other in others:
            for here, there in ((key, other), (other, key)):
                counts = changes[here].neighbours
                counts[there] = counts.get(there, 0) + step

    def _count(self, entry: Entry, step: int, changes: Changes, *, is_like: bool) -> None:
        key, category = entry.contact
        before = self.categories.get(category, 0)
        self.categories[category] = before + step
        was_new = (before if step > 0 else before + step) == 0
        for name, users in ((key, step), (category, step if was_new else 0)):
            change = changes[name]
            change.users += users
            change.shown[entry.hour] = change.shown.get(entry.hour, 0) + step
            if is_like:
                change.likers += step
                change.taken[entry.hour] = change.taken.get(entry.hour, 0) + step


def _render(entries: Iterable[Entry]) -> str:
    return "".join(f"{entry.contact.key}{entry.contact.category}{entry.hour:0{_HOUR_DIGITS}x}" for entry in entries)


def _parse(text: str) -> dict[str, Entry]:
    entries = [_parse_entry(text[start : start + ENTRY_CHARS]) for start in range(0, len(text), ENTRY_CHARS)]
    return {entry.contact.key: entry for entry in entries}


def _parse_entry(text: str) -> Entry:
    ends = KEY_CHARS, 2 * KEY_CHARS
    return Entry(Contact(text[: ends[0]], text[ends[0] : ends[1]]), int(text[ends[1] :], 16))


def read_recent(likes: str) -> list[Contact]:
    """The latest of a journal's likes, oldest first, without reading the others."""
    return [entry.contact for entry in _parse(likes[-SPAN * ENTRY_CHARS :]).values()]
