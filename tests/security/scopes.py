"""Keys of one scope and tokens of one user, on every call: allowed exactly where the OpenAPI document says so.

Each call's body is one that its schema allows, so a call that is allowed may fail only for want of what it names.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from alignx.schemas.tenants import SCOPES
from gateway.routing import USER_SCOPES
from tests.live.suite import Suite
from tests.security.histories import USER, Tenant, every_event, mint, without_time
from tests.security.operations import OPEN, Answer, Document, Names, Operation, Request, send

TENANT, OTHER = "scopeworks", "bob-person"
MISSING = (403, 404, 409, 412)
"""What an allowed call may answer besides success: an earlier one has ended or erased what it names, or it
would mint what its key may not do."""


@dataclass
class Scoped:
    """What keys and tokens were allowed."""

    key_calls: int = 0
    token_calls: int = 0
    allowed: int = 0
    wrong: list[str] = field(default_factory=list)
    """Calls that were allowed or refused against the document."""
    malformed: list[str] = field(default_factory=list)
    """Allowed calls that were refused for their form: a probe that proves nothing."""
    unguarded: list[str] = field(default_factory=list)
    """Calls that need no scope, though they are not among those that are open to all."""


def probe_scopes(suite: Suite) -> Scoped:
    """Every call with a key of each single scope, with a token of each, and with a token for another user."""
    document, found = Document.of(suite.url), Scoped()
    guarded = [operation for operation in document.operations if operation.scopes("key")]
    found.unguarded = [
        f"{operation.method} {operation.path}"
        for operation in document.operations
        if not operation.scopes("key") and (operation.method, operation.path) not in OPEN
    ]
    tenant = _make_tenant(suite)
    with httpx.Client(base_url=suite.url) as client:
        _probe_keys(suite, client, guarded, tenant, found)
        _probe_other_user(suite, client, guarded, tenant, found)
    return found


def _probe_keys(suite: Suite, client: httpx.Client, guarded: list[Operation], tenant: Tenant, found: Scoped) -> None:
    """Keys and tokens of each single scope."""
    for scope in SCOPES:
        key = suite.new_key(TENANT, scopes=[scope])
        for operation, request in _requests(suite, guarded, tenant.names(USER)):
            found.key_calls += 1
            is_allowed = scope in operation.scopes("key")
            _judge(found, operation, request, _ask(client, key, request), is_allowed=is_allowed)
    for scope in sorted(USER_SCOPES):
        token = mint(suite, tenant.key, USER, [scope])
        for operation, request in _requests(suite, guarded, tenant.names(USER)):
            found.token_calls += 1
            is_allowed = scope in operation.scopes("user_token")
            _judge(found, operation, request, _ask(client, token, request), is_allowed=is_allowed)


def _make_tenant(suite: Suite) -> Tenant:
    key = suite.new_key(TENANT, scopes=list(SCOPES))
    _, key_id, _ = key.split("_")
    return Tenant(TENANT, key_id, key, {})


def _requests(suite: Suite, operations: list[Operation], names: Names) -> Iterator[tuple[Operation, Request]]:
    """Each call once; those that end something last, and a key that is nobody's for those that end a key."""
    for operation in sorted(operations, key=lambda operation: operation.method == "delete"):
        if "{key_id}" in operation.path:
            names = {**names, "key_id": [suite.new_key("nobody").split("_")[1]]}
        yield operation, operation.fill(names)


def _ask(client: httpx.Client, credential: str, request: Request) -> Answer:
    return send(client, request.with_headers(Authorization=f"Bearer {credential}"))


def _is_refused(operation: Operation, answer: Answer) -> bool:
    """For want of the call's scope; a key without the scopes that it would mint is told of those."""
    if answer.status != 403:
        return answer.status == 401
    scope = json.loads(answer.text).get("scope")
    return scope is None or scope in operation.scopes("key")


def _judge(found: Scoped, operation: Operation, request: Request, answer: Answer, *, is_allowed: bool) -> None:
    is_refused = _is_refused(operation, answer)
    found.allowed += not is_refused
    if is_allowed == is_refused:
        found.wrong.append(f"{request}: {answer.status}, the document says {operation.details['security']}")
    elif is_allowed and answer.status >= 400 and answer.status not in MISSING:
        found.malformed.append(f"{request}: {answer.status} {answer.text[:200]}")


def _probe_other_user(
    suite: Suite, client: httpx.Client, guarded: list[Operation], tenant: Tenant, found: Scoped
) -> None:
    """Ada's token on every call for bob, and on chats that name him in each way there is."""
    for user in (USER, OTHER):
        body = {"events": every_event("u9004" if user == OTHER else "u9005")}
        headers = {"Authorization": f"Bearer {tenant.key}", "Prefer": "wait=20"}
        answer = httpx.post(f"{suite.url}/v1/users/{user}/events", json=body, headers=headers, timeout=60)
        assert answer.status_code == 202, answer.text
    export = Request("get", f"/v1/users/{OTHER}/export")
    before = _ask(client, tenant.key, export)
    assert "u9004n" in before.text, before.text
    token = mint(suite, tenant.key, USER, sorted(USER_SCOPES))
    for _, request in _requests(suite, guarded, tenant.names(OTHER)):
        found.token_calls += 1
        answer = _ask(client, token, request)
        if answer.status != 403 or "u9004n" in answer.everything:
            found.wrong.append(f"{request} by a token for {USER}: {answer.status}")
    naming = [{"user": OTHER}, {"safety_identifier": OTHER}, {"metadata": {"user_id": OTHER}}, {}]
    forged = {"X-User-Id": OTHER, "X-AlignX-User": OTHER, "X-AlignX-Tenant": "foreign", "X-AlignX-May-Append": "1"}
    for names in naming:
        chat = {"messages": [{"role": "user", "content": "hello"}], **names}
        headers = {"Authorization": f"Bearer {token}"} | ({} if names else forged)
        found.token_calls += 1
        answer = httpx.post(f"{suite.url}/v1/chat/completions", json=chat, headers=headers, timeout=60)
        if (answer.status_code, answer.json().get("error", {}).get("code")) != (403, "forbidden"):
            found.wrong.append(f"a chat for {OTHER} by {names or 'headers'}: {answer.status_code}")
    if without_time(_ask(client, tenant.key, export).text) != without_time(before.text):
        found.wrong.append(f"{OTHER}'s export has changed")
