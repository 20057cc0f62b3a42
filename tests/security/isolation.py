"""What another tenant can reach: every call of the OpenAPI document with every name that the other could know.

`probe` gives what it found; nothing of tenant alpha may stand in an answer, and nothing of it may have changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from alignx.schemas.tenants import SCOPES
from gateway.routing import USER_SCOPES
from services.server.app import METHODS, TENANT_HEADER, TOKEN_HEADER, USER_HEADER
from tests.live.suite import Suite
from tests.security.histories import ALPHA_CANARY, BETA, SECOND, USER, Tenant, mint, read_state
from tests.security.operations import OPEN, Answer, Document, Names, Operation, Request, send

FORGED = {"X-Forwarded-Host": "alpha", "Forwarded": "for=127.0.0.1;host=alpha"}


@dataclass
class Isolation:
    """What the probes found."""

    calls: int = 0
    routes: int = 0
    leaks: list[str] = field(default_factory=list)
    """Calls whose answer held a canary of alpha."""
    opened: list[str] = field(default_factory=list)
    """Calls that should have been refused and were not."""
    changed: list[str] = field(default_factory=list)
    """What GET calls give of alpha and no longer do as before."""
    reads: int = 0
    """GET calls whose answers were compared."""
    prompts: int = 0
    foreign_prompts: int = 0
    """Prompts that held canaries of more than one user."""

    def note(self, request: Request, answer: Answer, credential: str) -> None:
        self.calls += 1
        if ALPHA_CANARY.search(answer.everything):
            self.leaks.append(f"{request} with {credential}: {ALPHA_CANARY.findall(answer.everything)[0]}")


def probe(suite: Suite, engine: str, alpha: Tenant, beta: Tenant) -> Isolation:
    """Beta's keys and tokens, no key, and the services' own ports, each on every method of every path."""
    document = Document.of(suite.url)
    found = Isolation(routes=len(document.operations))
    before = read_state(suite, document, alpha)
    assert all(text.startswith("200 ") for text in before.values()), before
    for credential, headers in _credentials(suite, alpha, beta).items():
        with httpx.Client(base_url=suite.url, headers=headers) as client:
            for operation, request in _requests(document, alpha, beta):
                if credential == "admin key" and operation.scopes("key") == ["admin"]:
                    continue  # it administers all tenants
                answer = send(client, request)
                found.note(request, answer, credential)
                is_open = (operation.method, operation.path) in OPEN
                if credential == "no key" and not is_open and answer.status != 401:
                    found.opened.append(f"{request} without a key: {answer.status}")
                if credential == "key" and operation.scopes("key") == ["admin"] and answer.status != 403:
                    found.opened.append(f"{request} without the scope admin: {answer.status}")
    _probe_methods(suite, document, alpha, beta, found)
    _probe_services(suite, document, alpha, found)
    after = read_state(suite, document, alpha)
    found.changed = sorted(call for call in before.keys() | after.keys() if before.get(call) != after.get(call))
    found.reads = len(before)
    seen = httpx.get(f"{engine}/seen").json()
    found.prompts, found.foreign_prompts = seen["calls"], seen["foreign"]
    return found


def _credentials(suite: Suite, alpha: Tenant, beta: Tenant) -> dict[str, dict[str, str]]:
    """Headers by what they stand for."""
    token = mint(suite, beta.key, USER, sorted(USER_SCOPES))
    key = {"Authorization": f"Bearer {beta.key}"}
    inner = {TENANT_HEADER: alpha.name, USER_HEADER: USER, TOKEN_HEADER: "x" * 32}
    return {
        "no key": {},
        "key": key,
        "key and forged headers": key | inner | FORGED,
        "admin key": {"Authorization": f"Bearer {suite.new_key(BETA, scopes=list(SCOPES))}"},
        "user token": {"Authorization": f"Bearer {token}"},
        "user token and forged headers": {"Authorization": f"Bearer {token}"} | inner | FORGED,
    }


def _requests(document: Document, alpha: Tenant, beta: Tenant) -> Iterator[tuple[Operation, Request]]:
    """Every operation, those that erase last, for each set of names."""
    for operation in sorted(document.operations, key=lambda operation: operation.method == "delete"):
        for names in _names(alpha, beta):
            yield operation, operation.fill(names)
            if operation.body is not None:
                yield operation, operation.fill(names | _items(alpha))


def _names(alpha: Tenant, beta: Tenant) -> list[Names]:
    """What beta may guess: alpha's users, and alpha's events, versions and key beside a user of its own."""
    own = {"user": [USER]}
    foreign = [alpha.names(user, version) for user in (USER, SECOND) for version in (1, 3)]
    return [*foreign, alpha.names(SECOND, 2) | own, beta.names(USER) | {"user": [f"{USER} ", SECOND]}]


def _items(alpha: Tenant) -> Names:
    """The items of alpha's catalogue, by their ids alone."""
    ids = [{"id": f"item-{canary}"} for canary in alpha.canaries.values()]
    return {"items": [ids], "candidates": [ids]}


def _probe_methods(suite: Suite, document: Document, alpha: Tenant, beta: Tenant, found: Isolation) -> None:
    """Methods that the document does not name are refused, also by a path written in other ways."""
    headers = {"Authorization": f"Bearer {beta.key}"}
    with httpx.Client(base_url=suite.url, headers=headers) as client:
        for operation in document.paths.values():
            filled = operation.fill(alpha.names(USER))
            known = {other.method for other in document.operations if other.path == operation.path}
            for method in {name.lower() for name in METHODS} - known - ({"head"} if "get" in known else set()):
                request = Request(method, filled.path)
                answer = send(client, request)
                found.note(request, answer, "key")
                if answer.status < 400:
                    found.opened.append(f"{request}: {answer.status}")
            for path in (f"/{filled.path}", f"{filled.path}/", filled.path.replace("/v1/", "/v1/../v1/")):
                request = Request(operation.method, path)
                found.note(request, send(client, request), "key")


def _probe_services(suite: Suite, document: Document, alpha: Tenant, found: Isolation) -> None:
    """The services behind the gateway answer nobody without its token."""
    secrets: list[Mapping[str, str]] = [{}, {TOKEN_HEADER: ""}, {TOKEN_HEADER: "x" * 32}]
    for service in ("preference", "response"):
        url = f"http://127.0.0.1:{suite.ports[service]}"
        known = {(operation.path, operation.method) for operation in Document.of(url).operations}
        own = [operation for operation in document.operations if (operation.path, operation.method) in known]
        for secret in secrets:
            headers = {TENANT_HEADER: alpha.name, "Authorization": f"Bearer {alpha.key}", **secret}
            with httpx.Client(base_url=url, headers=headers) as client:
                for operation in own:
                    if not operation.path.startswith("/v1/"):
                        continue  # health and metrics, which operators read
                    request = operation.fill(alpha.names(USER))
                    answer = send(client, request)
                    found.note(request, answer, f"{service}'s own port")
                    if answer.status != 401:
                        found.opened.append(f"{request} at {service}'s own port: {answer.status}")


def canaries_in(suite: Suite, words: Sequence[str]) -> list[str]:
    """Processes in whose log or metrics one of the words stands, with the word."""
    found = []
    for name in suite.processes:
        texts = {"log": suite.log(name)} | ({} if name == "redis" else {"metrics": suite.metrics(name)})
        found += [f"{name}'s {kind}: {word}" for kind, text in texts.items() for word in words if word in text]
    return found
