"""Two tenants with everything that the suite keeps of a user, a canary word in every slot of it.

A canary is a marker of the mock engine (`u9001n17`): users 9001 and 9003 are tenant alpha's, 9002 is tenant beta's.
So it also goes through summaries, and the engine counts the prompts that hold those of more than one user.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.conftest import wait_until
from tests.live.suite import Suite
from tests.security.obeying_engine import UNDIGESTIBLE, UNWRITTEN
from tests.security.operations import Document, Names, send

USER = "ada-person"
"""Both tenants have one of this name."""
SECOND = "bob-person"
"""Tenant alpha alone has this one."""
ALPHA, BETA = "alphaworks", "betaworks"
ALPHA_CANARY = re.compile(r"u900[13]n\d+")
CANARY = re.compile(r"u900[123]n\d+")
SETTLED_WITHIN_S = 60.0
SETTINGS = {
    "ALIGNX_SUMMARY__UPDATE_EVENTS": "1",
    "ALIGNX_SUMMARY__BACKFILL_QUIET_S": "0.5",
    "ALIGNX_QUEUE__EVENT_FAILURES": "2",
    "ALIGNX_QUEUE__BACKOFF_MS": "50",
    "ALIGNX_QUEUE__BACKOFF_MAX_MS": "200",
    "ALIGNX_ENGINE__BREAKER_COOLDOWN_S": "0.2",
    "ALIGNX_GATEWAY__USER_RATE": "100000",
    "ALIGNX_GATEWAY__USER_BURST": "100000",
}
"""Each event is due at once, and what fails is set aside soon."""


@dataclass
class Tenant:
    """A tenant of the suite and what it is known by."""

    name: str
    key_id: str
    key: str
    canaries: Mapping[str, str]
    """By user, the first half of their canaries."""
    event_ids: dict[str, list[str]] = field(default_factory=dict)
    webhook: str = f"wh_{0:016}"
    """Its endpoint, which is disabled: nothing changes what is told of it."""
    delivery: str = f"msg_{0:032}"

    def names(self, user: str, version: int = 1) -> Names:
        """What fills in a request for one of its users."""
        ids = self.event_ids.get(user, [])
        return {
            "user": [user],
            "version": [version],
            "from": [version],
            "to": [version],
            "before": [version + 1, *ids[-1:]],
            "after": ids[:1],
            "event_ids": [ids] if ids else [],
            "event_id": ids[:1] or ["1-0"],
            "about": ["something that nobody says"],
            "key_id": [self.key_id],
            "tenant": [self.name],
            "role": ["user"],
            "If-Match": ["*"],
            "model": ["mock"],
            "webhook": [self.webhook],
            "delivery": [self.delivery],
            "response_id": ["0" * 32],
            "thumb": ["up"],
            "max_tokens": [64],
            "metadata": [{"user_id": user}],
            "users": [[user]],
            "/v1/events": [{"user": user, "events": [{"type": "statement", "text": "I drink milk."}]}],
        }


def every_event(user: str) -> list[dict[str, Any]]:
    """An event of each type, with the user's canary in every slot."""
    numbers = itertools.count()

    def word(text: str) -> str:
        return f"{text} {user}n{next(numbers)}"

    def item(title: str) -> dict[str, Any]:
        slots = ("description", "category", "brand", "price")
        return {"id": word("id"), "title": word(title), **{slot: word(slot) for slot in slots}}

    def more() -> dict[str, Any]:
        return {"id": word("event"), "source": word("shop"), "metadata": {"note": word("note")}}

    turns = [{"role": "user", "content": word("I like oak")}, {"role": "assistant", "content": word("Oak it is")}]
    return [
        {"type": "comparison", "query": word("which"), "chosen": item("oak"), "rejected": word("pine"), **more()},
        {
            "type": "click",
            "query": word("what"),
            "clicked": item("tea"),
            "shown": [item("milk"), word("beer")],
            **more(),
        },
        {"type": "rating", "item": item("book"), "value": 5, "review": word("I loved it"), **more()},
        {"type": "purchase", "item": item("lamp"), "considered": [item("torch"), word("candle")], **more()},
        {"type": "post", "prompt": word("Who comes along?"), "text": word("I do, I like hills"), **more()},
        {"type": "dialogue", "messages": turns, **more()},
        {"type": "demographic", "text": word("She lives by the sea"), **more()},
        {"type": "statement", "text": word("I like short answers"), **more()},
    ]


