"""Every call of the REST API as a record: the request, and the parser of its answer.

A function here builds the `Call` of one endpoint and does no I/O, so the synchronous and the
asynchronous client are both thin: they send a call and parse its answer (`alignx/client/client.py`).
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json, to_json

from alignx.client.streams import ChatAnswer
from alignx.schemas.interactions import Interaction
from alignx.schemas.items import CatalogueItem, OfferedItem
from alignx.schemas.outcomes import FeedbackRequest, FeedbackStored, Uplift
from alignx.schemas.requests import (
    CatalogueRequest,
    CatalogueStored,
    ChatMode,
    EditRequest,
    EventsAccepted,
    EventsRequest,
    Method,
    RecommendRequest,
    RecommendResponse,
    RetryQueued,
    RetryRequest,
    RollbackRequest,
    SelectRequest,
    SelectResponse,
    UpdateQueued,
)
from alignx.schemas.status import Readiness
from alignx.schemas.summaries import (
    DeadLetterList,
    InteractionList,
    ModelTrial,
    Order,
    Preferences,
    Prequential,
    RejectedDraftList,
    SummaryVersion,
    VersionDiff,
    VersionList,
)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

QUALITY: TypeAdapter[dict[str, Prequential]] = TypeAdapter(dict[str, Prequential])

READ_TIMEOUT_S = 60.0
CHAT_TIMEOUT_S = 180.0
WAIT_MARGIN_S = 15.0
"""Added to `Prefer: wait`, so that the service and not the client decides when waiting ends."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and the reader of its answer."""

    method: str
    path: str
    """Percent-encoded."""
    read: Callable[[httpx.Response], T]
    params: Mapping[str, str | float] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    """A JSON body."""
    repeatable: bool = True
    """Whether sending it twice has the effect of sending it once."""
    accepts: frozenset[int] = frozenset()
    """Statuses outside 2xx that `read` understands."""
    timeout_s: float = READ_TIMEOUT_S
    """Longest silence of the service."""


class PreferencesRead(Preferences):
    """A summary as it was read, with the ETag that a later edit or rollback must name."""

    etag: str


def user_path(user: str, rest: str) -> str:
    """`/v1/users/<user>/<rest>` with the id as one segment, whatever it holds."""
    segment = quote(user, safe="")
    if not segment.strip("."):
        # "." and ".." would be resolved as folders, and name another resource.
        segment = segment.replace(".", "%2E")
    return f"/v1/users/{segment}/{rest}".rstrip("/")


def parse(model: type[M]) -> Callable[[httpx.Response], M]:
    return lambda response: model.model_validate_json(response.content)


def _parse_preferences(response: httpx.Response) -> PreferencesRead:
    fields = from_json(response.content)
    etag = response.headers.get("ETag") or f'"{fields["version"]}"'
    return PreferencesRead.model_validate_json(to_json({**fields, "etag": etag}))


def get(path: str, model: type[M], **params: str | int | None) -> Call[M]:
    return Call("GET", path, parse(model), params=_drop_none(**params))


def ignore_body(_response: httpx.Response) -> None:
    return None


def dump(model: BaseModel) -> bytes:
    return model.model_dump_json().encode()


def post(path: str, model: type[M], body: BaseModel | None = None, **more: Any) -> Call[M]:
    """`more` are further fields of the call."""
    return Call("POST", path, parse(model), content=None if body is None else dump(body), **more)


def _drop_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# --- history -----------------------------------------------------------------------------------


def append(
    user: str,
    events: Sequence[Interaction],
    *,
    wait: float | None = None,
    idempotency_key: str | None = None,
    backfill: bool = False,
) -> Call[EventsAccepted]:
    """Appends events in the order given. `wait` seconds for the summary that includes them. A `backfill` is history
    from elsewhere: the summary is rewritten once, after its last call.

    Without an `idempotency_key` it makes one, so that a retry after a broken connection stores no event twice.
    """
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    if wait is not None:
        headers["Prefer"] = f"wait={wait:g}"
    body = EventsRequest(events=tuple(events), backfill=backfill)
    timeout_s = (READ_TIMEOUT_S if wait is None else wait) + WAIT_MARGIN_S
    return post(user_path(user, "events"), EventsAccepted, body, headers=headers, timeout_s=timeout_s)


