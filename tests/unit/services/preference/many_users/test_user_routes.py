"""The calls on many users: what each line or user comes to, and that a bad one stops no other."""

import asyncio
import gzip
import zlib
from collections import Counter
from typing import Any

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.preference.many_users import bulk_append
from services.preference.queue import Queue
from services.server.app import COST_HEADER, TENANT_HEADER
from tests.unit.services.preference.rig import TENANT
from tests.unit.services.preference.served import Served, serving
from tests.unit.services.preference.test_routes import problem

pytestmark = pytest.mark.anyio

MANY = "/v1/events"


def line(user: object, *texts: str, **more: Any) -> bytes:
    return orjson.dumps({"user": user, "events": [{"type": "statement", "text": text} for text in texts], **more})


async def send(served: Served, *lines: bytes, **headers: str) -> list[dict[str, Any]]:
    answer = await served.http.post(MANY, content=b"\n".join(lines), headers=headers)
    assert answer.status_code == 207, answer.text
    assert answer.headers["content-type"] == "application/jsonl"
    return [orjson.loads(row) for row in answer.content.splitlines()]


async def listed(served: Served, query: str = "") -> list[str]:
    return [user["user"] for user in (await served.http.get(f"/v1/users{query}")).json()["users"]]


# --- append --------------------------------------------------------------------------------------


async def test_each_line_is_an_append_of_its_own(served: Served) -> None:
    rows = await send(
        served, line("ada", "a", "b"), b"", line("bob", "c"), line("ada", "d", backfill=True), line(7, "e")
    )
    assert [(row["line"], row["status"], row["user"]) for row in rows] == [
        (1, 202, "ada"),
        (3, 202, "bob"),
        (4, 202, "ada"),
        (5, 202, "7"),
    ]
    assert [row["accepted"]["pending"] for row in rows] == [2, 1, 3, 1]
    assert await served.bench.texts("ada") == ["a", "b", "d"]
    assert await served.bench.texts("bob") == ["c"]
    assert await listed(served) == ["7", "ada", "bob"]


async def test_a_bad_line_stops_no_other(served: Served) -> None:
    long = "x" * 70_000
    bad = {
        b"{": (400, "malformed_body"),
        b"[1]": (422, "invalid_request"),
        b'"text"': (422, "invalid_request"),
        b"\xff\xfe": (400, "malformed_body"),
        b"[" * 5_000: (400, "malformed_body"),
        line("a/b", "t"): (422, "invalid_request"),
        line("ada"): (422, "invalid_request"),
        line("ada", "t", idempotency_key=""): (422, "invalid_request"),
        line("ada", "t", wait=3): (422, "invalid_request"),
        line("ada", "t", long): (413, "payload_too_large"),
        line("ada", *["t"] * 1_001): (413, "payload_too_large"),
        b'{"events": [{"type": "post", "text": "of nobody"}]}': (422, "invalid_request"),
    }
    rows = await send(served, *(row for entry in bad for row in (entry, line("bob", "good"))))
    assert [row["line"] for row in rows] == list(range(1, 2 * len(bad) + 1))
    assert [row["status"] for row in rows[1::2]] == [202] * len(bad)
    for row, (status, code) in zip(rows[::2], bad.values(), strict=True):
        assert (row["status"], row["problem"]["type"]) == (status, f"urn:alignx:problem:{code}"), row
        assert "accepted" not in row
        assert "retry_after" not in row
    assert await served.bench.texts("bob") == ["good"] * len(bad)
    assert await listed(served) == ["bob"]


async def test_a_problem_names_the_field_of_its_line(redis_url: str) -> None:
    """Short lists and long ones, whose entries are validated one by one."""
    for count in (3, 40):
        events: list[Any] = [{"type": "statement", "text": "t"}] * count
        events[2] = {"type": "click"}
        async with serving(redis_url) as served:
            (row,) = await send(served, orjson.dumps({"user": "ada", "events": events}))
            assert row["problem"]["errors"][0]["field"] == "events.2.clicked"


