"""Both clients against the fake service: the same calls, retries, streams and errors."""

import inspect
import json
from typing import Any

import httpx
import pytest

from alignx.client import endpoints, transport
from alignx.client.client import AlignX, AsyncAlignX
from alignx.client.errors import AnswerUnreadable, ClientError, FieldError, ProblemError, Unreachable
from alignx.client.retry import RetryPolicy
from alignx.client.streams import DeltaEvent, ErrorEvent, PendingEvent, VersionEvent
from alignx.schemas.interactions import ClickInteraction, StatementInteraction
from alignx.schemas.items import CatalogueItem, ItemReference
from alignx.schemas.tenants import KeyRequest, TenantSettings
from tests.unit.alignx.conftest import After, Caller, FakeService, problem, sse

EVENT = StatementInteraction(text="Short answers, please.")


def test_history_goes_in_and_comes_back_page_by_page(call: Caller, service: FakeService):
    service.page = 2
    events = [StatementInteraction(text=f"number {number}") for number in range(5)]
    accepted = call("append", "ada", events, wait=5)
    assert accepted.version == 1
    assert service.requests[0].headers["Prefer"] == "wait=5"
    assert [stored.interaction.text for stored in call.all("all_events", "ada")] == [event.text for event in events]
    assert call("events", "ada", limit=1).next is not None
    assert call("dead_letters", "ada").events[0].event_id == "1-7"
    assert call("retry_dead_letters", "ada").events[0].new_event_id == "2-0"
    assert call("retry_dead_letters", "ada", ["9-9"]).events == ()


def test_versions_are_read_compared_and_changed(call: Caller, service: FakeService):
    service.page = 2
    for _ in range(3):
        call("append", "ada", [EVENT])
    assert [version.version for version in call.all("all_versions", "ada")] == [3, 2, 1]
    assert call("version", "ada", 2).parent == 1
    assert call("rejected", "ada").drafts[0].check == "refusal"
    assert "-Likes what 1" in call("diff", "ada", 1, 3).unified
    current = call("preferences", "ada")
    assert current.etag == '"v3"'
    assert call("edit", "ada", "My own words.", if_match=current.etag).text == "My own words."
    with pytest.raises(ProblemError) as caught:
        call("rollback", "ada", 1, if_match=current.etag)
    assert (caught.value.status, caught.value.code) == (412, "stale_version")
    assert call("rollback", "ada", 1, if_match='"v4"').version == 5
    assert call("rebuild", "ada").pending == 3


def test_unchanged_summary_is_not_sent_again(call: Caller):
    call("append", "ada", [EVENT])
    assert call("preferences_if_changed", "ada", '"v1"') is None
    assert call("preferences_if_changed", "ada", '"v0"').version == 1


def test_answers_for_the_user(call: Caller, service: FakeService):
    call("append", "ada", [EVENT])
    assert call("select", "ada", ["a", "b"], query="q").choice == 1
    ranked = call("recommend", "ada", ["a", "b", "c"], k=2, explain=True)
    assert [item.index for item in ranked.items] == [2, 1]
    answer = call("chat", [{"role": "user", "content": "hi"}], user="ada", mode="ica", max_history=3, learn=False)
    assert (answer.text, answer.personalization.version) == ("You said: hi", 2)
    sent = json.loads(service.requests[-1].content)
    assert sent["personalization"] == {"mode": "ica", "max_history": 3, "learn": False}
    assert "stream" not in sent
    call("chat", [{"role": "user", "content": "hi"}], axes={"helpful": 0.5, "honest": 0.5})
    assert json.loads(service.requests[-1].content)["personalization"] == {"axes": {"helpful": 0.5, "honest": 0.5}}
    call("chat", [{"role": "user", "content": "hi"}])
    assert json.loads(service.requests[-1].content) == {"messages": [{"role": "user", "content": "hi"}]}
    assert call("models") == ("small",)
    assert call("quality")["profile"].accuracy == 0.5


