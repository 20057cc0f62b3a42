"""Bodies of the calls on many users of a tenant: the list, the append and the erasure."""

from typing import Annotated, Any

from pydantic import AwareDatetime, Field, NonNegativeInt, StringConstraints, model_validator

from alignx.schemas.items import Frozen, UserId
from alignx.schemas.requests import EventsAccepted, EventsRequest

MAX_ERASED = 1_000
"""Users whom one call erases."""
UserPrefix = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ListedUser(Frozen):
    """A user and the numbers kept beside the history."""

    user: str
    created_at: AwareDatetime
    """When the first event or text of the user came."""
    events: NonNegativeInt
    """Events ever accepted."""
    pending: NonNegativeInt
    """Those of them that the summary does not include yet."""
    version: NonNegativeInt
    """Of the current summary; 0 while there is none."""
    updated_at: AwareDatetime | None = None
    """When that version was written; null where an earlier release wrote it."""


class UserPage(Frozen):
    """Users in the order of their ids, by code points."""

    users: tuple[ListedUser, ...]
    total: NonNegativeInt
    """Users of the tenant, or with the `prefix`, on all pages."""
    next: str | None = None
    """`after` of the next page; null on the last one."""


class UserEvents(EventsRequest):
    """A line of an append for many users: what one call for this user would hold."""

    user: UserId
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    """As the header `Idempotency-Key` of a call for one user."""


class LineOutcome(Frozen):
    """What became of a line."""

    line: Annotated[int, Field(ge=1)]
    """Its number in the body, blank lines counted."""
    status: int
    """202, or that of the problem."""
    user: str | None = None
    """Null where the line could not be read."""
    accepted: EventsAccepted | None = None
    problem: dict[str, Any] | None = None
    """Why nothing of the line was stored (RFC 9457)."""
    retry_after: float | None = None
    """Seconds after which the line may be sent again; null where that is pointless."""


class EraseRequest(Frozen):
    """Whom to erase: `users`, or all whose id begins with `prefix`."""

    users: Annotated[tuple[UserId, ...], Field(min_length=1, max_length=MAX_ERASED)] | None = None
    prefix: UserPrefix | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_ERASED)] = MAX_ERASED
    """Of a prefix: users whom this call erases at most."""

    @model_validator(mode="after")
    def _check_choice(self) -> "EraseRequest":
        if (self.users is None) == (self.prefix is None):
            raise ValueError("name either users or a prefix")
        return self


class UsersErased(Frozen):
    """Nothing is kept of the users in `erased`. While `left` is not 0, send the same call again."""

    erased: tuple[str, ...]
    unknown: NonNegativeInt = 0
    """Named users of whom nothing was kept: perhaps an earlier call has erased them."""
    left: NonNegativeInt = 0
    """Users who are still to be erased."""
