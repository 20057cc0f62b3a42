"""An AlignX service inside an httpx transport: enough of its behaviour to test the client against.

`service.faults` are outcomes for the next requests: a response, an exception to raise, or
`AFTER(exception)` for a request that has its effect although the answer is lost.
"""

import asyncio
import gzip
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from alignx import AlignX, AsyncAlignX
from alignx.cli.terminal import Terminal
from alignx.schemas.tenants import SCOPES, TenantSettings

MOMENT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
_RATE = {"users": 9, "trials": 40, "successes": 20, "rate": 0.5, "low": 0.4, "high": 0.6}
_ARM: dict[str, Any] = {"served": {"selection": 50}, "accuracy": _RATE, "click_rate": {}, "feedback_rate": {}}
QUALITY: dict[str, Any] = {
    "/v1/quality": {"profile": {"comparisons": 8, "accuracy": 0.5, "low": 0.2152, "high": 0.7848}},
    "/v1/quality/trial": {"state": "held", "candidate": "llm:b first/2", "users_tested": 7},
    "/v1/quality/uplift": {
        "holdout_share": 0.1,
        "since": "2026-11-02T10:00:00Z",
        "until": "2026-11-16T18:30:00Z",
        "arms": {"control": _ARM, "personalized": _ARM},
        "uplift": {"accuracy": {"value": 0.125, "low": 0.01, "high": 0.2}},
    },
}

KEY = "ax_k1_secret"


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in pieces; an exception among them breaks the connection."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def sse(*pieces: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Pieces(*pieces))