def make_tenant(suite: Suite, name: str, canaries: Mapping[str, str]) -> Tenant:
    """The tenant with a full history of each of its users. Raises AssertionError where a call fails."""
    created = _ask(suite, suite.admin_key, "POST", "/admin/keys", {"name": "all", "tenant": name})
    tenant = Tenant(name, created["id"], created["key"], canaries)
    path = f"/admin/tenants/{name}/settings"
    _ask(suite, suite.admin_key, "PATCH", path, {"denied_topics": [f"{next(iter(canaries.values()))}n900"]})
    for user, canary in canaries.items():
        tenant.event_ids[user] = _write_history(suite, tenant.key, user, canary)
    hook = {"url": f"https://hooks.example/{next(iter(canaries.values()))}n913"}
    tenant.webhook = _ask(suite, tenant.key, "POST", "/v1/webhooks", hook)["id"]
    hooks = f"/v1/webhooks/{tenant.webhook}"
    _ask(suite, tenant.key, "PATCH", hooks, {"enabled": False})
    tenant.delivery = _ask(suite, tenant.key, "POST", f"{hooks}/test")["id"]
    return tenant


def _write_history(suite: Suite, key: str, user: str, canary: str) -> list[str]:
    """Ids of the user's events; one of them was set aside, and one left a rejected draft."""
    path, ids = f"/v1/users/{user}", list[str]()

    def ask(method: str, rest: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        return _ask(suite, key, method, rest, body, headers)

    texts = (f"oak {canary}n910", f"{UNDIGESTIBLE} {canary}n901", f"elm {canary}n911", f"{UNWRITTEN} {canary}n902")
    failing = [{"type": "statement", "text": f"I like {text}."} for text in (*texts, f"ash {canary}n912")]
    for events in (*([event] for event in every_event(canary)), failing):
        ids += ask("POST", f"{path}/events", {"events": events}, {"Prefer": "wait=20"})["ids"]
    wait_until(lambda: ask("GET", f"{path}/preferences")["pending"] == 0, SETTLED_WITHIN_S, f"events of {user} wait")
    assert ask("GET", f"{path}/dead-letters")["events"], "no event was set aside"
    assert ask("GET", f"{path}/preferences/rejected")["drafts"], "no draft was rejected"
    edit = {"text": f"I like hills {canary}n903."}
    ask("PUT", f"{path}/preferences", edit, {"If-Match": "*"})
    ask("POST", f"{path}/preferences/rollback", {"version": 1}, {"If-Match": "*"})
    ask("PUT", f"{path}/preferences", edit, {"If-Match": "*"})
    item = {"id": f"item-{canary}", "title": f"oak {canary}n904", "description": f"wood {canary}n905"}
    ask("PUT", "/v1/items", {"items": [item]})
    offers = [item["id"], {"id": "x", "title": f"milk {canary}n906"}]
    ask("POST", f"{path}/select", {"query": f"which {canary}n907", "items": [{"id": item["id"]}, offers[1]]})
    ask("POST", f"{path}/recommend", {"query": f"what {canary}n908", "candidates": offers, "explain": True})
    turns = [{"role": "user", "content": f"hello {canary}n909"}]
    for mode in ("summary", "ica", "direct"):
        ask("POST", "/v1/chat/completions", {"messages": turns, "user": user, "personalization": {"mode": mode}})
    return ids


def _ask(
    suite: Suite, key: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Any:
    more = {"Authorization": f"Bearer {key}", **(headers or {})}
    answer = httpx.request(method, f"{suite.url}{path}", json=body, headers=more, timeout=60)
    assert answer.status_code < 300, f"{method} {path}: {answer.text}"
    return answer.json() if answer.content else None


def mint(suite: Suite, key: str, user: str, scopes: list[str]) -> str:
    """A token for `user`."""
    body = {"user": user, "scopes": scopes, "expires_in_s": 3_600}
    answer = httpx.post(f"{suite.url}/v1/tokens", json=body, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def read_state(suite: Suite, document: Document, tenant: Tenant) -> dict[str, str]:
    """Status and text of everything that GET calls give of a tenant, by call."""
    state: dict[str, str] = {}
    for user, operation in itertools.product(tenant.canaries, document.operations):
        if operation.method != "get" or operation.path in _OTHERS or not operation.scopes("key"):
            continue
        is_admin = operation.scopes("key") == ["admin"]
        headers = {"Authorization": f"Bearer {suite.admin_key if is_admin else tenant.key}"}
        with httpx.Client(base_url=suite.url, headers=headers) as client:
            versions: Sequence[int] = (1, 2, 3) if "{version}" in operation.path else (1,)
            for version in versions:
                names = {name: tenant.names(user, version)[name] for name in _ADDRESSING}
                request = operation.fill(names)
                answer = send(client, request)
                state[f"{request} {dict(request.params)}"] = f"{answer.status} {without_time(answer.text)}"
    return state


_ADDRESSING = ("user", "version", "from", "to", "tenant", "key_id", "model", "webhook")
"""Names that tell what is read; the others would read less of it."""
_OTHERS = ("/v1/audit", "/metrics", "/admin/tenants")
"""Tell of all tenants, or grow by reading."""


def without_time(export: str) -> str:
    """An export without the time at which it was made."""
    return re.sub(r'"exported_at":"[^"]*",', "", export)
