"""The choices that an event of the log shows, as the features of its items were before it."""

import time
from collections.abc import Mapping
from math import log
from typing import Final, NamedTuple

from pydantic import ValidationError

from alignx.schemas.interactions import INTERACTION, Interaction
from services.engine.choice.fusion import kind_of
from services.storage.user_profile import parse_event_id
from services.traffic.counts import Counts
from services.traffic.features import Traffic, compare_popularity, measure_nearness
from services.traffic.items import Contact, find_contact, find_contacts
from services.traffic.journal import Journal
from services.traffic.mixture import Features, Kind, subtract
from services.traffic.negatives import Drawn

_PAIRS: Final = 4
"""Choices of one event that teach: as many as the log keeps predictions of."""
_HOUR_MS: Final = 3_600_000
_TEACHES_MS: Final = _HOUR_MS
"""Age of an event past which it teaches nothing: a history that is read again has taught already."""
_CERTAIN: Final = 1e-9


class Entry(NamedTuple):
    """An event of a user's log."""

    event_id: str
    event: Interaction
    predicted: tuple[float, ...]
    """By the profile, of each of the event's first choices."""
    drawn: Drawn | None

    @property
    def received_ms(self) -> int:
        return parse_event_id(self.event_id)[0]

    @property
    def hour(self) -> int:
        """Since 1970; when it happened, as far as that is before it was received."""
        happened = self.event.occurred_at
        at = min(self.received_ms, int(happened.timestamp() * 1000)) if happened else self.received_ms
        return max(0, at // _HOUR_MS)

    @property
    def compared(self) -> list[Contact]:
        """The items whose features the event compares."""
        if self.drawn:
            taken = find_contacts(self.event).taken
            return [Contact(self.drawn.key, self.drawn.category), *([taken] if taken else [])]
        if not self.predicted:
            return []
        items = [item for pair in self.event.pairs()[:_PAIRS] for item in (pair.chosen, pair.rejected)]
        return [contact for item in items if (contact := find_contact(item))]


def parse_entry(event_id: str, fields: Mapping[str, str]) -> Entry | None:
    """None for an event that this release cannot read."""
    try:
        event = INTERACTION.validate_json(fields["d"])
    except ValidationError:
        return None
    drawn = Drawn.parse(fields["x"]) if fields.get("x") else None
    return Entry(event_id, event, tuple(map(float, fields.get("p", "").split())), drawn)


class Comparison(NamedTuple):
    kind: Kind
    difference: Features


class Past(NamedTuple):
    """What is known of items before an event."""

    counts: Mapping[str, Counts]
    neighbours: Mapping[str, Mapping[str, str]]
    least_users: int


def compare(entry: Entry, past: Past, journal: Journal) -> list[Comparison]:
    """The choices of an event of the journal's user, which does not hold it yet."""
    if time.time() * 1000 - entry.received_ms > _TEACHES_MS or not (entry.predicted or entry.drawn):
        return []
    traffic = Traffic(past.counts, entry.hour, past.least_users)
    likes = journal.recent_likes()
    views = {like.key: traffic.view(like) for like in likes}
    near = measure_nearness(list(views), views, past.neighbours, past.least_users)

    def subtract_views(first: Contact | None, second: Contact | None) -> Features:
        rows = [
            traffic.view(contact).features(near.get(contact.key, 0.0) if contact else 0.0)
            for contact in (first, second)
        ]
        return subtract(*rows)

    if entry.drawn:
        taken, other = find_contacts(entry.event).taken, Contact(entry.drawn.key, entry.drawn.category)
        met = journal.likes.keys() | journal.shown.keys()
        # One that nobody has met before is no fair match for one that was drawn from those that others met.
        if taken is None or taken.key not in past.counts or not met.isdisjoint((taken.key, other.key)):
            return []
        difference = subtract_views(taken, other)
        return [Comparison("drawn", difference._replace(profile=entry.drawn.odds, given=entry.drawn.given))]
    comparisons = []
    for pair, probability in zip(entry.event.pairs()[:_PAIRS], entry.predicted, strict=False):
        chosen, rejected = find_contact(pair.chosen), find_contact(pair.rejected)
        if chosen or rejected:
            difference = subtract_views(chosen, rejected)
            given = compare_popularity(pair.chosen, pair.rejected)
            odds = log(max(_CERTAIN, probability) / max(_CERTAIN, 1 - probability)) - given
            kind = kind_of((pair.chosen, pair.rejected))
            comparisons.append(Comparison(kind, difference._replace(profile=odds, given=given)))
    return comparisons