def test_feedback_and_uplift(call: Caller, service: FakeService):
    answer = "0" * 32
    assert call("feedback", answer, user="ada", thumb="up", picked=1).response_id == answer
    sent = json.loads(service.requests[-1].content)
    assert (sent["thumb"], sent["picked"], sent["user"]) == ("up", 1, "ada")
    assert call("uplift").uplift["accuracy"].value == 0.125
    with pytest.raises(ValueError, match="go together"):
        call("feedback", answer, chosen="Only one reply.")


def test_a_catalogue_and_candidates_by_id(call: Caller, service: FakeService):
    call("append", "ada", [EVENT])
    assert call("put_items", [CatalogueItem(id="1", title="Boots"), CatalogueItem(id="2", title="Tent")]).items == 2
    call("recommend", "ada", [ItemReference(id="2"), "1"])
    assert json.loads(service.requests[-1].content)["candidates"] == [{"id": "2"}, "1"]


def test_keys(call: Caller, service: FakeService):
    service.page = 1
    assert call("create_key", KeyRequest(name="shop", tenant="acme")).key == "ax_k1_new"
    call("create_key", KeyRequest(name="app", tenant="acme", rate=5))
    assert call("keys").next == "1"
    assert call("keys", after="1").keys[0].rate == 5
    assert call("tenants").tenants[0].keys == 2
    assert call("rotate_key", "k1", overlap_s=0).key == "ax_k1_rotated"
    assert call("revoke_key", "k1") is None
    assert call("mint_token", "ada", ["chat"]).token == "token-of-ada"
    assert [entry.id for entry in call("audit", tenant="acme", before="4-0").entries] == ["3-0"]
    with pytest.raises(ProblemError, match="key_unknown"):
        call("revoke_key", "k9")


def test_tenant_settings(call: Caller):
    assert call("replace_tenant_settings", "acme", TenantSettings(update_events=9)).overridden == ("update_events",)
    changed = call("change_tenant_settings", "acme", {"update_events": None, "update_bits": 4})
    assert (changed.overridden, changed.settings.update_bits) == (("update_bits",), 4)
    assert call("tenant_settings", "acme") == changed


def test_erasing_and_exporting(call: Caller, service: FakeService):
    call("append", "ada", [EVENT])
    lines = b"".join(call.all("export", "ada")).splitlines()
    assert json.loads(lines[0])["user"] == "ada"
    assert call("erase", "ada") is None
    with pytest.raises(ProblemError, match="user_unknown"):
        call.all("export", "ada")
    assert "ada" not in service.users


def test_not_ready_is_an_answer_and_no_error(call: Caller, service: FakeService):
    service.checks["redis"] = "Redis does not answer"
    assert call("ready").status == "not_ready"
    assert not service.slept


@pytest.mark.parametrize("user", ["a/b", "..", ".", "Zoë & co?", "100%", "a b#c"])
def test_user_id_stays_one_segment(service: FakeService, user: str):
    service.client().append(user, [EVENT])
    assert list(service.users) == [user]


# --- retries -----------------------------------------------------------------------------------


def test_retry_after_is_honoured(call: Caller, service: FakeService):
    service.faults += [problem(429, "rate_limited", headers={"Retry-After": "7"}) for _ in range(2)]
    assert len(call("append", "ada", [EVENT]).ids) == 1
    assert service.slept == [7, 7]


def test_backoff_doubles_and_ends(call: Caller, service: FakeService):
    service.faults += [problem(503, "queue_full") for _ in range(9)]
    with pytest.raises(ProblemError, match="queue_full"):
        call("append", "ada", [EVENT])
    assert len(service.requests) == 4
    for delay, longest in zip(service.slept, (0.5, 1.0, 2.0), strict=True):
        assert longest / 2 <= delay <= longest


def test_too_long_a_retry_after_ends_the_trying(call: Caller, service: FakeService):
    service.faults.append(problem(503, "draining", headers={"Retry-After": "3600"}))
    with pytest.raises(ProblemError, match="draining"):
        call("preferences", "ada")
    assert not service.slept


def test_lost_answer_of_an_append_doubles_nothing(call: Caller, service: FakeService):
    service.faults.append(After(httpx.ReadError("gone")))
    call("append", "ada", [EVENT])
    assert len(service.requests) == 2
    assert len(service.users["ada"].events) == 1


