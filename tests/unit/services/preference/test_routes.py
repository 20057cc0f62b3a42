"""Every call of the preference service, and every way to call it badly."""

import asyncio
from functools import partial
from typing import Any

import orjson
import pytest

from alignx.schemas.summaries import Preferences
from services.server.app import TENANT_HEADER, TOKEN_HEADER, USER_HEADER
from services.storage.key_names import ENGINE_FAULT
from services.traffic import catalogue
from tests.chaos.mock_engine import MARKER, MockEngine
from tests.unit.services.preference.rig import OwnRedis
from tests.unit.services.preference.served import EVENTS, PREFERENCES, Served, serving
from tests.unit.services.preference.working import until

pytestmark = pytest.mark.anyio

HUGE = "9" * 5_000


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:alignx:problem:{code}"
    assert body["status"] == status
    return body


async def exists(served: Served) -> bool:
    return bool(await served.bench.user_keys())


async def has_version(served: Served, version: int) -> bool:
    return bool((await served.http.get(PREFERENCES)).json()["version"] >= version)


# --- append --------------------------------------------------------------------------------------


async def test_a_user_token_sends_no_backfill(served: Served) -> None:
    body, only = {"events": [{"type": "statement", "text": "I like tea"}]}, {USER_HEADER: "u"}
    answer = await served.http.post(EVENTS, json=body | {"backfill": True}, headers=only)
    assert "backfill" in problem(answer, 403, "forbidden")["detail"]
    assert not await exists(served)
    assert (await served.http.post(EVENTS, json=body, headers=only)).status_code == 202


