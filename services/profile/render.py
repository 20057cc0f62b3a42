"""The fast profile in words: a summary in plain sentences, one paragraph a subject."""

from itertools import groupby

from services.profile.claims.sentences import sentences
from services.profile.statistics import Profile

_PARAGRAPHS = {"price": "offer", "year": "offer"}
"""Kinds of sentences that stand in one paragraph; of any other, the kind names it."""


def render(profile: Profile) -> str:
    """First what the user says, then what behaviour shows, and how much of it there is."""
    counted = profile.events - profile.left_out
    events = "1 event" if counted == 1 else f"{counted} events"
    paragraphs = [
        "\n".join(texts) if kind in ("own", "stated", "fact") else " ".join(texts)
        for kind, texts in (
            (kind, [sentence.text for sentence in group])
            for kind, group in groupby(sentences(profile), lambda said: _PARAGRAPHS.get(said.kind, said.kind))
        )
    ]
    if not paragraphs:
        known = f"No clear preference shows yet, after {events}."
        return known if counted else "Nothing is known about this user's preferences yet."
    return "\n".join([*paragraphs, f"Based on {events} so far."] if counted else paragraphs)