def test_key_is_not_made_twice_after_a_lost_answer(call: Caller, service: FakeService):
    service.faults.append(After(httpx.RemoteProtocolError("gone")))
    with pytest.raises(Unreachable):
        call("create_key", KeyRequest(name="shop", tenant="acme"))
    service.faults.append(httpx.ConnectError("refused"))
    call("create_key", KeyRequest(name="app", tenant="acme"))
    service.faults.append(After(httpx.ReadError("lost")))
    with pytest.raises(Unreachable):
        call("rotate_key", "k1")
    assert [key["name"] for key in service.keys] == ["shop", "app"]


def test_silence_is_not_repeated(call: Caller, service: FakeService):
    service.faults.append(httpx.ReadTimeout("slow"))
    with pytest.raises(Unreachable, match="sent nothing for 60 s"):
        call("preferences", "ada")
    assert len(service.requests) == 1


def test_unreachable_names_the_service(call: Caller, service: FakeService):
    service.faults += [httpx.ConnectError("refused")] * 4
    with pytest.raises(Unreachable, match="http://service cannot be reached: refused"):
        call("preferences", "ada")


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("Wed, 21 Oct 2015 07:28:00 GMT", 0.0, 0.0), ("soon", 0.1, 0.5), ("-3", 0.1, 0.5), ("2", 2.0, 2.0)],
)
def test_retry_after_forms(value: str, low: float, high: float):
    response = httpx.Response(503, headers={"Retry-After": value})
    delay = RetryPolicy().delay_s(endpoints.ready(), response, 1)
    assert delay is None  # /readyz understands 503
    delay = RetryPolicy().delay_s(endpoints.preferences("ada"), response, 1)
    assert delay is not None
    assert low <= delay <= high


# --- errors ------------------------------------------------------------------------------------


def test_problem_is_typed(call: Caller, service: FakeService):
    errors = [{"field": "events.0.text", "message": "too long"}]
    service.faults.append(problem(422, "invalid_request", "No.", errors=errors, request_id="r1"))
    with pytest.raises(ProblemError) as caught:
        call("append", "ada", [EVENT])
    assert caught.value.errors == (FieldError("events.0.text", "too long"),)
    assert (caught.value.request_id, caught.value.detail) == ("r1", "No.")


def test_error_in_the_shape_of_openai(call: Caller, service: FakeService):
    body = {"error": {"message": "No engine.", "type": "server_error", "param": None, "code": "engine_unavailable"}}
    service.chats.append(httpx.Response(503, json=body, headers={"X-Request-Id": "r2", "Retry-After": "99"}))
    with pytest.raises(ProblemError) as caught:
        call("chat", [{"role": "user", "content": "hi"}])
    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("engine_unavailable", 503, "r2")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"detail": "no"}', b""])
def test_another_services_error(call: Caller, service: FakeService, body: bytes):
    service.faults.append(httpx.Response(502, content=body))
    with pytest.raises(ProblemError, match="answered 502"):
        call("preferences", "ada")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"version": 1}'])
def test_unreadable_answer(call: Caller, service: FakeService, body: bytes):
    service.faults += [httpx.Response(200, content=body)]
    with pytest.raises(AnswerUnreadable):
        call("preferences", "ada")


# --- streams -----------------------------------------------------------------------------------


def test_watching_takes_up_where_the_connection_broke(call: Caller, service: FakeService):
    call("append", "ada", [EVENT])
    preferences = json.dumps(service.current("ada", service.users["ada"])).encode()
    first = b'retry: 20\n\nid: 7\nevent: pending\ndata: {"pending": 1, "version": 0}\n\nid: 8\nevent: del'
    service.streams += [
        sse(first, httpx.ReadError("gone")),
        sse(b': hello\n\nevent: delta\nid: 9\ndata: {"text": "Lik', b'es\xe2\x80\xa8"}\n\n'),
        sse(b"event: version\nid: 10\ndata: " + preferences + b"\n\nevent: later\ndata: {}\n\n"),
        sse(b'event: error\ndata: {"type": "urn:alignx:problem:engine_error", "status": 502}\n\n'),
    ]
    pending, delta, version, error = call.all("watch", "ada", most=4)
    assert pending == PendingEvent(1, 0)
    assert delta == DeltaEvent("Likes\u2028")
    assert isinstance(version, VersionEvent)
    assert version.preferences.version == 1
    assert isinstance(error, ErrorEvent)
    assert error.problem.code == "engine_error"
    ids = [request.headers.get("Last-Event-ID") for request in service.requests[1:]]
    assert ids == [None, "7", "9", "10"]
    assert service.slept == [0.02] * 3


