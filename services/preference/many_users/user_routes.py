"""The REST calls on many users of a tenant: list, append, erase. For API keys alone, never for user tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import StreamingResponse

from alignx.schemas.many_users import EraseRequest, UserPage, UsersErased
from services.preference.many_users.bulk_append import MAX_LINES, BulkAppend, measure_cost, read_body
from services.preference.routes import Limit, Service, Tenant
from services.server.body_lists import ListRoute

_ERASED_OF_ONE, _LISTED_OF_ONE = 10, 200
"""Users whose erasure, or whose place on a page, takes the time of one request."""
JSON_LINES = "application/jsonl"
_LINE = '{"user": "ada", "events": [{"type": "statement", "text": "I want sources."}], "idempotency_key": "import-1"}\n'
_OUTCOME = '{"line":1,"status":202,"user":"ada","accepted":{"ids":["1763700000000-0"],"pending":1}}\n'
_ERASE_EXAMPLES: dict[str, Any] = {
    "users": {"summary": "By their ids", "value": {"users": ["ada", "bob"]}},
    "prefix": {"summary": "All of a prefix", "value": {"prefix": "test-"}},
}


Erase = Annotated[EraseRequest, Body(openapi_examples=_ERASE_EXAMPLES)]


def _json_lines(about: str, example: str) -> dict[str, Any]:
    """The content of a body of JSON lines; OpenAPI 3.1 has no word for a sequence of documents."""
    return {JSON_LINES: {"schema": {"type": "string", "description": about}, "example": example}}


_LINES = _json_lines(
    "A line each: `user`, `events` (as of an append for one user), and perhaps `idempotency_key` and `backfill`; "
    f"{MAX_LINES:,} lines at most.",
    _LINE,
)
_OUTCOMES = _json_lines(
    "A line each: `line`, `status`, `user`, and either `accepted` (as an append for one user answers) or `problem`, "
    "with `retry_after` where the line may be sent again.",
    _OUTCOME,
)
router = APIRouter(prefix="/v1", route_class=ListRoute)


@router.get(
    "/users",
    response_model=UserPage,
    operation_id="users",
    tags=["users"],
    summary="List users by their ids",
)
async def list_users(
    tenant: Tenant,
    request: Request,
    service: Service,
    prefix: Annotated[str, Query(max_length=256, description="What the ids begin with.", examples=["shop-"])] = "",
    after: Annotated[str | None, Query(max_length=256, description="`next` of the page before.")] = None,
    limit: Limit = 100,
) -> Response:
    """A page of the tenant's users in the order of their ids (by code points), each with its counts, and how many
    there are in all. Users who come or go between two pages move no other: a page starts behind an id."""
    page = await service.index.page(tenant, prefix, after, limit)
    request.scope["state"]["cost"] = len(page.users) / _LISTED_OF_ONE
    return Response(page.model_dump_json(), media_type="application/json")


@router.post(
    "/events",
    status_code=207,
    response_class=StreamingResponse,
    operation_id="append_many",
    tags=["history"],
    summary="Append interactions of many users",
    responses={
        207: {"description": "A line for each line, in order", "content": _OUTCOMES},
        400: {"description": "The body is not the gzip that it is said to be"},
        413: {"description": "The body has too many bytes or lines; nothing is stored"},
        415: {"description": "The Content-Encoding is not gzip"},
    },
    openapi_extra={"requestBody": {"required": True, "content": _LINES}},
)
async def append_many(tenant: Tenant, request: Request, service: Service) -> StreamingResponse:
    """JSON lines, each with a user, their events and perhaps an idempotency key: what a call for this user alone
    would hold. The body may be gzip (`Content-Encoding`). The answer has a line for each line, in order, with the
    status 202 or a problem; a line that is refused stops no other. Where `retry_after` is given the line may be sent
    again: then the user's lines behind it were not stored either, so that all stay in order. Each line counts as one
    request of the key's rate."""
    body = await read_body(request, service.settings.limits.body_bytes)
    request.scope["state"]["cost"] = await measure_cost(body)
    answer = BulkAppend(service.append, tenant).answer(body)
    return StreamingResponse(answer, status_code=207, media_type=JSON_LINES)


@router.post("/erasures", operation_id="erase_users", tags=["users"], summary="Erase many users")
async def erase_users(tenant: Tenant, request: Request, body: Erase, service: Service) -> UsersErased:
    """Erases the named users, or up to `limit` of those whose ids have the prefix. Nothing of them stays. The call can
    be repeated: send it again until `left` is 0. Each user erased stands in the audit log."""
    erased = await service.erase_many(tenant, body)
    request.scope["state"]["cost"] = len(erased.erased) / _ERASED_OF_ONE
    return erased
