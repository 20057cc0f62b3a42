"""The calls on many users of the key's tenant (list, append, erase), which user tokens cannot make, and those that
forget single events of a user."""

import gzip
import uuid
from collections.abc import Sequence
from typing import Final

import httpx

from alignx.client.endpoints import Call, dump, get, parse, post, user_path
from alignx.schemas.forgetting import ForgetRequest, Forgotten
from alignx.schemas.many_users import EraseRequest, LineOutcome, UserEvents, UserPage, UsersErased

PACKED_BYTES: Final = 1 << 14
"""A body from which on it is sent as gzip."""


def users(*, prefix: str | None = None, after: str | None = None, limit: int | None = None) -> Call[UserPage]:
    """A page of the users, in the order of their ids, and how many there are; `prefix` is what the ids begin with."""
    return get("/v1/users", UserPage, prefix=prefix, after=after, limit=limit)


def append_many(lines: Sequence[UserEvents]) -> Call[tuple[LineOutcome, ...]]:
    """Appends events for many users in one call. An outcome tells of each line, in order: one that is refused stops no
    other, so a refusal raises nothing. `append_all` sends lines without end, and again what the service could not take.

    A line without an `idempotency_key` gets one, so that a retry after a broken connection stores no event twice.
    """
    return send_lines([encode_line(line) for line in lines])


def encode_line(line: UserEvents) -> bytes:
    key = line.idempotency_key or uuid.uuid4().hex
    return dump(line.model_copy(update={"idempotency_key": key}))


def send_lines(lines: Sequence[bytes]) -> Call[tuple[LineOutcome, ...]]:
    """The call of encoded lines."""

    def read(response: httpx.Response) -> tuple[LineOutcome, ...]:
        outcomes = tuple(LineOutcome.model_validate_json(row) for row in response.content.splitlines())
        if len(outcomes) != len(lines):
            raise ValueError(f"{len(outcomes)} outcomes of {len(lines)} lines")
        return outcomes

    body, headers = b"\n".join(lines), {"Content-Type": "application/jsonl"}
    if len(body) >= PACKED_BYTES:
        body, headers = gzip.compress(body, 3, mtime=0), {**headers, "Content-Encoding": "gzip"}
    return Call("POST", "/v1/events", read, headers=headers, content=body)


def erase_users(
    users: Sequence[str] | None = None, *, prefix: str | None = None, limit: int | None = None
) -> Call[UsersErased]:
    """Erases the named users, or up to `limit` of those whose ids have the prefix. While the answer's `left` is not 0,
    call again."""
    named = None if users is None else tuple(users)
    more = {} if limit is None else {"limit": limit}
    body = EraseRequest.model_validate({"users": named, "prefix": prefix, **more})
    return post("/v1/erasures", UsersErased, body)


def forget_event(user: str, event_id: str) -> Call[Forgotten]:
    """Removes an event and all that came of it: versions of the summary since, its share of the profile. The summary is
    written anew from what is left. 404 for an event that is not kept (any more)."""
    return Call("DELETE", user_path(user, f"events/{event_id}"), parse(Forgotten))


def forget_about(user: str, about: str, *, dry_run: bool = False) -> Call[Forgotten]:
    """Removes, as `forget_event` does, all events that are about an item (its id or title) or hold all of some
    words. A `dry_run` only tells what would go."""
    return post(user_path(user, "forget"), Forgotten, ForgetRequest(about=about, dry_run=dry_run))