def events(
    user: str, *, after: str | None = None, limit: int | None = None, order: Order | None = None
) -> Call[InteractionList]:
    """A page of the history, oldest first, or newest first by the order "desc"; `after` is the last event of the page
    before in the same order."""
    return get(user_path(user, "events"), InteractionList, after=after, limit=limit, order=order)


def dead_letters(user: str, *, after: str | None = None, limit: int | None = None) -> Call[DeadLetterList]:
    """A page of the events that could not be read into the summary."""
    return get(user_path(user, "dead-letters"), DeadLetterList, after=after, limit=limit)


def retry_dead_letters(user: str, event_ids: Sequence[str] | None = None) -> Call[RetryQueued]:
    """Puts dead letters back behind the user's pending events: those of `event_ids`, or all. Repeating the
    call puts none back twice."""
    body = RetryRequest(event_ids=None if event_ids is None else tuple(event_ids))
    return post(user_path(user, "dead-letters/retry"), RetryQueued, body)


def export(user: str) -> Call[None]:
    """All data of a user as JSON lines; read as a stream by `AlignX.export`."""
    return Call("GET", user_path(user, "export"), ignore_body)


def erase(user: str) -> Call[None]:
    """Erases all data of a user."""
    return Call("DELETE", user_path(user, ""), ignore_body)


# --- summary -----------------------------------------------------------------------------------


def preferences(user: str) -> Call[PreferencesRead]:
    """The current summary."""
    return Call("GET", user_path(user, "preferences"), _parse_preferences)


def preferences_if_changed(user: str, etag: str) -> Call[PreferencesRead | None]:
    """The current summary, or None while it is still the one with this ETag."""

    def read(response: httpx.Response) -> PreferencesRead | None:
        return None if response.status_code == httpx.codes.NOT_MODIFIED else _parse_preferences(response)

    path, unchanged = user_path(user, "preferences"), frozenset({int(httpx.codes.NOT_MODIFIED)})
    return Call("GET", path, read, headers={"If-None-Match": etag}, accepts=unchanged)


def summary_stream(user: str, last_event_id: str | None = None) -> Call[None]:
    """The event stream of a summary; read by `AlignX.watch`."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_event_id} if last_event_id else {})}
    return Call("GET", user_path(user, "preferences/stream"), ignore_body, headers=headers)


def versions(user: str, *, before: int | None = None, limit: int | None = None) -> Call[VersionList]:
    """A page of the summary's versions, newest first."""
    return get(user_path(user, "preferences/versions"), VersionList, before=before, limit=limit)


def version(user: str, number: int) -> Call[SummaryVersion]:
    """One version of the summary."""
    return get(user_path(user, f"preferences/versions/{number}"), SummaryVersion)


def rejected(user: str) -> Call[RejectedDraftList]:
    """The latest replies of the engine that were no summary, newest first, each with the check that refused it."""
    return get(user_path(user, "preferences/rejected"), RejectedDraftList)


def diff(user: str, from_version: int, to_version: int) -> Call[VersionDiff]:
    """What changed between two versions."""
    return get(user_path(user, "preferences/diff"), VersionDiff, **{"from": from_version, "to": to_version})


def edit(user: str, text: str, *, if_match: str) -> Call[PreferencesRead]:
    """Replaces the text of the summary that has this ETag; 412 if it has changed since."""
    return _write("PUT", user_path(user, "preferences"), EditRequest(text=text), if_match)


def rollback(user: str, number: int, *, if_match: str) -> Call[PreferencesRead]:
    """Makes an earlier version's text current again, as a new version; 412 as for `edit`."""
    return _write("POST", user_path(user, "preferences/rollback"), RollbackRequest(version=number), if_match)


def _write(method: str, path: str, body: BaseModel, if_match: str) -> Call[PreferencesRead]:
    return Call(method, path, _parse_preferences, headers={"If-Match": if_match}, content=dump(body))


def rebuild(user: str) -> Call[UpdateQueued]:
    """Requests a new summary from the whole history, dead letters included."""
    return post(user_path(user, "preferences/rebuild"), UpdateQueued)


