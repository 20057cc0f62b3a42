"""Files of histories: what is read, how it is cut into calls, and that nothing is sent twice."""

import io
import json
from typing import Any

import httpx
import pytest

from alignx.cli.histories import ingest
from alignx.cli.histories.entries import Scan, Source, scan
from alignx.client import line_sender
from alignx.client.errors import Unreachable
from tests.unit.alignx.conftest import After, FakeService, problem


def post(text: str, **more: Any) -> bytes:
    return json.dumps({"type": "post", "text": text, **more}).encode() + b"\n"


def sent(service: FakeService, user: str) -> list[str]:
    return [event["interaction"]["text"] for event in service.users[user].events]


def run(service: FakeService, content: bytes, *, user: str | None = "ada", size: int = 2, **more: Any) -> Scan:
    found = scan(source := Source(io.BytesIO(content), default_user=user))
    with service.client() as client:
        batches = ingest.split_batches(source, size)
        list(ingest.Sending(client, batches, found.digest, ingest.SendOptions(**more)).run())
    return found


def test_lines_name_their_user_or_take_the_default(service: FakeService):
    content = post("a") + b"\n" + post("b", user="bob") + post("c") + post("d", user=7)
    found = run(service, content)
    assert (found.events, found.users, found.bad) == (4, 3, ())
    assert (sent(service, "ada"), sent(service, "bob"), sent(service, "7")) == (["a", "c"], ["b"], ["d"])


def test_a_backfill_is_sent_as_one(service: FakeService):
    run(service, post("a") + post("b") + post("c"), backfill=True)
    assert [line["backfill"] for lines in service.lines for line in lines] == [True, True]


def test_upi_rows_become_comparisons(service: FakeService):
    row = {
        "userid": 12,
        "history": [{"query": "q", "chosen": "a", "rejected": "b"}, {"chosen": "c", "rejected": {"title": "d"}}],
        "target": {"query": "t", "chosen": "secret", "rejected": "x"},
    }
    run(service, json.dumps(row).encode(), user=None)
    events = [event["interaction"] for event in service.users["12"].events]
    assert [(event["type"], event["query"], event["chosen"]) for event in events] == [
        ("comparison", "q", "a"),
        ("comparison", None, "c"),
    ]


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        (b"{", "", "not JSON"),
        (b"[1]", "", "not a JSON object"),
        (b"\xff", "", "not JSON"),
        (b'{"type": "rating", "item": "x", "value": NaN}', "", "not JSON"),
        (b'{"type": "post"}', "post.text", "Field required"),
        (b'{"type": "poem", "text": "x"}', "", "does not match any of the expected tags"),
        (b'{"text": "x"}', "", "Unable to extract tag"),
        (b'{"type": "post", "text": "x", "likes": 3}', "post.likes", "not permitted"),
        (b'{"type": "post", "text": "x", "user": ""}', "user", "at least 1 character"),
        (b'{"type": "post", "text": "x", "user": null}', "user", "names no user"),
        (b'{"type": "post", "text": "x", "user": "a/b"}', "user", "pattern"),
        (b'{"type": "post", "text": "x", "user": ["a"]}', "user", "valid string"),
        (b'{"kind": "event", "interaction": 3}', "interaction", "valid dictionary"),
        (b'{"userid": "u", "history": []}', "history", "at least 1 item"),
        (b'{"userid": "u", "history": [{"chosen": "", "rejected": ""}]}', "history.0", "both empty"),
        (b'{"userid": "u", "history": [{"chosen": "a"}]}', "history.0.rejected", "Field required"),
    ],
)
def test_bad_lines_are_named(line: bytes, field: str, message: str):
    found = scan(Source(io.BytesIO(post("fine", user="u") + line)))
    (bad, *_more) = found.bad
    assert (bad.line, bad.field) == (2, field)
    assert message in bad.message
    assert found.events == 1


def test_byte_order_mark_and_windows_line_ends(service: FakeService):
    run(service, b"\xef\xbb\xbf" + post("a").replace(b"\n", b"\r\n") + post("b\u2028c").strip())
    assert sent(service, "ada") == ["a", "b\u2028c"]


def test_order_of_each_user_is_kept(service: FakeService):
    users = ["ada", "bob", "cyd"]
    content = b"".join(post(str(number), user=users[number * number % 3]) for number in range(50))
    run(service, content, size=7)
    for user in users:
        if user in service.users:
            numbers = [int(text) for text in sent(service, user)]
            assert numbers == sorted(numbers)
    assert sum(len(history.events) for history in service.users.values()) == 50