def test_watching_an_unknown_user_fails(call: Caller):
    with pytest.raises(ProblemError, match="user_unknown"):
        call.all("watch", "nobody")


def test_stream_that_is_none(call: Caller, service: FakeService):
    call("append", "ada", [EVENT])
    service.streams.append(httpx.Response(200, text="hello"))
    with pytest.raises(AnswerUnreadable, match="server-sent events"):
        call.all("watch", "ada")


def test_chat_streams(call: Caller):
    chunks = call.all("stream_chat", [{"role": "user", "content": "hi"}], user="ada", max_tokens=5)
    assert "".join(chunk.text for chunk in chunks) == "You said: hi"
    assert chunks[-1].personalization.version == 2
    assert chunks[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ((b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n',), Unreachable),
        ((httpx.ReadError("gone"),), Unreachable),
        ((b'data: {"error": {"message": "m", "code": "engine_error"}}\n\n',), ProblemError),
        ((b"data: nonsense\n\n",), AnswerUnreadable),
        ((b"data: [1]\n\n",), AnswerUnreadable),
    ],
)
def test_chat_that_breaks_off(call: Caller, service: FakeService, pieces: tuple[Any, ...], error: type[Exception]):
    service.chats.append(sse(*pieces))
    with pytest.raises(error):
        call.all("stream_chat", [{"role": "user", "content": "hi"}])


def test_export_that_breaks_off(call: Caller, service: FakeService):
    service.faults.append(sse(b"{}\n", httpx.ReadError("gone")))
    with pytest.raises(Unreachable):
        call.all("export", "ada")


# --- making a client ---------------------------------------------------------------------------


def test_url_and_key_of_the_environment(service: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    (tmp_path / "key").write_text("ax_k1_secret\n")
    monkeypatch.setenv("ALIGNX_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("ALIGNX_URL", "http://elsewhere:9/under/")
    with AlignX(transport=service.transport()) as alignx, pytest.raises(ProblemError):
        alignx.preferences("ada")  # the fake knows no prefix
    assert str(service.requests[0].url) == "http://elsewhere:9/under/v1/users/ada/preferences"
    assert service.requests[0].headers["Authorization"] == "Bearer ax_k1_secret"
    monkeypatch.setenv("ALIGNX_API_KEY", "ax_k2_other")
    assert transport.connection_options(None, None)["headers"] == {"Authorization": "Bearer ax_k2_other"}


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", "http://a\x00b"])
def test_url_of_no_use(url: str):
    with pytest.raises(ClientError, match="URL"):
        AlignX(url, "k")


def test_key_of_no_use():
    with pytest.raises(ClientError, match="API key"):
        AlignX(None, "sésame\n")


def test_no_proxy_stands_before_loopback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALIGNX_API_KEY", "k")
    assert not transport.connection_options("http://127.0.0.1:8080", None)["trust_env"]
    assert transport.connection_options("https://alignx.example", None)["trust_env"]


def test_both_clients_have_the_same_methods():
    names = {name for name in dir(AlignX) if not name.startswith("_")}
    assert names - {"close"} == {name for name in dir(AsyncAlignX) if not name.startswith("_")} - {"aclose"}
    for name in names & set(vars(endpoints)):
        signature = inspect.signature(getattr(AlignX, name))
        assert next(iter(signature.parameters)) == "self"
        assert inspect.signature(getattr(AsyncAlignX, name)).parameters == signature.parameters
        assert getattr(AlignX, name).__doc__


def test_click_with_items_survives_the_journey(service: FakeService):
    click = ClickInteraction(clicked={"title": "Boots", "brand": "none", "price": 3.5}, shown=("Socks",))
    alignx = service.client()
    alignx.append("ada", [click])
    assert next(alignx.all_events("ada")).interaction == click
