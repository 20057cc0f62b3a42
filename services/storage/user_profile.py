"""A user's fast profile: folded from the history, and as the text of a summary version with its claims."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from alignx.schemas.summaries import Claim, EventRange, StoredInteraction, SummaryVersion
from services.profile.fold import apply_own_text, fold
from services.profile.render import make_claims, render
from services.profile.serialize import dumps
from services.profile.stated.sensitive import DEFAULT, Policy
from services.profile.statistics import EMPTY, Profile
from services.prompts.control_tokens import neutralise

USER_SOURCE = "user"
"""Source of a version that the user wrote."""


class Checkpoint(NamedTuple):
    """The profile of the events that left the log, which no sum can be taken out of any more."""

    first: str = ""
    """Id of the oldest event in it; empty where none has left the log."""
    last: str = ""
    profile: Profile = EMPTY

    def dumps(self) -> bytes:
        """As it is stored."""
        return f"{self.first} {self.last} ".encode() + dumps(self.profile)

    @property
    def first_kept(self) -> str:
        """The least id behind it."""
        milliseconds, sequence = parse_event_id(self.last)
        return f"{milliseconds}-{sequence + 1}"

    def holds(self, event_id: str) -> bool:
        """Whether an event of this id may be in it."""
        return bool(self.last) and parse_event_id(self.first) <= parse_event_id(event_id) <= parse_event_id(self.last)


class HistoryFold:
    """A profile made from a history, oldest event first, with the user's own text at its time, and without what
    rollbacks took back."""

    def __init__(self, versions: Sequence[SummaryVersion], start: Profile = EMPTY) -> None:
        """`versions` are all that are kept, `start` is the profile of the events before the first."""
        chain = _trace(versions)
        written = (one for one in chain if not one.restored_from or one is chain[-1])
        self._own = next((one for one in written if one.source == USER_SOURCE), None)
        self._left_out = list(_find_left_out(chain, versions))
        if start.own and (self._own.text if self._own else "") == start.own:
            self._own = None
        elif start.own in _taken_back(chain, versions):
            start = EMPTY
        self.profile = start

    def add(self, event: StoredInteraction) -> None:
        if self._own and event.received_at > self._own.created_at:
            self._apply_own()
        if any(first < parse_event_id(event.event_id) <= last for first, last in self._left_out):
            self.profile = replace(self.profile, events=self.profile.events + 1, left_out=self.profile.left_out + 1)
        else:
            self.profile, _ = fold(self.profile, event.interaction, event.received_at)

    def end(self) -> Profile:
        """The profile after the last event."""
        self._apply_own()
        return self.profile

    def _apply_own(self) -> None:
        if self._own:
            self.profile = apply_own_text(self.profile, self._own.text, self._own.created_at)
            self._own = None


def tell_profile(profile: Profile, event_ids: Sequence[str], policy: Policy = DEFAULT) -> tuple[str, tuple[Claim, ...]]:
    """Its text, in which no model finds control tokens, and its claims; `event_ids` are as in `make_claims`."""
    claims = make_claims(profile, event_ids, policy)
    return neutralise(render(profile, policy)), tuple(
        claim.model_copy(update={"text": neutralise(claim.text)}) for claim in claims
    )


def render_profile(profile: Profile, event_ids: Sequence[str], events: int, policy: Policy = DEFAULT) -> SummaryVersion:
    """Version 0 of a user of so many `events`."""
    text, claims = tell_profile(profile, event_ids, policy)
    return SummaryVersion(
        version=0,
        text=text,
        claims=claims,
        source="profile",
        events=EventRange(count=events),
        created_at=datetime.now(UTC),
    )


def _trace(versions: Sequence[SummaryVersion]) -> list[SummaryVersion]:
    """The newest version and those that it was made from, as far as they are kept, newest first."""
    by_number = {version.version: version for version in versions}
    chain: list[SummaryVersion] = []
    number = max(by_number, default=0)
    while version := by_number.get(number):
        chain.append(version)
        before = version.restored_from or version.parent or number - 1  # a rebuild has no parent
        number = max((other for other in by_number if other <= before), default=0)
    return chain


def _taken_back(chain: Sequence[SummaryVersion], versions: Sequence[SummaryVersion]) -> set[str]:
    """The user's own texts that a rollback took back; a later text only takes the place of one."""
    return {one.text for one in versions if one.source == USER_SOURCE and one not in chain}


def _find_left_out(chain: Sequence[SummaryVersion], versions: Sequence[SummaryVersion]) -> Iterator[tuple[Any, Any]]:
    """The events that each rollback of a `chain` took back: those after the first id, up to the second."""
    for place, version in enumerate(chain[:-1], 1):  # of the oldest it is not known what it restored
        if version.restored_from:
            undone = (one for one in versions if one.version < version.version)
            yield _last_event(chain[place:]), _last_event(undone)


def _last_event(versions: Iterable[SummaryVersion]) -> tuple[int, int]:
    return max((parse_event_id(version.events.last) for version in versions if version.events.last), default=(0, 0))


def parse_event_id(event_id: str) -> tuple[int, int]:
    """(milliseconds, sequence), which can be compared."""
    milliseconds, _, sequence = event_id.partition("-")
    return int(milliseconds), int(sequence or 0)
