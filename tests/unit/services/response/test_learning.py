"""Which chats become events of their users, of what they are made, and that a cut answer leaves nothing."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from aiohttp import web

from services.outcomes.served import CHAT_OUTCOMES, MOST_CHATS, arm_of
from services.response.chat_request import ChatRequestMessage
from services.response.learning import latest_turns
from services.server.app import APPEND_HEADER, USER_HEADER
from tests.unit.services.engine.fake_engine import Answer, answers, fails
from tests.unit.services.response.conftest import ANSWER, Service, sends
from tests.unit.services.response.doors.test_responses import chunk
from tests.unit.with_settings import with_settings

LEARN = {"learn": True}
QUESTION = {"role": "user", "content": "Why is the sky blue?"}
REPLY = {"role": "assistant", "content": "Hi."}


DONE = b"data: [DONE]\n\n"
STREAM = chunk(content="H") + chunk(content="i.") + chunk("stop") + DONE


@pytest.fixture(autouse=True)
def may_append(service: Service) -> None:
    service.http.headers[APPEND_HEADER] = "1"


def counted(service: Service) -> dict[str, int]:
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("alignx_chats_learned_total{")]
    counts = {outcome: int(float(line.split()[1])) for outcome in CHAT_OUTCOMES for line in found if outcome in line}
    assert not any("ada" in line for line in found)
    return counts


def turns(service: Service, user: str = "ada") -> list[list[dict[str, str]]]:
    return [event["messages"] for event in service.kept_chats(user)]


IN_PARTS = {"message": {"role": "assistant", "content": [{"type": "text", "text": "Hi."}]}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("stream", "reply"),
    [(False, answers(ANSWER)), (True, sends(STREAM)), (False, answers({**ANSWER, "choices": [IN_PARTS]}))],
)
def test_a_whole_answer_is_kept_with_the_turn_it_answers(service: Service, stream: bool, reply: Answer) -> None:
    service.engine.chat = reply
    answer = service.chat(user="ada", personalization=LEARN, stream=stream)
    assert answer.status_code == 200
    assert b'"learn":true' in answer.content
    assert b"response_id" not in answer.content  # for want of `feedback_s`
    (event,) = service.kept_chats("ada")
    assert (event["type"], event["source"], len(event["id"])) == ("dialogue", "chat", 32)
    assert event["messages"] == [QUESTION, REPLY]
    assert "occurred_at" in event
    assert counted(service) == {"kept": 1}


def test_only_chats_that_ask_for_it_are_kept(service: Service) -> None:
    for personalization in (None, {"mode": "none"}, {"learn": False}, {"learn": None}):
        fields = {} if personalization is None else {"personalization": personalization}
        assert "learn" not in service.chat(user="ada", **fields).json()["personalization"]
    assert service.kept_chats("ada") == []


def test_a_tenants_setting_is_the_default(service: Service) -> None:
    service.configure("acme", learn_from_chats=True)
    service.chat(user="ada", personalization={"learn": False})
    service.chat()  # for nobody
    service.chat(user="ada", n=2)  # nobody knows which of two was read
    assert service.kept_chats("ada") == []
    service.chat(user="ada", personalization={"mode": "none"})
    assert turns(service) == [[QUESTION, REPLY]]


def test_an_answers_id_names_its_event(service: Service) -> None:
    service.configure("acme", feedback_s=3600)
    answer = service.chat(user="ada", personalization=LEARN)
    assert [event["id"] for event in service.kept_chats("ada")] == [answer.headers["X-AlignX-Response-Id"]]


@pytest.mark.parametrize(
    ("door", "body"),
    [
        ("responses", {"input": "Why is the sky blue?", "model": "tiny", "safety_identifier": "ada"}),
        ("messages", {"messages": [QUESTION], "model": "tiny", "max_tokens": 9, "metadata": {"user_id": "ada"}}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_door_learns(service: Service, door: str, body: dict[str, Any], stream: bool) -> None:
    service.engine.chat = sends(STREAM) if stream else answers(ANSWER)
    answer = service.http.post(f"/v1/{door}", json={**body, "stream": stream, "personalization": LEARN})
    assert answer.status_code == 200, answer.text
    assert turns(service) == [[QUESTION, REPLY]]


def test_both_arms_are_learned(service: Service) -> None:
    service.configure("acme", holdout_share=0.5)
    users = {arm_of("acme", user := f"user-{number}", 0.5): user for number in range(99)}
    for arm, user in users.items():
        assert service.chat(user=user, personalization=LEARN).json()["personalization"]["arm"] == arm
        assert turns(service, user) == [[QUESTION, REPLY]]


NO_TEXT = {"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
A_CALL = {"message": {"role": "assistant", "content": None, "tool_calls": [{}]}, "finish_reason": "tool_calls"}


@pytest.mark.parametrize(
    ("stream", "reply"),
    [
        (True, sends(chunk(content="H"), chunk(content="i."), cut=True)),
        (True, sends(chunk(content="Hi."))),  # without an end
        (True, sends(chunk(content="H") + b'data: {"error": {"message": "out of memory"}}\n\n' + DONE)),
        (True, sends(chunk("stop") + DONE)),
        (True, sends(chunk("stop", content=" \n") + DONE)),
        (True, sends(chunk("content_filter", content="H") + DONE)),
        (True, sends(chunk(content="Wait.", tool_calls=[{"index": 0}]) + chunk("tool_calls") + DONE)),
        (False, answers({**ANSWER, "choices": [{"index": 0, **NO_TEXT}]})),
        (False, answers({**ANSWER, "choices": [{"index": 0, **A_CALL}]})),
        (False, fails(500)),
    ],
)
def test_of_what_is_no_whole_answer_nothing_is_kept(service: Service, stream: bool, reply: Any) -> None:
    service.engine.chat = reply
    service.chat(user="ada", personalization=LEARN, stream=stream)
    assert service.kept_chats("ada") == []
    assert counted(service) == {}


def test_the_chat_is_kept_before_the_caller_sees_the_end_and_no_sooner(service: Service) -> None:
    is_heard = threading.Event()

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk(content="Hi."))
        await asyncio.to_thread(is_heard.wait, 10)
        await response.write(chunk("stop") + DONE)
        return response

    service.engine.chat = reply
    body = {"messages": [QUESTION], "user": "ada", "stream": True, "personalization": LEARN}
    with service.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert "Hi." in next(lines)
        assert service.kept_chats("ada") == []
        is_heard.set()
        assert "data: [DONE]" in lines  # the lines behind it are not read
        assert turns(service) == [[QUESTION, REPLY]]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_user_who_is_erased_during_the_answer_does_not_come_back(service: Service, is_known: bool) -> None:
    if is_known:
        service.learn("ada", {"type": "statement", "text": "I like tides."})
    begun, erased = threading.Event(), threading.Event()

    async def reply(request: web.Request) -> web.StreamResponse:
        begun.set()
        await asyncio.to_thread(erased.wait, 10)
        return await answers(ANSWER)(request)

    service.engine.chat = reply
    given: list[httpx.Response] = []
    chat = threading.Thread(target=lambda: given.append(service.chat(user="ada", personalization=LEARN)))
    chat.start()
    assert begun.wait(10)
    service.erase("ada")
    erased.set()
    chat.join(20)
    assert given[0].status_code == 200
    assert service.kept_chats("ada") == []
    assert counted(service) == {"erased": 1}


def test_what_waits_is_bounded(service: Service) -> None:
    for _ in range(MOST_CHATS + 1):
        service.chat(user="ada", personalization=LEARN)
    assert len(service.kept_chats("ada")) == MOST_CHATS
    assert counted(service) == {"kept": MOST_CHATS, "full": 1}


@with_settings(limits={"event_bytes": 1_024})
def test_a_long_exchange_is_cut_to_its_latest_turns(service: Service) -> None:
    said = [{"role": "user", "content": "Tell me."}, {"role": "assistant", "content": "x" * 900}, QUESTION]
    service.chat(user="ada", personalization=LEARN, messages=said)
    assert turns(service) == [[QUESTION, REPLY]]
    service.chat("x" * 1_000, user="ada", personalization=LEARN)
    assert counted(service) == {"shortened": 1, "too_long": 1}
    assert len(service.kept_chats("ada")) == 1


@pytest.mark.parametrize("token", [True, False])
def test_learning_needs_the_scope_of_an_append(service: Service, token: bool) -> None:
    service.configure("acme", learn_from_chats=True)
    del service.http.headers[APPEND_HEADER]
    if token:
        service.http.headers[USER_HEADER] = "ada"
    refused = service.chat(user="ada", personalization=LEARN)
    assert refused.status_code == 403
    assert refused.json()["error"]["param"] == "personalization.learn"
    assert "events:write" in refused.json()["error"]["message"]
    assert service.chat(user="ada").status_code == 200  # the tenant's setting gives nobody a scope
    assert service.kept_chats("ada") == []


@pytest.mark.parametrize("fields", [{}, {"user": "ada", "n": 2}])
def test_what_cannot_be_learned_is_refused_by_name(service: Service, fields: dict[str, Any]) -> None:
    refused = service.chat(personalization={"mode": "none", "learn": True}, **fields)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "personalization.learn")


def told(*pairs: tuple[str, Any]) -> list[tuple[str, str]]:
    messages = [ChatRequestMessage(role=role, content=content) for role, content in pairs]
    return [(turn.role, turn.content) for turn in latest_turns(messages)]


def test_the_latest_turn_is_read_with_what_it_answers() -> None:
    earlier = (("system", "Be kind."), ("user", "One."), ("assistant", "Two."), ("user", "Three."))
    assert told(*earlier) == [("assistant", "Two."), ("user", "Three.")]
    assert told(*earlier, ("assistant", None), ("tool", "Four.")) == told(*earlier)
    assert told(*earlier, ("user", "Five.")) == [*told(*earlier), ("user", "Five.")]
    assert told(("user", [{"type": "text", "text": "A"}, {"type": "image_url", "image_url": {}}])) == [("user", "A")]
    assert told(*earlier, ("assistant", "Four."), ("user", [{"type": "image_url", "image_url": {}}])) == []
    assert told(("system", "Be kind."), ("assistant", "Hello.")) == []
    assert len(told(*[("user", "More.")] * 600)) <= 400


def test_the_answer_is_given_though_redis_takes_no_writes(service: Service) -> None:
    service.refuse_writes(is_refused=True)
    try:
        answer = service.chat(user="ada", personalization=LEARN)
    finally:
        service.refuse_writes(is_refused=False)
    assert answer.status_code == 200
    assert json.loads(answer.content)["choices"] == ANSWER["choices"]
    assert counted(service) == {"failed": 1}