# --- answers -----------------------------------------------------------------------------------


def put_items(items: Sequence[CatalogueItem]) -> Call[CatalogueStored]:
    """Puts up to 1,000 items into the catalogue, over those of the same ids; `select` and `recommend` then take ids."""
    return Call("PUT", "/v1/items", parse(CatalogueStored), content=dump(CatalogueRequest(items=tuple(items))))


def select(
    user: str, items: Sequence[OfferedItem], *, query: str = "", method: Method | None = None
) -> Call[SelectResponse]:
    """The probability that the user would choose each of 2 to 26 items."""
    body = SelectRequest(query=query, items=tuple(items), method=method)
    return post(user_path(user, "select"), SelectResponse, body, timeout_s=CHAT_TIMEOUT_S)


def recommend(
    user: str,
    candidates: Sequence[OfferedItem],
    *,
    query: str = "",
    k: int = 10,
    method: Method | None = None,
    explain: bool = False,
) -> Call[RecommendResponse]:
    """The k candidates that suit the user best, best first."""
    body = RecommendRequest(query=query, candidates=tuple(candidates), k=k, method=method, explain=explain)
    return post(user_path(user, "recommend"), RecommendResponse, body, timeout_s=CHAT_TIMEOUT_S)


def chat(
    messages: Sequence[Mapping[str, str]],
    *,
    user: str | None = None,
    mode: ChatMode | None = None,
    max_history: int | None = None,
    learn: bool | None = None,
    axes: Mapping[str, float] | None = None,
    model: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    stream: bool = False,
) -> Call[ChatAnswer]:
    """An answer to the last message, conditioned on the user as `mode` says.

    Default mode: "summary" with a user, "none" without. `learn`: whether the last message and the answer become an
    event of the user's history; default: as the tenant's settings say. `axes` weighs `helpful`, `harmless` and
    `honest`, where the deployment serves axis adapters.
    """
    weights = None if axes is None else dict(axes)
    personalization = _drop_none(mode=mode, max_history=max_history, learn=learn, axes=weights)
    more = _drop_none(user=user, model=model, max_tokens=max_tokens, temperature=temperature, stream=stream or None)
    body = {"messages": [dict(turn) for turn in messages], **more}
    content = to_json(body | ({"personalization": personalization} if personalization else {}))
    path = "/v1/chat/completions"
    return Call("POST", path, ChatAnswer.from_response, content=content, timeout_s=CHAT_TIMEOUT_S)


def models() -> Call[tuple[str, ...]]:
    """The names of the models that chat can use; empty without an engine."""
    return Call(
        "GET", "/v1/models", lambda response: tuple(str(each["id"]) for each in from_json(response.content)["data"])
    )


def feedback(
    response_id: str,
    *,
    user: str | None = None,
    thumb: Literal["up", "down"] | None = None,
    picked: int | None = None,
    query: str = "",
    chosen: str | None = None,
    rejected: str | None = None,
) -> Call[FeedbackStored]:
    """Tells what the user made of an answer: a thumb, the `index` of the item picked, or the reply that was `chosen`
    over another to `query`, which becomes a comparison of the history. Sent again it changes nothing."""
    body = FeedbackRequest(
        response_id=response_id, user=user, thumb=thumb, picked=picked, query=query, chosen=chosen, rejected=rejected
    )
    return post("/v1/feedback", FeedbackStored, body)


# --- service -----------------------------------------------------------------------------------


def ready() -> Call[Readiness]:
    """Whether the service and its dependencies answer; needs no key."""
    return Call("GET", "/readyz", parse(Readiness), accepts=frozenset({503}))


def quality() -> Call[dict[str, Prequential]]:
    """How well the summaries of all the key's users predict choices, by scorer."""
    return Call("GET", "/v1/quality", lambda response: QUALITY.validate_json(response.content))


def model_trial() -> Call[ModelTrial]:
    """Whether a new model may write the summaries of the key's users."""
    return get("/v1/quality/trial", ModelTrial)


def uplift() -> Call[Uplift]:
    """What became of answers with and without personalization, and the difference with its 95 % interval."""
    return get("/v1/quality/uplift", Uplift)