async def test_keys_repeat_lines_safely(served: Served) -> None:
    lines = [line("ada", "a", idempotency_key="k"), line("bob", "b", idempotency_key="k")]
    first = await send(served, *lines)
    again = await send(served, *lines, line("ada", "other", idempotency_key="k"))
    assert [row["accepted"]["ids"] for row in again[:2]] == [row["accepted"]["ids"] for row in first]
    assert [row["accepted"]["replayed"] for row in again[:2]] == [True, True]
    assert again[2]["problem"]["type"].endswith("idempotency_mismatch")
    assert await served.bench.texts("ada") == ["a"]


async def test_lines_of_a_user_stay_in_order_though_several_are_under_way(served: Served) -> None:
    lines = [line(f"u{number % 3}", str(number), "x" * (9_000 if number % 2 else 1)) for number in range(60)]
    rows = await send(served, *lines)
    assert Counter(row["status"] for row in rows) == {202: 60}
    for user in range(3):
        assert (await served.bench.texts(f"u{user}"))[::2] == [str(number) for number in range(user, 60, 3)]


async def test_after_a_line_to_be_sent_again_the_user_s_others_are_too(redis_url: str) -> None:
    async with serving(redis_url, queue={"user_backlog": 2}) as served:
        rows = await send(
            served, line("ada", "a"), line("ada", "b", "c"), line("bob", "d"), line("ada", "e"), line("bob", "f")
        )
        assert [row["status"] for row in rows] == [202, 429, 202, 429, 202]
        assert all(row["retry_after"] > 0 for row in rows if row["status"] == 429)
        assert await served.bench.texts("ada") == ["a"]  # "e" would fit, and come before "b"


async def test_a_line_that_no_wait_lets_in_holds_up_no_other(redis_url: str) -> None:
    async with serving(redis_url, queue={"user_backlog": 2}) as served:
        rows = await send(served, line("ada", "a", "b", "c"), line("ada", "d"))
        assert [(row["status"], "retry_after" in row) for row in rows] == [(413, False), (202, False)]
        assert await served.bench.texts("ada") == ["d"]


async def test_without_redis_not_every_line_is_tried(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    async def fail(*arguments: Any) -> None:
        tried.append(arguments)
        raise RedisConnectionError

    monkeypatch.setattr(Queue, "append", fail)
    rows = await send(served, *(line(f"u{number}", "t") for number in range(100)))
    assert {row["status"] for row in rows} == {503}
    assert len(rows) == 100
    assert all(row["retry_after"] for row in rows)
    assert len(tried) < 30


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
async def test_a_body_may_be_gzip(served: Served, encoding: str) -> None:
    lines = [line(f"u{number}", "t") for number in range(300)]
    text = b"\n".join(lines)
    packed = gzip.compress(text[:2_000]) + gzip.compress(text[2_000:])
    rows = await send(served, packed, **{"Content-Encoding": encoding})
    assert [row["user"] for row in rows] == [f"u{number}" for number in range(300)]


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (b"no gzip", "gzip", 400, "malformed_body"),
        (gzip.compress(b"{}" * 999)[:-9], "gzip", 400, "malformed_body"),
        (zlib.compress(b"{}"), "deflate", 415, "unsupported_encoding"),
        (gzip.compress(b"\n" * 30_000_000), "gzip", 413, "payload_too_large"),
        (b"\n".join([b"{}"] * 10_001), "identity", 413, "payload_too_large"),
        (b" " * 17_000_000, "identity", 413, "payload_too_large"),
    ],
    ids=["no gzip", "cut", "deflate", "bomb", "lines", "bytes"],
)
async def test_a_body_that_is_refused_whole(served: Served, body: bytes, encoding: str, status: int, code: str) -> None:
    answer = await served.http.post(MANY, content=body, headers={"Content-Encoding": encoding})
    problem(answer, status, code)


async def test_each_line_costs_as_a_call_of_its_own(served: Served) -> None:
    lines = [line("ada", "a"), b"nonsense", line("bob", *["b"] * 40)]
    answer = await served.http.post(MANY, content=b"\n".join(lines))
    assert float(answer.headers[COST_HEADER]) == 1 + 1 + 4


async def test_a_long_page_costs_as_several_calls(served: Served) -> None:
    await send(served, *(line(f"u{number}", "t") for number in range(400)))
    for limit, cost in ((100, 0.5), (400, 2.0)):
        answer = await served.http.get(f"/v1/users?limit={limit}")
        assert float(answer.headers[COST_HEADER]) == cost


async def test_an_empty_body_has_an_empty_answer(served: Served) -> None:
    assert await send(served, b"\n \n") == []


