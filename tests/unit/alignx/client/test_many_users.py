"""Both clients on many users: pages, lines in calls, what is sent again, erasures."""

import gzip

import httpx
import pytest

from alignx.client import line_sender
from alignx.client.errors import AnswerUnreadable, ProblemError
from alignx.client.line_sender import RETRIES
from alignx.schemas.interactions import StatementInteraction
from alignx.schemas.many_users import UserEvents
from tests.unit.alignx.conftest import After, Caller, FakeService, problem


def line(user: str, *texts: str, key: str | None = None) -> UserEvents:
    return UserEvents(user=user, events=tuple(StatementInteraction(text=text) for text in texts), idempotency_key=key)


def texts(service: FakeService, user: str) -> list[str]:
    return [event["interaction"]["text"] for event in service.users[user].events]


def test_users_come_page_by_page(call: Caller, service: FakeService):
    service.page = 2
    call("append_many", [line(f"u{number}", "t") for number in range(5)])
    assert [user.user for user in call.all("all_users")] == [f"u{number}" for number in range(5)]
    assert [user.user for user in call.all("all_users", prefix="u3")] == ["u3"]
    page = call("users", prefix="u", after="u1", limit=1)
    assert (page.users[0].user, page.total, page.next) == ("u2", 5, "u2")
    assert call("erase_users", ["u0", "x"]).unknown == 1
    erased = call("erase_users", prefix="u", limit=3)
    assert (len(erased.erased), erased.left) == (2, 2)


def test_each_line_has_an_outcome_and_a_key(call: Caller, service: FakeService):
    service.event_bytes = 150
    outcomes = call("append_many", [line("ada", "a"), line("bob", "x" * 200), line("cyd", "c", key="mine")])
    assert [(outcome.line, outcome.status) for outcome in outcomes] == [(1, 202), (2, 413), (3, 202)]
    assert outcomes[1].problem is not None
    assert outcomes[1].accepted is None
    keys = [entry["idempotency_key"] for entry in service.lines[0]]
    assert keys[2] == "mine"
    assert len(set(keys)) == 3


def test_a_repeated_call_stores_nothing_twice(call: Caller, service: FakeService):
    service.faults += [After(httpx.RemoteProtocolError("cut"))]
    (outcome,) = call("append_many", [line("ada", "a")])
    assert outcome.accepted.replayed
    assert texts(service, "ada") == ["a"]


def test_large_bodies_are_packed(call: Caller, service: FakeService):
    call("append_many", [line("ada", "a" * 20_000)])
    request = service.requests[-1]
    assert request.headers["Content-Type"] == "application/jsonl"
    assert request.headers["Content-Encoding"] == "gzip"
    assert len(gzip.decompress(request.content)) > 20_000 > len(request.content)


def test_an_answer_that_lacks_a_line_is_unreadable(call: Caller, service: FakeService):
    service.faults += [httpx.Response(207, text='{"line":1,"status":202,"user":"ada"}\n')]
    with pytest.raises(AnswerUnreadable, match="1 outcomes of 2 lines"):
        call("append_many", [line("ada", "a"), line("bob", "b")])


def test_lines_without_end_go_in_calls_of_bounded_cost(
    call: Caller, service: FakeService, monkeypatch: pytest.MonkeyPatch
):
    lines = [line(f"u{number}", *["t"] * (25 if number == 3 else 1)) for number in range(12)]
    monkeypatch.setattr(line_sender, "CALL_COST", 5.0)
    outcomes = list(call.all("append_all", lines))
    assert [outcome.line for outcome in outcomes] == list(range(1, 13))
    assert [len(entries) for entries in service.lines] == [3, 3, 5, 1]
    monkeypatch.setattr(line_sender, "CALL_BYTES", 50)
    service.lines.clear()
    list(call.all("append_all", lines[:2]))
    assert [len(entries) for entries in service.lines] == [1, 1]


def test_a_line_without_room_is_sent_again_before_others_of_its_user(
    call: Caller, service: FakeService, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(line_sender, "CALL_COST", 2.0)
    service.busy = {"ada": 2}
    lines = [line("ada", "a"), line("bob", "b"), line("ada", "c"), line("bob", "d")]
    outcomes = list(call.all("append_all", lines))
    assert sorted(outcome.line for outcome in outcomes) == [1, 2, 3, 4]
    assert {outcome.status for outcome in outcomes} == {202}
    assert (texts(service, "ada"), texts(service, "bob")) == (["a", "c"], ["b", "d"])
    assert service.slept == [2.0, 2.0]


def test_a_key_of_a_low_rate_waits_as_long_as_it_is_told(call: Caller, service: FakeService):
    service.faults += [problem(429, "rate_limited", headers={"Retry-After": "41"}) for _ in range(4)]
    assert [outcome.status for outcome in call.all("append_all", [line("ada", "a")])] == [202]
    assert service.slept == [41] * 4
    service.faults += [problem(503, "queue_full") for _ in range(9)]  # no number: half a minute at most, as before
    list(call.all("append_all", [line("ada", "b")]))
    assert max(service.slept[4:]) <= 30


def test_a_line_is_not_sent_again_for_ever(call: Caller, service: FakeService):
    service.busy = {"ada": 1_000}
    outcomes = list(call.all("append_all", [line("ada", "a"), line("bob", "b")]))
    assert [(outcome.line, outcome.status) for outcome in outcomes] == [(2, 202), (1, 429)]
    assert len(service.lines) == RETRIES + 1


def test_single_events_are_forgotten(call: Caller, service: FakeService):
    call("append_many", [line("ada", "salmon", "tea", "salmon again")])
    shown = call("forget_about", "ada", "salmon", dry_run=True)
    assert (shown.event_ids, shown.dry_run) == (("1-0", "1-2"), True)
    assert call("forget_event", "ada", "1-0").event_ids == ("1-0",)
    assert texts(service, "ada") == ["tea", "salmon again"]
    with pytest.raises(ProblemError, match="event_unknown"):
        call("forget_event", "ada", "1-0")
    assert call("forget_about", "ada", "salmon").event_ids == ("1-2",)
    assert call("forget_about", "ada", "salmon").event_ids == ()