def problem(status: int, code: str, detail: str = "It cannot be.", **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    body = {"type": f"urn:alignx:problem:{code}", "title": "T", "status": status, "detail": detail, **more}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json", **headers})


@dataclass
class After:
    """The request is served; then this is raised instead of its answer."""

    error: Exception


@dataclass
class History:
    """What the service keeps of a user."""

    events: list[dict[str, Any]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    replies: dict[str, dict[str, Any]] = field(default_factory=dict)
    dead: list[dict[str, Any]] = field(default_factory=list)
    """Interactions that were set aside, beside one that cannot be read."""
    gone: int = 0
    """Events that are in the log no more."""


class FakeService:
    has_drafts = True

    def __init__(self) -> None:
        self.users: dict[str, History] = {}
        self.requests: list[httpx.Request] = []
        self.faults: deque[httpx.Response | Exception | After] = deque()
        self.streams: deque[httpx.Response] = deque()
        self.chats: deque[httpx.Response] = deque()
        self.models = ["small"]
        self.slept: list[float] = []
        self.page = 100
        self.writes = True
        """Whether a version is written at once for each append."""
        self.keys: list[dict[str, Any]] = []
        self.settings: dict[str, Any] = {}
        self.spent: dict[str, int] | None = None
        self.catalogue: dict[str, Any] = {}
        self.lines: list[list[dict[str, Any]]] = []
        """Of each append for many users."""
        self.busy: dict[str, int] = {}
        """How many lines of a user are refused before one is taken."""
        self.event_bytes = 1 << 16
        self.checks = {"preference": "ok", "redis": "ok"}
        self.engine: dict[str, Any] | None = None

    # --- doors

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)

    def client(self, **more: Any) -> AlignX:
        return AlignX("http://service", KEY, transport=self.transport(), sleep=self.slept.append, **more)

    def async_client(self, **more: Any) -> AsyncAlignX:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        return AsyncAlignX("http://service", KEY, transport=self.transport(), sleep=sleep, **more)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, httpx.Response):
            return fault
        if isinstance(fault, Exception):
            raise fault
        response = self.route(request)
        if isinstance(fault, After):
            raise fault.error
        return response

    # --- routes

    def route(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        parts = path.strip("/").split("/")
        if parts == ["readyz"]:
            status, code = ("ready", 200) if set(self.checks.values()) == {"ok"} else ("not_ready", 503)
            return httpx.Response(code, json={"status": status, "checks": self.checks, "engine": self.engine})
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return problem(401, "unauthenticated", "A valid API key is needed")
        if parts[0] == "admin" or path in ("/v1/tokens", "/v1/audit"):
            return self.access(request, parts)
        if path == "/v1/models" and not self.models:
            return problem(503, "engine_unavailable", "The engine does not answer")
        if path == "/v1/models":
            return httpx.Response(
                200, json={"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
            )
        if path in QUALITY:
            return httpx.Response(200, json=QUALITY[path])
        if path == "/v1/feedback":
            return httpx.Response(200, json={"response_id": json.loads(request.content)["response_id"]})
        whole = {"items": self.put_items, "users": self.list_users, "events": self.append_many, "erasures": self.erase}
        if len(parts) == 2 and parts[1] in whole:
            return whole[parts[1]](request)
        if path == "/v1/chat/completions":
            return self.chats.popleft() if self.chats else self.chat(request)
        return self.user(request, unquote(parts[2]), "/".join(parts[3:]))

    def user(self, request: httpx.Request, user: str, rest: str) -> httpx.Response:
        if (request.method, rest) == ("POST", "events"):
            return self.append(request, self.users.setdefault(user, History()))
        if (request.method, rest) == ("PUT", "preferences"):
            self.users.setdefault(user, History())
        if user not in self.users:
            return problem(404, "user_unknown", "No history is kept for this user")
        act = self.read if request.method == "GET" else self.write
        return act(request, user, rest)

    def read(self, request: httpx.Request, user: str, rest: str) -> httpx.Response:
        history = self.users[user]
        match rest.split("/"):
            case "preferences", "versions", number:
                return httpx.Response(200, json=self.version(history, int(number)))
            case "preferences", "stream":
                return self.streams.popleft()
            case "preferences", "rejected":
                draft = {"check": "refusal", "reason": "the model declines", "text": "I'm sorry.", "source": "llm:m"}
                drafts = [draft | {"created_at": MOMENT.isoformat()}] if self.has_drafts else []
                return httpx.Response(200, json={"drafts": drafts})
            case ["dead-letters"]:
                letter = {"event_id": "1-7", "error": "too long", "failed_at": MOMENT.isoformat()}
                letters = [letter | {"interaction": interaction} for interaction in (None, *history.dead)]
                start = int(request.url.params.get("after", 0))
                more = str(start + self.page) if start + self.page < len(letters) else None
                return httpx.Response(200, json={"events": letters[start : start + self.page], "next": more})
        calls = {
            "events": self.events,
            "export": self.export,
            "preferences": self.preferences,
            "preferences/versions": self.versions,
            "preferences/diff": self.diff,
        }
        return calls[rest](request, user, history)

    def write(self, request: httpx.Request, user: str, rest: str) -> httpx.Response:
        history, body = self.users[user], json.loads(request.content or "{}")
        match rest.split("/"):
            case [""]:
                del self.users[user]
                return httpx.Response(204)
            case ["preferences"]:
                return self.write_version(request, user, history, body["text"])
            case "preferences", "rollback":
                return self.write_version(request, user, history, history.versions[body["version"] - 1])
            case "preferences", "rebuild":
                history.versions += ["Written afresh."] if self.writes else []
                return httpx.Response(202, json={"pending": len(history.events)})
            case "dead-letters", "retry":
                ids = body["event_ids"] or ["1-7"]
                events = [{"event_id": "1-7", "new_event_id": "2-0"}] if "1-7" in ids else []
                return httpx.Response(202, json={"events": events, "pending": len(events)})
            case [("select" | "recommend") as call]:
                answer = self.select(body) if call == "select" else self.recommend(body)
                return httpx.Response(200, json=answer | self.scorer(body, history))
            case _:
                return self.forget(request, body, history)

    def put_items(self, request: httpx.Request) -> httpx.Response:
        self.catalogue |= {item["id"]: item for item in json.loads(request.content)["items"]}
        return httpx.Response(200, json={"items": len(self.catalogue)})

    def list_users(self, request: httpx.Request) -> httpx.Response:
        wanted = request.url.params
        names = sorted(name for name in self.users if name.startswith(wanted.get("prefix", "")))
        limit = min(int(wanted.get("limit", 100)), self.page)
        rest = [name for name in names if name > wanted.get("after", "")]
        numbers = {"pending": 0, "version": 0, "created_at": MOMENT.isoformat()}
        users = [{"user": name, "events": len(self.users[name].events), **numbers} for name in rest[:limit]]
        more = rest[limit - 1] if len(rest) > limit else None
        return httpx.Response(200, json={"users": users, "total": len(names), "next": more})

    def append_many(self, request: httpx.Request) -> httpx.Response:
        packed = request.headers.get("Content-Encoding") == "gzip"
        lines = [json.loads(line) for line in (gzip.decompress if packed else bytes)(request.content).splitlines()]
        self.lines.append(lines)
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):  # after one to be sent again, the user's others are too
            waits = next((row for row in rows if row["user"] == line["user"] and "retry_after" in row), None)
            rows.append((waits or self.append_line(line)) | {"line": number, "user": line["user"]})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        return httpx.Response(207, content=text, headers={"Content-Type": "application/jsonl"})

    def append_line(self, line: dict[str, Any]) -> dict[str, Any]:
        user, events = line["user"], line["events"]
        if self.busy.get(user, 0):
            self.busy[user] -= 1
            return {"status": 429, "problem": {"type": "backlog_full"}, "retry_after": 2.0}
        for place, event in enumerate(events):
            if len(json.dumps(event)) > self.event_bytes:
                errors = [{"field": f"events.{place}", "message": f"at most {self.event_bytes} bytes"}]
                return {"status": 413, "problem": {"type": "payload_too_large", "errors": errors}}
        history = self.users.setdefault(user, History())
        return {"status": 202, "accepted": self.store(line["idempotency_key"], events, history, waits=False)}

    def erase(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        named = body["users"] or [name for name in sorted(self.users) if name.startswith(body["prefix"])]
        names = named[: min(body["limit"], self.page)]
        erased = [name for name in names if self.users.pop(name, None)]
        unknown = len(names) - len(erased)
        return httpx.Response(200, json={"erased": erased, "unknown": unknown, "left": len(named) - len(names)})

    def forget(self, request: httpx.Request, body: dict[str, Any], history: History) -> httpx.Response:
        wanted = body.get("about", request.url.path.rpartition("/")[2])
        gone = [event for event in history.events if wanted in json.dumps(event)]
        if not gone and not body:
            return problem(404, "event_unknown", "This event does not exist or is no longer kept")
        if not body.get("dry_run"):
            history.events[:] = [event for event in history.events if event not in gone]
        ids = [event["event_id"] for event in gone]
        return httpx.Response(200, json={"event_ids": ids, "versions": 1, "dry_run": body.get("dry_run", False)})

    def append(self, request: httpx.Request, history: History) -> httpx.Response:
        events = json.loads(request.content)["events"]
        waits = "Prefer" in request.headers
        return httpx.Response(202, json=self.store(request.headers["Idempotency-Key"], events, history, waits=waits))

    def store(self, key: str, events: list[dict[str, Any]], history: History, *, waits: bool) -> dict[str, Any]:
        if key not in history.replies:
            ids = []
            for event in events:
                ids.append(f"1-{len(history.events)}")
                history.events.append({"event_id": ids[-1], "received_at": MOMENT.isoformat(), "interaction": event})
            if self.writes:
                history.versions.append(f"Likes what {len(history.events)} events show.")
            version = len(history.versions) if self.writes and waits else None
            history.replies[key] = {"ids": ids, "pending": 0, "version": version}
            return history.replies[key]
        return {**history.replies[key], "replayed": True}

    def events(self, request: httpx.Request, _user: str, history: History) -> httpx.Response:
        start = int(request.url.params.get("after", "1--1").partition("-")[2]) + 1
        stop = start + min(int(request.url.params.get("limit", self.page)), self.page)
        more = f"1-{stop - 1}" if stop < len(history.events) else None
        events = history.events[:: -1 if request.url.params.get("order") == "desc" else 1]
        return httpx.Response(200, json={"events": events[start:stop], "next": more})

    def export(self, _request: httpx.Request, user: str, history: History) -> httpx.Response:
        header = {"kind": "header", "format": "alignx-export/1", "user": user}
        versions = [{"kind": "version", **self.version(history, number + 1)} for number in range(len(history.versions))]
        lines = [header, *({"kind": "event", **event} for event in history.events), *versions]
        return httpx.Response(200, stream=Pieces(*(json.dumps(line).encode() + b"\n" for line in lines)))

    def version(self, history: History, number: int) -> dict[str, Any]:
        text = history.versions[number - 1] if number else "Nothing is known yet."
        return {
            "version": number,
            "text": text,
            "reasoning": "Thought about it.",
            "source": "llm:small",
            "parent": number - 1 if number > 1 else None,
            "created_at": MOMENT.isoformat(),
            "prequential": {"comparisons": 4, "accuracy": 0.75, "mean_probability": 0.6},
            "claims": [
                {"id": "c1", "text": text, "kind": "model", "supported": False},
                {"id": "c2", "text": "Likes the second.", "kind": "topic", "support": ["1-1"], "count": 2},
            ],
        }

    def current(self, user: str, history: History) -> dict[str, Any]:
        quality = {"profile": {"comparisons": 8, "accuracy": 0.5, "mean_probability": 0.5}}
        state = {"user": user, "pending": 0, "events_total": len(history.events) + history.gone, "quality": quality}
        return {**self.version(history, len(history.versions)), **state}

    def preferences(self, request: httpx.Request, user: str, history: History) -> httpx.Response:
        etag = f'"v{len(history.versions)}"'
        if request.headers.get("If-None-Match") == etag:
            return httpx.Response(304, headers={"ETag": etag})
        return httpx.Response(200, json=self.current(user, history), headers={"ETag": etag})

    def write_version(self, request: httpx.Request, user: str, history: History, text: str) -> httpx.Response:
        if request.headers["If-Match"] not in ("*", f'"v{len(history.versions)}"'):
            return problem(412, "stale_version", "The summary has changed")
        history.versions.append(text)
        return httpx.Response(200, json=self.current(user, history), headers={"ETag": f'"v{len(history.versions)}"'})

    def versions(self, request: httpx.Request, _user: str, history: History) -> httpx.Response:
        last = int(request.url.params.get("before", len(history.versions) + 1)) - 1
        stop = max(0, last - min(int(request.url.params.get("limit", self.page)), self.page))
        versions = [self.version(history, number) for number in range(last, stop, -1)]
        return httpx.Response(200, json={"versions": versions, "next": stop + 1 if stop else None})

    def diff(self, request: httpx.Request, _user: str, history: History) -> httpx.Response:
        first, last = int(request.url.params["from"]), int(request.url.params["to"])
        old, new = history.versions[first - 1], history.versions[last - 1]
        unified = "" if old == new else f"--- {first}\n+++ {last}\n@@ -1 +1 @@\n-{old}\n+{new}"
        body = {"from_version": first, "to_version": last, "added": [new], "removed": [old], "unified": unified}
        return httpx.Response(200, json=body)

    def select(self, body: dict[str, Any]) -> dict[str, Any]:
        choice = len(body["items"]) - 1
        shares = [0.1 / choice] * choice + [0.9]
        return {"choice": choice, "items": [{"index": n, "probability": share} for n, share in enumerate(shares)]}

    def recommend(self, body: dict[str, Any]) -> dict[str, Any]:
        order = range(len(body["candidates"]) - 1, -1, -1)
        reason = "It lasts." if body["explain"] else None
        ranked = [
            {"rank": rank, "index": index, "score": 1 / rank, "reason": reason}
            for rank, index in itertools.islice(enumerate(order, start=1), body["k"])
        ]
        return {"items": ranked}

    def scorer(self, body: dict[str, Any], history: History) -> dict[str, Any]:
        """The profile unless another is named; it reads no summary."""
        method = body.get("method") or "profile"
        return {"method": method, "version": 0 if method == "profile" else len(history.versions)}

    def chat(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        mode = body.get("personalization", {}).get("mode", "summary")
        used = {"mode": mode, "user": body.get("user"), "version": 2, "history": 0}
        question = body["messages"][-1]["content"]
        if body.get("stream"):
            chunks: list[dict[str, Any]] = [
                {"choices": [{"delta": {"content": piece}}]} for piece in ("You said: ", question)
            ]
            chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}], "personalization": used})
            return sse(*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n")
        choice = {"message": {"content": f"You said: {question}"}, "finish_reason": "stop"}
        return httpx.Response(200, json={"model": "small", "choices": [choice], "personalization": used})

    def access(self, request: httpx.Request, parts: list[str]) -> httpx.Response:
        match parts[-1]:
            case "tokens":
                return self.mint(json.loads(request.content))
            case "audit":
                return self.audit(request)
            case _:
                return self.admin(request, parts)

    def rotate(self, body: dict[str, Any], key_id: str) -> httpx.Response:
        key = next((key for key in self.keys if key["id"] == key_id), None)
        if key is None:
            return problem(404, "key_unknown", "No API key has this id")
        key["previous_until"] = (MOMENT + timedelta(seconds=body["overlap_s"])).isoformat()
        return httpx.Response(200, json={**key, "key": f"ax_{key_id}_rotated"})

    def mint(self, body: dict[str, Any]) -> httpx.Response:
        ends = (MOMENT + timedelta(seconds=body.pop("expires_in_s"))).isoformat()
        return httpx.Response(201, json={**body, "token": f"token-of-{body['user']}", "expires_at": ends})

    def audit(self, request: httpx.Request) -> httpx.Response:
        """Five entries, newest first."""
        last = int(request.url.params.get("before", "6-0").removesuffix("-0"))
        stop = max(0, last - 1 - min(int(request.url.params.get("limit", self.page)), self.page))
        entry = {"at": MOMENT.isoformat(), "key_id": "root", "action": "key.created", "target": "k1"}
        entries = [{"id": f"{number}-0", **entry} for number in range(last - 1, stop, -1)]
        return httpx.Response(200, json={"entries": entries, "next": f"{stop + 1}-0" if stop else None})

    def admin(self, request: httpx.Request, parts: list[str]) -> httpx.Response:
        if parts[-1] == "settings":
            sent = json.loads(request.content or b"{}")
            self.settings = sent if request.method == "PUT" else self.settings | sent
            own = {name: value for name, value in self.settings.items() if value is not None}
            settings = TenantSettings(**own).model_dump()
            view = {"tenant": parts[2], "settings": settings, "overridden": sorted(own), "spent": self.spent}
            return httpx.Response(200, json=view)
        if parts[1] == "tenants":
            return httpx.Response(200, json={"tenants": [{"tenant": "acme", "keys": len(self.keys)}]})
        if parts[-1] == "rotate":
            return self.rotate(json.loads(request.content), parts[2])
        if request.method == "POST":
            fields = {name: value for name, value in json.loads(request.content).items() if value is not None}
            limits = {"rate": 200.0, "burst": 400}
            scopes = [scope for scope in SCOPES if fields["admin"] or scope != "admin"]
            defaults = {"scopes": scopes, "created_at": MOMENT.isoformat(), **limits}
            key = {"id": f"k{len(self.keys) + 1}", **defaults, **fields}
            self.keys.append(key)
            return httpx.Response(201, json={**key, "key": f"ax_{key['id']}_new"})
        if request.method == "DELETE":
            if all(key["id"] != parts[2] for key in self.keys):
                return problem(404, "key_unknown", "No API key has this id")
            return httpx.Response(204)
        start = int(request.url.params.get("after", 0))
        stop = start + self.page
        more = str(stop) if stop < len(self.keys) else None
        return httpx.Response(200, json={"keys": self.keys[start:stop], "next": more})


@dataclass
class Caller:
    """Calls a method by name on the synchronous or the asynchronous client."""

    service: FakeService
    kind: str

    def __call__(self, method: str, *args: Any, **named: Any) -> Any:
        if self.kind == "sync":
            with self.service.client() as client:
                return getattr(client, method)(*args, **named)

        async def run() -> Any:
            async with self.service.async_client() as client:
                return await getattr(client, method)(*args, **named)

        return asyncio.run(run())

    def all(self, method: str, *args: Any, most: int = 1_000, **named: Any) -> list[Any]:
        """What an iterating method gives, at most so much of it."""
        if self.kind == "sync":
            with self.service.client() as client:
                stream = getattr(client, method)(*args, **named)
                items = list(itertools.islice(stream, most))
                stream.close()
                return items

        async def run() -> list[Any]:
            items: list[Any] = []
            async with self.service.async_client() as client:
                stream = getattr(client, method)(*args, **named)
                async for item in stream:
                    items.append(item)
                    if len(items) == most:
                        break
                await stream.aclose()
            return items

        return asyncio.run(run())


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> FakeService:
    for name in ("ALIGNX_URL", "ALIGNX_API_KEY", "ALIGNX_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return FakeService()


@pytest.fixture
def terminal(service: FakeService) -> Terminal:
    """The fake service's terminal, as wide whatever the one that runs the tests."""
    terminal = Terminal(transport=service.transport(), sleep=service.slept.append)
    terminal.out.width = terminal.err.width = 160
    return terminal


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, service: FakeService) -> Caller:
    return Caller(service, request.param)