async def test_a_reader_who_goes_leaves_no_line_under_way(served: Served) -> None:
    running = bulk_append.BulkAppend(never, TENANT)
    lines = running.answer(b"\n".join(line(f"u{number}", "t") for number in range(9)))
    reading = asyncio.create_task(anext(lines))  # type: ignore[arg-type]  # an async generator is one
    await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert [task for task in asyncio.all_tasks() if "_store" in repr(task.get_coro())] == []
    assert await listed(served) == []


async def never(*_: object) -> Any:
    await asyncio.Event().wait()


# --- list ----------------------------------------------------------------------------------------


async def test_users_come_in_pages(served: Served) -> None:
    await send(served, *(line(f"u{number}", "t") for number in range(5)), line("v", "t"))
    page = (await served.http.get("/v1/users?prefix=u&limit=2&after=u0")).json()
    assert [user["user"] for user in page["users"]] == ["u1", "u2"]
    assert (page["total"], page["next"]) == (5, "u2")
    assert page["users"][0].keys() == {"user", "created_at", "events", "pending", "version", "updated_at"}
    for query in ("limit=0", "limit=1001", f"prefix={'x' * 257}"):
        problem(await served.http.get(f"/v1/users?{query}"), 422, "invalid_request")


# --- erase ---------------------------------------------------------------------------------------


async def erase(served: Served, **body: Any) -> dict[str, Any]:
    answer = await served.http.post("/v1/erasures", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_named_users_are_erased_once(served: Served) -> None:
    await send(served, *(line(user, "t") for user in ("ada", "bob", "eve")))
    body = {"users": ["ada", "nobody", "bob", "ada"]}
    assert await erase(served, **body) == {"erased": ["ada", "bob"], "unknown": 1, "left": 0}
    assert await erase(served, **body) == {"erased": [], "unknown": 3, "left": 0}
    assert await listed(served) == ["eve"]
    assert [key for key in await served.bench.user_keys() if ":eve:" not in key] == []


async def test_a_prefix_is_erased_in_steps(served: Served) -> None:
    await send(served, *(line(f"test-{number}", "t") for number in range(7)), line("tess", "t"))
    counts = []
    while True:
        done = await erase(served, prefix="test-", limit=3)
        counts.append((len(done["erased"]), done["left"]))
        if not done["left"]:
            break
    assert counts == [(3, 4), (3, 1), (1, 0)]
    assert await erase(served, prefix="test-") == {"erased": [], "unknown": 0, "left": 0}
    assert await listed(served) == ["tess"]


async def test_another_tenant_s_users_stay(served: Served) -> None:
    await send(served, line("ada", "t"), **{TENANT_HEADER: "globex"})
    assert (await erase(served, users=["ada"]))["unknown"] == 1
    assert (await erase(served, prefix="a"))["erased"] == []
    assert await served.bench.texts("ada", "globex") == ["t"]


async def test_an_erasure_that_breaks_off_says_who_is_gone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    forget, calls = Queue.forget, []

    async def forget_some(queue: Queue, tenant: str, user: str) -> bool:
        calls.append(user)
        if len(calls) > 40:
            raise RedisConnectionError
        return await forget(queue, tenant, user)

    await send(served, *(line(f"u{number:02}", "t") for number in range(70)))
    monkeypatch.setattr(Queue, "forget", forget_some)
    done = await erase(served, prefix="u")
    assert (len(done["erased"]), done["left"]) == (40, 30)
    assert len(calls) < 70  # no more are tried once Redis is away
    problem(await served.http.post("/v1/erasures", json={"prefix": "u"}), 503, "store_unavailable")
    monkeypatch.setattr(Queue, "forget", forget)
    assert len((await erase(served, prefix="u"))["erased"]) == 30
    assert await listed(served) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"users": []},
        {"users": ["a"], "prefix": "a"},
        {"prefix": ""},
        {"users": ["a/b"]},
        {"users": ["a"] * 1_001},
        {"prefix": "a", "limit": 0},
    ],
)
async def test_an_erasure_that_is_unclear_erases_nobody(served: Served, body: dict[str, Any]) -> None:
    await send(served, line("a", "t"))
    problem(await served.http.post("/v1/erasures", json=body), 422, "invalid_request")
    assert await listed(served) == ["a"]