async def test_every_type_is_taken_and_given_back(plain_suite: Served) -> None:
    events: list[dict[str, Any]] = [
        {"type": "comparison", "query": "q", "chosen": "a", "rejected": ""},
        {"type": "comparison", "chosen": "a", "rejected": "b", "directions": [1.0, 0.0, 0.5] * 30},
        {"type": "click", "clicked": {"title": "a", "price": 3, "brand": "b"}, "shown": ["a", "b"]},
        {"type": "rating", "item": "a", "value": 9, "scale": [1, 10], "review": "good"},
        {"type": "purchase", "item": "a", "considered": ["b"]},
        {"type": "post", "text": "naïve 日本語 😀"},
        {"type": "dialogue", "messages": [{"role": "user", "content": "hello"}]},
        {"type": "demographic", "text": "lives in Oslo"},
        {"type": "statement", "text": "I like tea", "id": "x1", "source": "chat", "metadata": {"n": 1}},
    ]
    answer = await plain_suite.http.post(EVENTS, json={"events": events}, headers={"Prefer": "wait=5"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["version"] == 1
    listed = (await plain_suite.http.get(EVENTS)).json()["events"]
    for sent, kept in zip(events, listed, strict=True):
        assert {name: kept["interaction"][name] for name in sent if name not in ("clicked", "scale")} == {
            name: sent[name] for name in sent if name not in ("clicked", "scale")
        }
        assert ("directions" in kept["interaction"]) == ("directions" in sent)


@pytest.mark.parametrize(
    ("event", "field", "words"),
    [
        ({"type": "stare", "text": "a"}, "events.0", "tag"),
        ({"text": "a"}, "events.0", "type"),
        ({"type": "comparison", "chosen": "", "rejected": " "}, "events.0", "both empty"),
        ({"type": "click", "clicked": {"title": " "}}, "events.0.clicked", ""),
        ({"type": "rating", "item": "a", "value": 9}, "events.0", "outside the scale"),
        ({"type": "rating", "item": "a", "value": 1, "scale": [5, 1]}, "events.0", "rise"),
        ({"type": "post", "text": "  "}, "events.0.text", "at least 1"),
        ({"type": "post", "text": "a", "colour": "red"}, "events.0.colour", "not permitted"),
        ({"type": "post", "text": "a", "occurred_at": "2026-01-01T00:00:00"}, "events.0.occurred_at", "timezone"),
        ({"type": "dialogue", "messages": []}, "events.0.messages", "at least 1"),
        (
            {"type": "comparison", "chosen": "a", "rejected": "b", "directions": [1]},
            "events.0.directions",
            "exactly 90 values",
        ),
        (
            {"type": "comparison", "chosen": "a", "rejected": "b", "directions": [0.5] * 89 + [2]},
            "events.0.directions.89",
            "less than or equal to 1",
        ),
    ],
)
async def test_a_bad_event_is_named(served: Served, event: dict[str, Any], field: str, words: str) -> None:
    good = {"type": "post", "text": "good"}
    body = problem(await served.http.post(EVENTS, json={"events": [event, good]}), 422, "invalid_request")
    assert any(error["field"].startswith(field) and words in error["message"] for error in body["errors"]), body
    assert await served.bench.user_keys() == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_request"),
        (b"{", 400, "malformed_body"),
        (b"[]", 422, "invalid_request"),
        (b'{"events": []}', 422, "invalid_request"),
        (b'{"events": [{"type": "post", "text": "\xff"}]}', 400, "malformed_body"),
        (b'{"events": [{"type": "rating", "item": "a", "value": NaN}]}', 400, "malformed_body"),
        (b'{"events": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", 400, "malformed_body"),
        (b'{"events": [{"type": "post", "text": "' + b"a" * 20_000 + b'"}]}', 413, "payload_too_large"),
        (b'{"events": [' + b",".join([b'{"type": "post", "text": "a"}'] * 6) + b"]}", 413, "payload_too_large"),
    ],
)
async def test_a_bad_body_is_refused(redis_url: str, body: bytes, status: int, code: str) -> None:
    async with serving(
        redis_url, limits={"event_bytes": 10_000, "events_per_call": 5, "body_bytes": 4_000_000}
    ) as served:
        answer = await served.http.post(EVENTS, content=body, headers={"Content-Type": "application/json"})
        problem(answer, status, code)
        assert await served.bench.user_keys() == []


@pytest.mark.parametrize(("depth", "status"), [(16, 202), (17, 422), (900, 422), (2_000, 400)])
async def test_an_item_may_be_nested_a_little(served: Served, depth: int, status: int) -> None:
    nested = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"events": [{"type": "purchase", "item": {"title": "t", "more": ' + nested + b"}}]}"
    answer = await served.http.post(EVENTS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    if status == 202:
        assert len((await served.http.get(EVENTS)).json()["events"]) == 1


@pytest.mark.parametrize(
    "event",
    [
        {"type": "rating", "item": "a", "value": 1e308, "scale": [-1e308, 1e308]},
        {"type": "rating", "item": {"title": "a", "price": 1e308}, "value": 5},
        {"type": "purchase", "item": {"title": "a", "price": -5}, "considered": [{"title": "b", "price": 0}]},
        {"type": "purchase", "item": {"title": "a", "price": "cheap"}},
        {"type": "comparison", "chosen": "\u0000\u200b!!!" * 900, "rejected": "?"},
    ],
)
async def test_extreme_events_are_taken(served: Served, event: dict[str, Any]) -> None:
    for _ in range(3):
        answer = await served.http.post(EVENTS, json={"events": [event]})
        assert answer.status_code == 202, answer.text
    current = await served.http.get(PREFERENCES)
    assert current.status_code == 200
    assert "nan" not in current.text.lower()


async def test_only_the_gateway_is_answered(served: Served) -> None:
    for headers in ({TOKEN_HEADER: "wrong"}, {TOKEN_HEADER: ""}, {TENANT_HEADER: ""}):
        problem(await served.http.get(PREFERENCES, headers=headers), 401, "unauthenticated")


async def test_a_repeated_key_stores_nothing_twice(served: Served) -> None:
    first = await served.put("a", **{"Idempotency-Key": "k"})
    again = await served.put("a", **{"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert again.json() == first.json() | {"replayed": True}
    problem(await served.put("b", **{"Idempotency-Key": "k"}), 422, "idempotency_mismatch")
    problem(await served.put("b", **{"Idempotency-Key": "k" * 256}), 422, "invalid_request")
    current = (await served.http.get(PREFERENCES)).json()
    assert (current["events_total"], current["pending"]) == (1, 1)


async def test_a_full_backlog_says_when_to_come_back(redis_url: str) -> None:
    async with serving(redis_url, queue={"user_backlog": 2, "shard_backlog": 1}) as served:
        await served.put("a", "b")
        answer = await served.put("c")
        assert problem(answer, 429, "backlog_full")["limit"] == 2
        assert answer.headers["Retry-After"] == "2"
        answer = await served.put("c", user="bob")
        problem(answer, 503, "queue_full")
        assert answer.headers["Retry-After"] == "5"


async def test_a_call_that_no_backlog_holds_is_too_large_and_leaves_nothing(redis_url: str) -> None:
    async with serving(redis_url, queue={"user_backlog": 2}) as served:
        answer = await served.put("a", "b", "c")
        found = problem(answer, 413, "payload_too_large")
        assert (found["limit"], found["errors"]) == (2, [{"field": "events", "message": "at most 2 a call"}])
        assert "Retry-After" not in answer.headers
        assert await served.bench.user_keys() == []
        assert await served.bench.idle()
        problem(await served.http.get(PREFERENCES), 404, "user_unknown")
        await served.put("a", "b")
        problem(await served.put("c", "d", "e"), 413, "payload_too_large")


async def test_a_silent_redis_is_a_503(own_redis: OwnRedis) -> None:
    async with serving(own_redis.url) as served:
        await served.put("a")
        own_redis.stop()
        for answer in (await served.put("b"), await served.http.get(PREFERENCES)):
            problem(answer, 503, "store_unavailable")
            assert answer.headers["Retry-After"] == "1"
        problem(await served.http.get(f"{PREFERENCES}/stream"), 503, "store_unavailable")
        ready = await served.http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"] == {"drain": "ok", "redis": "Redis does not answer"}


# --- wait ----------------------------------------------------------------------------------------


async def test_wait_answers_with_the_version_that_includes_the_events(redis_url: str) -> None:
    async with serving(
        redis_url, MockEngine(), work=True, queue={"poll_ms": 2, "debounce_ms": 100, "max_wait_ms": 500}
    ) as served:
        answer = await served.put("u1n1", Prefer="respond-async, wait=5")
        assert answer.headers["Preference-Applied"] == "wait=5"
        assert (answer.json()["version"], answer.json()["pending"]) == (1, 0)
        answer = await served.put("u1n2")
        assert (answer.json()["version"], "Preference-Applied" in answer.headers) == (None, False)
        assert (await served.learn("u1n3"))["version"] >= 2
        current = (await served.http.get(PREFERENCES)).json()
        assert MARKER.findall(current["text"]) == ["u1n1", "u1n2", "u1n3"]


async def test_wait_ends_and_says_what_is_pending(redis_url: str) -> None:
    async with serving(redis_url, limits={"wait_s": 0.2}) as served:
        answer = await served.put("a", Prefer="wait=600")
        assert answer.headers["Preference-Applied"] == "wait=0.2"
        assert (answer.json()["version"], answer.json()["pending"]) == (None, 1)


async def test_wait_names_no_version_without_the_events(suite: Served) -> None:
    await suite.learn("u1n1")
    await suite.bench.redis.hset(suite.bench.keys().state, "suspect", "1")
    aside = await suite.learn("u1n2")
    assert (aside["version"], aside["pending"]) == (None, 0)
    assert (await suite.learn("u1n3"))["version"] == 2


async def test_wait_names_the_version_that_the_user_has_written_over_since(suite: Served) -> None:
    key = {"Idempotency-Key": "k", "Prefer": "wait=5"}
    assert (await suite.put("u1n1", **key)).json()["version"] == 1
    (await suite.http.put(PREFERENCES, json={"text": "Mine."}, headers={"If-Match": '"1"'})).raise_for_status()
    again = (await suite.put("u1n1", **key)).json()
    assert (again["replayed"], again["version"]) == (True, 1)


async def test_wait_ends_when_the_user_is_erased(served: Served) -> None:
    waiting = asyncio.create_task(served.put("a", Prefer="wait=15"))
    await until(lambda: exists(served))
    assert (await served.http.delete("/v1/users/ada")).status_code == 204
    async with asyncio.timeout(2):
        answer = await waiting
    assert (answer.json()["version"], answer.json()["pending"]) == (None, 0)


# --- read ----------------------------------------------------------------------------------------


async def test_a_summary_exists_from_the_first_event_on(served: Served) -> None:
    await served.put("I like short answers.")
    answer = await served.http.get(PREFERENCES)
    current = answer.json()
    assert (current["version"], current["source"], current["pending"]) == (0, "profile", 1)
    assert current["waiting_for"] == "worker"
    await served.bench.redis.set(ENGINE_FAULT, "{}", ex=9)
    assert (await served.http.get(PREFERENCES)).json()["waiting_for"] == "engine"
    await served.bench.redis.delete(ENGINE_FAULT)
    assert "short answers" in current["text"]
    read = {"If-None-Match": answer.headers["ETag"]}
    assert (await served.http.get(PREFERENCES, headers=read)).status_code == 304
    await served.put("I like tea.")
    moved = await served.http.get(PREFERENCES, headers=read)
    assert moved.status_code == 200


async def test_a_forgotten_event_is_not_read_on_by_its_tag(served: Served) -> None:
    event_id = (await served.put("I like tea.", "I like rice.")).json()["ids"][0]
    read = {"If-None-Match": (await served.http.get(PREFERENCES)).headers["ETag"]}
    (await served.http.delete(f"{EVENTS}/{event_id}")).raise_for_status()
    answer = await served.http.get(PREFERENCES, headers=read)
    assert answer.status_code == 200
    assert "tea" not in answer.text
    edited = await served.http.put(PREFERENCES, json={"text": "Mine."}, headers={"If-Match": answer.headers["ETag"]})
    assert (edited.status_code, edited.headers["ETag"]) == (200, '"1"')


async def test_reading_again_costs_nothing_when_unchanged(suite: Served) -> None:
    await suite.learn("u1n1")
    first = await suite.http.get(PREFERENCES)
    assert first.headers["ETag"] == '"1"'
    assert first.headers["Cache-Control"] == "private, no-cache"
    for tags in ('"1"', '"0", "1"', 'W/"1"', "*"):
        same = await suite.http.get(PREFERENCES, headers={"If-None-Match": tags})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", '"1"'), tags
    assert (await suite.http.get(PREFERENCES, headers={"If-None-Match": '"11"'})).status_code == 200
    text = await suite.http.get(PREFERENCES, params={"format": "text"})
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == f"{first.json()['text']}\n"
    problem(await suite.http.get(PREFERENCES, params={"format": "xml"}), 422, "invalid_request")


async def test_an_unknown_user_is_a_404_everywhere(served: Served) -> None:
    for path in ("", "/stream", "/versions", "/versions/1", "/diff?from=1&to=2", "/rejected"):
        problem(await served.http.get(PREFERENCES + path), 404, "user_unknown")
    for path in ("events", "dead-letters", "export"):
        problem(await served.http.get(f"/v1/users/ada/{path}"), 404, "user_unknown")
    problem(await served.http.post(f"{PREFERENCES}/rebuild"), 404, "user_unknown")
    problem(await served.http.post(f"{PREFERENCES}/rollback", json={"version": 1}), 404, "user_unknown")
    problem(await served.http.delete("/v1/users/ada"), 404, "user_unknown")
    problem(await served.http.get("/v1/users/ada/nothing"), 404, "route_unknown")
    problem(await served.http.patch(PREFERENCES), 405, "method_not_allowed")
    problem(await served.put("a", user="%00"), 422, "invalid_request")
    problem(await served.put("a", user="x" * 257), 422, "invalid_request")


async def test_a_tenant_never_sees_the_users_of_another(suite: Served) -> None:
    await suite.learn("u1n1")
    await suite.put("u1n2")
    other = {TENANT_HEADER: "rival"}
    paths = ("", "/versions", "/rejected", "/stream")
    for path in (*(f"preferences{path}" for path in paths), "events", "dead-letters", "export"):
        problem(await suite.http.get(f"/v1/users/ada/{path}", headers=other), 404, "user_unknown")
    problem(await suite.http.delete("/v1/users/ada", headers=other), 404, "user_unknown")
    problem(await suite.http.post(f"{PREFERENCES}/rebuild", headers=other), 404, "user_unknown")
    await suite.http.post(EVENTS, json={"events": [{"type": "post", "text": "u2n1"}]}, headers=other)
    theirs = (await suite.http.get(PREFERENCES, headers=other)).text
    assert "u1" not in theirs
    assert "u2" not in (await suite.http.get("/v1/users/ada/export")).text


# --- lists ---------------------------------------------------------------------------------------


async def pages(served: Served, path: str, member: str, cursor: str, **params: str) -> list[Any]:
    found: list[Any] = []
    given: dict[str, Any] = params
    while True:
        page = (await served.http.get(path, params={"limit": 3, **given})).json()
        assert len(page[member]) <= 3
        found += page[member]
        if page["next"] is None:
            return found
        given = {**params, cursor: page["next"]}


async def test_every_list_is_paged(suite: Served) -> None:
    for number in range(7):
        await suite.learn(f"u1n{number}")
    events = await pages(suite, EVENTS, "events", "after")
    assert [event["interaction"]["text"] for event in events] == [f"u1n{n}" for n in range(7)]
    assert await pages(suite, EVENTS, "events", "after", order="desc") == events[::-1]
    versions = await pages(suite, f"{PREFERENCES}/versions", "versions", "before")
    assert [version["version"] for version in versions] == [7, 6, 5, 4, 3, 2, 1]
    await suite.set_aside(*(f"u1n{n} poison" for n in range(10, 15)))
    letters = await pages(suite, "/v1/users/ada/dead-letters", "events", "after")
    assert [letter["interaction"]["text"] for letter in letters] == [f"u1n{n} poison" for n in range(10, 15)]
    assert all(letter["error"].startswith("This event ended its worker") for letter in letters)


@pytest.mark.parametrize(
    "cursor", ["x", "1-", "-1", "1-2-3", "+", "(1-1", "99999999999999999999", "1-99999999999999999999", "٣-١", ""]
)
async def test_a_bad_cursor_is_refused(served: Served, cursor: str) -> None:
    await served.put("a")
    for path, order in ((EVENTS, "asc"), (EVENTS, "desc"), ("/v1/users/ada/dead-letters", "asc")):
        problem(await served.http.get(path, params={"after": cursor, "order": order}), 422, "invalid_request")
    if cursor.isascii():
        headers = {"Last-Event-ID": cursor}
        problem(await served.http.get(f"{PREFERENCES}/stream", headers=headers), 422, "invalid_request")


@pytest.mark.parametrize(
    ("cursor", "order", "events"),
    [
        *((cursor, order, events) for cursor in ("0", "0-0", "00-0") for order, events in (("asc", 1), ("desc", 0))),
        *(("-".join(["9" * 19] * 2), order, events) for order, events in (("asc", 0), ("desc", 1))),
    ],
)
async def test_nothing_lies_beyond_either_end(served: Served, cursor: str, order: str, events: int) -> None:
    await served.put("a")
    answer = await served.http.get(EVENTS, params={"after": cursor, "order": order})
    assert (answer.status_code, len(answer.json()["events"]), answer.json()["next"]) == (200, events, None)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "before=0", f"before={HUGE}"])
async def test_a_bad_page_is_refused(served: Served, query: str) -> None:
    await served.put("a")
    problem(await served.http.get(f"{PREFERENCES}/versions?{query}"), 422, "invalid_request")


# --- edit, rollback, diff, rebuild ---------------------------------------------------------------


async def test_an_edit_needs_the_version_it_was_made_from(suite: Served) -> None:
    await suite.learn("u1n1")
    body = {"text": "Mine now: u1n8."}
    problem(await suite.http.put(PREFERENCES, json=body), 428, "precondition_required")
    answer = await suite.http.put(PREFERENCES, json=body, headers={"If-Match": '"7"'})
    assert problem(answer, 412, "stale_version")["current_version"] == 1
    for tag in ("1", '"x"', '""', f'"{HUGE}"'):
        answer = await suite.http.put(PREFERENCES, json=body, headers={"If-Match": tag})
        assert answer.status_code in (412, 422), answer.text
    for text in ("", "  ", "x" * 20_001):
        answer = await suite.http.put(PREFERENCES, json={"text": text}, headers={"If-Match": '"1"'})
        problem(answer, 422, "invalid_request")
    answer = await suite.http.put(PREFERENCES, json=body, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    edit = answer.json()
    assert (edit["source"], edit["parent"], edit["text"]) == ("user", 1, "Mine now: u1n8.")
    await suite.learn("u1n2")
    later = (await suite.http.get(PREFERENCES)).json()
    assert later["text"] == "Mine now: u1n8.\nThe user has shown u1n8 u1n2."
    assert [claim["kind"] for claim in later["claims"]] == ["own", "model"]


async def test_a_user_can_begin_with_words_of_their_own(served: Served) -> None:
    answer = await served.http.put(PREFERENCES, json={"text": "I like haiku."})
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')
    assert answer.json()["parent"] is None
    assert (await served.http.get(EVENTS)).json()["events"] == []


async def test_rollback_and_diff(suite: Served) -> None:
    await suite.learn("u1n1")
    first = (await suite.http.get(PREFERENCES)).json()
    await suite.learn("u1n2")
    diff = (await suite.http.get(f"{PREFERENCES}/diff", params={"from": 1, "to": 2})).json()
    assert (diff["from_version"], diff["to_version"]) == (1, 2)
    assert diff["removed"] == ["The user has shown u1n1."]
    assert diff["added"] == ["The user has shown u1n1 u1n2."]
    rollback = f"{PREFERENCES}/rollback"
    problem(await suite.http.post(rollback, json={"version": 9}), 404, "version_unknown")
    problem(await suite.http.post(rollback, json={"version": 0}), 422, "invalid_request")
    stale = await suite.http.post(rollback, json={"version": 1}, headers={"If-Match": '"1"'})
    problem(stale, 412, "stale_version")
    answer = await suite.http.post(rollback, json={"version": 1}, headers={"If-Match": '"2"'})
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"3"')
    version = answer.json()
    assert (version["text"], version["parent"], version["restored_from"]) == (
        first["text"],
        2,
        1,
    )
    problem(await suite.http.get(f"{PREFERENCES}/diff?from=1&to=9"), 404, "version_unknown")
    problem(await suite.http.get(f"{PREFERENCES}/diff?from=0&to=1"), 422, "invalid_request")
    problem(await suite.http.get(f"{PREFERENCES}/versions/9"), 404, "version_unknown")
    one = await suite.http.get(f"{PREFERENCES}/versions/1")
    assert (one.json()["text"], one.json()["reasoning"]) == (first["text"], "They say a lot.")


async def test_what_a_user_wrote_stays_and_what_was_rolled_back_stays_back(plain_suite: Served) -> None:
    """Without an engine, too, the next update goes on from the text that is current."""

    async def text() -> str:
        return str((await served_now.http.get(PREFERENCES)).json()["text"])

    served_now: Served

    served_now = plain_suite
    await plain_suite.learn("I am vegetarian.")
    own = "I eat meat and love steak. " + "Tell me more of it. " * 30
    (await plain_suite.http.put(PREFERENCES, json={"text": own}, headers={"If-Match": '"1"'})).raise_for_status()
    await plain_suite.learn("Short texts, please.")
    assert (await text()).startswith(own.strip() + "\n")
    assert "vegetarian" not in await text()

    (await plain_suite.http.post(f"{PREFERENCES}/rollback", json={"version": 1})).raise_for_status()
    await plain_suite.learn("I like rice.")
    assert "vegetarian" in await text()
    assert "rice" in await text()
    assert "steak" not in await text()
    assert "Short texts" not in await text()

    (await plain_suite.http.post(f"{PREFERENCES}/rollback", json={"version": 3})).raise_for_status()
    await plain_suite.learn("I like soup.")
    assert (await text()).startswith(own.strip() + "\n")
    assert "rice" not in await text()
    store = plain_suite.bench.store
    assert await store.fold_history("acme", "ada") == (await store.profile("acme", "ada"))[1]


async def test_a_rebuild_writes_anew(suite: Served) -> None:
    await suite.learn("u1n1")
    await suite.learn("u1n2")
    answer = await suite.http.post(f"{PREFERENCES}/rebuild")
    assert (answer.status_code, answer.json()) == (202, {"pending": 0})
    await until(lambda: has_version(suite, 3))
    current = Preferences(**(await suite.http.get(PREFERENCES)).json())
    assert (current.template, current.parent, current.events.count) == ("first/2", None, 2)


# --- export, erase, quality ----------------------------------------------------------------------


async def test_an_export_holds_everything(suite: Served) -> None:
    await suite.learn("u1n1")
    await suite.set_aside("u1n2 poison")
    await suite.learn("u1n3")
    answer = await suite.http.get("/v1/users/ada/export")
    assert answer.headers["content-type"] == "application/jsonl"
    lines = [orjson.loads(line) for line in answer.content.splitlines()]
    assert [line["kind"] for line in lines] == ["header", "event", "event", "version", "version", "dead_letter"]
    assert (lines[0]["user"], lines[0]["format"], lines[0]["events_total"]) == ("ada", "alignx-export/1", 3)
    assert [line["version"] for line in lines if line["kind"] == "version"] == [1, 2]


async def test_a_refused_reply_is_shown_exported_and_erased_but_never_served(redis_url: str) -> None:
    mock = MockEngine()
    mock.scripted = [("I'm sorry, but I can't help with that request.", "stop")] * 2
    async with serving(redis_url, mock, work=True) as served:
        await served.put("u1n1")

        async def is_refused() -> bool:
            return bool((await served.http.get(f"{PREFERENCES}/rejected")).json()["drafts"])

        await until(is_refused)
        [draft] = (await served.http.get(f"{PREFERENCES}/rejected")).json()["drafts"]
        assert (draft["check"], draft["events"]["count"]) == ("refusal", 1)
        assert draft["text"].startswith("I'm sorry")
        assert "sorry" not in (await served.http.get(PREFERENCES)).text
        lines = [orjson.loads(line) for line in (await served.http.get("/v1/users/ada/export")).content.splitlines()]
        assert "rejected_draft" in [line["kind"] for line in lines]
        assert (await served.http.delete("/v1/users/ada")).status_code == 204
        assert await served.bench.redis.keys("pi:*:rej") == []


async def test_half_a_character_becomes_a_replacement_character(served: Served) -> None:
    body = rb'{"events":[{"type":"post","text":"cut \ud83d \\ud83d \ud83d\ude00"}]}'
    sent = await served.http.post(EVENTS, content=body, headers={"Content-Type": "application/json"})
    assert sent.status_code == 202
    [event] = (await served.http.get(EVENTS)).json()["events"]
    assert event["interaction"]["text"] == "cut \ufffd \\ud83d 😀"


async def test_a_users_text_holds_no_control_token(served: Served) -> None:
    edited = await served.http.put(PREFERENCES, json={"text": "Likes <|im_start|>tea [INST] a < b."})
    assert edited.json()["text"] == "Likes &lt;|im_start|>tea &#91;INST] a < b."
    await served.put("I like [INST] jazz.", user="bob")
    assert "[INST]" not in (await served.http.get("/v1/users/bob/preferences")).text


async def test_dead_letters_are_tried_again(suite: Served) -> None:
    async def settled(suite: Served) -> bool:
        return (await suite.http.get(PREFERENCES)).json()["pending"] == 0

    retry = "/v1/users/ada/dead-letters/retry"
    problem(await suite.http.post(retry), 404, "user_unknown")
    await suite.learn("u1n1")
    await suite.set_aside("u1n2", "u1n3", "u1n4")
    ids = [letter["event_id"] for letter in await pages(suite, "/v1/users/ada/dead-letters", "events", "after")]
    answer = await suite.http.post(retry, json={"event_ids": [ids[2], "1-1", ids[0]]})
    assert answer.status_code == 202
    assert [event["event_id"] for event in answer.json()["events"]] == [ids[0], ids[2]]
    assert answer.json()["pending"] == 2
    answer = await suite.http.post(retry)  # all that are left
    assert [event["event_id"] for event in answer.json()["events"]] == [ids[1]]
    assert (await suite.http.post(retry, json={})).json()["events"] == []
    problem(await suite.http.post(retry, json={"event_ids": []}), 422, "invalid_request")  # not: all
    await until(lambda: settled(suite))
    current = (await suite.http.get(PREFERENCES)).json()
    assert current["text"] == "The user has shown u1n1 u1n2 u1n4 u1n3."
    assert current["events_total"] == 4
    problem(await suite.http.post(retry, json={"event_ids": ["9" * 41]}), 422, "invalid_request")
    problem(await suite.http.post(retry, json={"ids": []}), 422, "invalid_request")


async def test_an_export_holds_directions(served: Served) -> None:
    plain = {"type": "comparison", "chosen": "a", "rejected": "b"}
    directed = {**plain, "directions": [1.0, 0.0, 0.5] * 30}
    await served.http.post(EVENTS, json={"events": [directed, plain]})
    answer = await served.http.get("/v1/users/ada/export")
    lines = [orjson.loads(line) for line in answer.content.splitlines()]
    assert [line["interaction"] for line in lines if line["kind"] == "event"] == [directed, plain]


async def test_erasing_leaves_nothing(suite: Served) -> None:
    await suite.learn("u1n1")
    await suite.put("u1n2", **{"Idempotency-Key": "k"})
    assert (await suite.http.delete("/v1/users/ada")).status_code == 204
    assert await suite.bench.user_keys() == []
    problem(await suite.http.get(PREFERENCES), 404, "user_unknown")
    again = await suite.put("u1n9", **{"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert (await suite.http.get(PREFERENCES)).json()["events_total"] == 1


async def test_quality_is_told_for_user_and_tenant(served: Served) -> None:
    event = {"type": "comparison", "chosen": "Yes.", "rejected": "Well, it depends on a great many things!"}
    for _ in range(3):
        await served.http.post(EVENTS, json={"events": [event]})
    quality = (await served.http.get("/v1/quality")).json()
    own = (await served.http.get(PREFERENCES)).json()["quality"]
    assert quality == {"profile": own["profile"] | {"recent": None}}
    assert own["profile"]["recent"]["comparisons"] == 3
    assert quality["profile"]["comparisons"] == 3
    assert quality["profile"]["accuracy"] > 0.5
    assert (await served.http.get("/v1/quality", headers={TENANT_HEADER: "rival"})).json() == {}
    assert (await served.http.get("/v1/quality/trial")).json()["state"] == "none"


async def test_a_catalogue_is_stored_and_what_is_not_valid_is_named(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = partial(served.http.put, "/v1/items")
    assert (await put(json={"items": [{"id": 5, "title": "a"}, {"id": "6", "title": "b"}]})).json() == {"items": 2}
    assert (await put(json={"items": [{"id": "5", "title": "c"}]})).json() == {"items": 2}
    nameless = problem(await put(json={"items": [{"title": "a"}]}), 422, "invalid_request")
    assert nameless["errors"][0]["field"] == "items.0.id"
    monkeypatch.setattr(catalogue, "MAX_CATALOGUE", 2)
    full = problem(await put(json={"items": [{"id": "7", "title": "d"}]}), 413, "payload_too_large")
    assert (full["limit"], full["errors"][0]["field"]) == (2, "items")
    assert (await put(json={"items": [{"id": "6", "title": "d"}]})).status_code == 200