@pytest.mark.parametrize("lost", range(4))
def test_a_second_run_after_an_interruption_doubles_nothing(
    service: FakeService, lost: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(line_sender, "CALL_COST", 1.0)  # a batch a call
    content = b"".join(post(str(number)) for number in range(8))
    service.faults += [None] * lost + [After(httpx.ReadTimeout("killed"))]
    with pytest.raises(Unreachable):
        run(service, content)
    run(service, content)
    assert sent(service, "ada") == [str(number) for number in range(8)]


def test_resume_asks_the_service_and_may_use_another_batch_size(service: FakeService, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(line_sender, "CALL_COST", 1.0)  # a batch a call
    content = b"".join(post(str(number)) for number in range(8)) + post("own", id="mine")
    service.faults += [None, None, httpx.ReadTimeout("killed")]
    with pytest.raises(Unreachable):
        run(service, content, size=2)
    service.users["ada"].replies.clear()  # the keys are forgotten after a day
    service.page = 3
    run(service, content, size=3, resume=True)
    run(service, content, size=5, resume=True)
    assert sent(service, "ada") == [*(str(number) for number in range(8)), "own"]
    assert service.users["ada"].events[-1]["interaction"]["id"] == "mine"


def test_resume_knows_what_was_set_aside(service: FakeService):
    content = b"".join(post(str(number)) for number in range(8))
    run(service, content)
    ada = service.users["ada"]
    ada.dead, ada.gone = [event["interaction"] for event in ada.events[2:6]], 4
    del ada.events[2:6]
    service.page = 2
    run(service, content, size=3, resume=True)
    assert sent(service, "ada") == ["0", "1", "6", "7"]


@pytest.mark.parametrize("gone", [0, 4])
def test_resume_knows_what_has_left_the_log(service: FakeService, gone: int):
    """Where nothing has, the first rows were not sent: the service refused one of them, and they wait."""
    content = b"".join(post(str(number)) for number in range(8)) + post("own", id="mine")
    run(service, content)
    ada = service.users["ada"]
    del ada.events[6:], ada.events[:4]
    ada.gone = gone
    run(service, content, size=3, resume=True)
    assert sent(service, "ada") == ["4", "5", *([] if gone else ["0", "1", "2", "3"]), "6", "7", "own"]


def test_resume_for_a_new_user(service: FakeService):
    run(service, post("a"), resume=True, source="shop")
    assert service.users["ada"].events[0]["interaction"]["source"] == "shop"


def test_failed_events_of_an_export_are_sent_where_they_were_kept(service: FakeService):
    failed = {"kind": "dead_letter", "event_id": "1-7", "error": "too long", "failed_at": "2026-05-01T12:00:00Z"}
    letter = {**failed, "interaction": {"type": "post", "text": "a"}}
    lines = [{"kind": "header", "user": "ada"}, letter, failed]
    found = run(service, b"".join(json.dumps(line).encode() + b"\n" for line in lines), user=None)
    assert (found.events, found.bad) == (1, ())
    assert sent(service, "ada") == ["a"]


def test_exports_one_behind_the_other_stay_with_their_users(service: FakeService):
    lines = [part for user in ("ada", "bob") for part in ({"kind": "header", "user": user}, _event(user))]
    content = b"".join(json.dumps(part).encode() + b"\n" for part in lines)
    run(service, content, user=None)
    assert (sent(service, "ada"), sent(service, "bob")) == (["ada"], ["bob"])
    service.users.clear()
    run(service, content, user="eve")  # who is named stands before who is told
    assert sorted(sent(service, "eve")) == ["ada", "bob"]


def _event(text: str) -> dict[str, object]:
    return {"kind": "event", "event_id": "1-7", "interaction": {"type": "post", "text": text}}


def test_other_content_has_other_keys(service: FakeService):
    run(service, post("a"))
    run(service, post("b"))
    assert sent(service, "ada") == ["a", "b"]


def test_full_backlog_is_waited_for(service: FakeService):
    full = [problem(429, "backlog_full", headers={"Retry-After": "1"}) for _ in range(20)]
    service.faults += full
    run(service, post("a"))
    assert service.slept == [1.0] * 20


def test_memory_stays_bounded(service: FakeService, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ingest, "BUFFERED_EVENTS", 10)
    content = b"".join(post(str(number), user=f"u{number % 40}") for number in range(80))
    sizes = [len(batch.entries) for batch in ingest.split_batches(Source(io.BytesIO(content)), 100)]
    assert sizes == [1] * 80


def test_long_events_are_cut_into_smaller_calls(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ingest, "BATCH_BYTES", 100)
    content = b"".join(post("x" * 60) for _ in range(4))
    sizes = [len(batch.entries) for batch in ingest.split_batches(Source(io.BytesIO(content), default_user="ada"), 100)]
    assert sizes == [2, 2]
