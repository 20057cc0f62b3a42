"""The fast profile in words: a summary in plain sentences, one paragraph a subject, and what each of them rests on."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import Final

from alignx.schemas.summaries import Claim
from services.profile.claims.evidence import Sentence
from services.profile.claims.sentences import sentences
from services.profile.stated.sensitive import DEFAULT, Policy
from services.profile.statistics import Profile, day_of

_PARAGRAPHS: Final = {"price": "offer", "year": "offer"}
"""Kinds of sentences that stand in one paragraph; of any other, the kind names it."""


def render(profile: Profile, policy: Policy = DEFAULT) -> str:
    """First what the user says, then what behaviour shows, and how much of it there is."""
    counted = profile.events - profile.left_out
    events = "1 event" if counted == 1 else f"{counted} events"
    paragraphs = [
        "\n".join(texts) if kind in ("own", "stated", "fact") else " ".join(texts)
        for kind, texts in (
            (kind, [sentence.text for sentence in group])
            for kind, group in groupby(sentences(profile, policy), lambda said: _PARAGRAPHS.get(said.kind, said.kind))
        )
    ]
    if not paragraphs:
        known = f"No clear preference shows yet, after {events}."
        return known if counted else "Nothing is known about this user's preferences yet."
    return "\n".join([*paragraphs, f"Based on {events} so far."] if counted else paragraphs)


def make_claims(profile: Profile, event_ids: Sequence[str], policy: Policy = DEFAULT) -> tuple[Claim, ...]:
    """The sentences of `render`, in their order, with their evidence. `event_ids` are of the newest events, which the
    profile has folded last, oldest first; earlier ones are counted and not named."""
    first = profile.events - len(event_ids) + 1
    by_number = dict(enumerate(event_ids, first))
    return tuple(
        Claim(
            id=sentence.key,
            text=sentence.text,
            kind=sentence.kind,
            support=tuple(by_number[number] for number in sentence.events if number in by_number),
            count=max(sentence.counted, len(sentence.events)),
            since=_date(sentence, by_number.get(sentence.since)),
        )
        for sentence in sentences(profile, policy)
    )


def _date(sentence: Sentence, event_id: str | None) -> datetime | None:
    """When the event was received from which on the claim stands, or the day on which it is said to have occurred."""
    received = datetime.fromtimestamp(int(event_id.split("-")[0]) / 1000, UTC) if event_id else None
    if sentence.day and sentence.day != day_of(received):
        return datetime.combine(date.fromordinal(sentence.day), time.min, UTC)
    return received
