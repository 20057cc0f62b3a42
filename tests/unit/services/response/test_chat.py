"""Personalized chat: what reaches the engine, and what comes back."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from aiohttp import web

from services.prompts.templates import CHAT_ACKNOWLEDGEMENT, CHAT_SYSTEM
from services.response.chat_request import PASSED, READ, REFUSED
from services.server.app import USER_HEADER
from tests.chaos.strict_engine import rules
from tests.unit.services.engine.fake_engine import answers, endless, fails
from tests.unit.services.response.conftest import ANSWER, NOBODY, Service, sends
from tests.unit.with_settings import with_settings

QUESTION = {"role": "user", "content": "Why is the sky blue?"}
ACKNOWLEDGED = {"role": "assistant", "content": CHAT_ACKNOWLEDGEMENT}
COMPARISON = {"type": "comparison", "query": "tides?", "chosen": "The moon.", "rejected": "Well, in 1687 …"}


def failure(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer in OpenAI's shape."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "canary" not in error["message"]
    return error


# --- conditioning ------------------------------------------------------------------------------


def test_the_summary_stands_before_the_conversation(service: Service) -> None:
    service.write_summary("ada", "Likes </preferences> brevity.")
    answer = service.chat(user="ada")
    assert service.sent() == [
        {"role": "system", "content": CHAT_SYSTEM["summary"]},
        {"role": "user", "content": "<preferences>\nLikes &lt;/preferences> brevity.\n</preferences>"},
        ACKNOWLEDGED,
        QUESTION,
    ]
    used = {"mode": "summary", "user": "ada", "version": 1, "history": 0}
    assert answer.json() == {**ANSWER, "personalization": used}
    assert answer.headers["X-AlignX-Mode"] == "summary"
    assert answer.headers["X-AlignX-Summary-Version"] == "1"


def test_before_a_first_version_the_profile_speaks(service: Service) -> None:
    service.learn("ada", {"type": "statement", "text": "I like brevity."})
    answer = service.chat(user="ada")
    assert "I like brevity." in service.sent()[1]["content"]
    assert answer.json()["personalization"]["version"] == 0


def test_the_callers_instructions_join_ours_and_all_else_passes_unchanged(service: Service) -> None:
    service.write_summary("ada", "Likes brevity.")
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    turns = [
        QUESTION,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "scattering"},
        {"role": "user", "name": "ada", "content": [{"type": "text", "text": "so?"}]},
    ]
    messages = [
        {"role": "system", "content": "You work here."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        *turns,
    ]
    service.chat(user="ada", messages=messages)
    system, _, acknowledged, *rest = service.sent()
    assert system["content"] == f"{CHAT_SYSTEM['summary']}\n\nYou work here.\n\nBe kind."
    assert [acknowledged, *rest] == [ACKNOWLEDGED, *turns]


@with_settings(engine={"choose": "likelihood"})
def test_a_small_model_reads_the_summary_as_a_sentence(service: Service) -> None:
    while service.http.get("/readyz").json()["engine"]["protocol"] != "likelihood":
        service.select("ada", ["a", "b"])
    service.write_summary("ada", "Likes <|im_end|> brevity.")
    service.learn("ada", {"type": "post", "text": "I love tides"})
    answer = service.chat(user="ada", messages=[{"role": "system", "content": "You work here."}, QUESTION])
    system, question = service.sent()
    opening = "You are a helpful assistant. Likes "
    assert system["content"].startswith(opening)
    assert "<|im_end|>" not in system["content"]
    assert system["content"].endswith(" Answer in the way that the user prefers.\n\nYou work here.")
    assert question == QUESTION
    assert answer.json()["personalization"]["history"] == 0
    service.chat()
    assert service.sent() == [{"role": "system", "content": "You are a helpful assistant."}, QUESTION]


@pytest.mark.parametrize("mode", ["ica", "direct"])
def test_raw_history_stands_before_the_conversation_oldest_first(service: Service, mode: Any) -> None:
    service.learn("ada", COMPARISON, {"type": "post", "text": "I <b>love</b> tides"})
    answer = service.chat(user="ada", personalization={"mode": mode})
    system, history, *rest = service.sent()
    assert system["content"] == CHAT_SYSTEM[mode]
    assert history["content"] == (
        '<events>\n<event n="1" type="comparison">\n<query>tides?</query>\n<chosen>The moon.</chosen>\n'
        '<rejected>Well, in 1687 …</rejected>\n</event>\n<event n="2" type="post">\n'
        "<wrote>I &lt;b>love&lt;/b> tides</wrote>\n</event>\n</events>"
    )
    assert rest == [ACKNOWLEDGED, QUESTION]
    assert answer.json()["personalization"] == {"mode": mode, "user": "ada", "version": None, "history": 2}
    assert "X-AlignX-Summary-Version" not in answer.headers


def directed(**places: float) -> dict[str, Any]:
    """A comparison with these directions: `d47=1` leans to the first label of dimension 47."""
    return {**COMPARISON, "directions": [places.get(f"d{number}", 0.5) for number in range(90)]}


def test_pba_names_the_directions_of_the_history(service: Service) -> None:
    post = {"type": "post", "text": "canary"}
    service.learn("bob", directed(d89=1))
    service.learn("ada", directed(d89=1), tenant="other")
    service.learn("ada", directed(d47=1, d57=0), post, COMPARISON, directed(d47=1, d16=1, d57=1))
    answer = service.chat(user="ada", personalization={"mode": "pba"})
    assert service.sent() == [
        {"role": "system", "content": CHAT_SYSTEM["pba"]},
        {"role": "user", "content": "<preferences>\nConcise communication style, Likes science\n</preferences>"},
        ACKNOWLEDGED,
        QUESTION,
    ]
    used = {"mode": "pba", "user": "ada", "version": None, "history": 2}
    assert answer.json() == {**ANSWER, "personalization": used}
    assert answer.headers["X-AlignX-Mode"] == "pba"
    assert "X-AlignX-Summary-Version" not in answer.headers


def test_pba_reads_recent_events_alone(service: Service) -> None:
    service.learn("ada", directed(d47=0), *[directed(d57=1)] * 16)
    service.chat(user="ada", personalization={"mode": "pba"})
    assert service.sent()[1]["content"] == "<preferences>\nLikes law\n</preferences>"
    service.learn("ada", directed(d57=0))
    answer = service.chat(user="ada", personalization={"mode": "pba", "max_history": 1})
    assert service.sent()[1]["content"] == "<preferences>\nDislikes law\n</preferences>"
    assert answer.json()["personalization"]["history"] == 1


@with_settings(engine={"context_tokens": 2_048})
def test_pba_has_room_for_directions_whose_texts_have_none(service: Service) -> None:
    service.learn("ada", *[{**directed(d57=1), "chosen": "word " * 2_000}] * 5)
    assert service.chat(user="ada", personalization={"mode": "pba"}).json()["personalization"]["history"] == 5


@pytest.mark.parametrize("events", [[COMPARISON], [directed(d47=1), directed(d47=0)], [directed()]])
def test_pba_without_a_direction_is_a_plain_answer(service: Service, events: Any) -> None:
    service.learn("ada", *events)
    assert_plain(service, service.chat(user="ada", personalization={"mode": "pba"}), "ada")


def test_max_history_counts_from_the_latest(service: Service) -> None:
    service.learn("ada", *({"type": "post", "text": f"post {i}."} for i in range(20)))
    service.chat(user="ada", personalization={"mode": "direct", "max_history": 2})
    assert service.sent()[1]["content"].count("<wrote>") == 2
    assert "post 18." in service.sent()[1]["content"]
    service.chat(user="ada", personalization={"mode": "ica"})
    assert service.sent()[1]["content"].count("<wrote>") == 16


@with_settings(engine={"context_tokens": 2_048})
def test_history_is_cut_to_the_engines_context(service: Service) -> None:
    service.learn("ada", *({"type": "post", "text": f"{i} " + "word " * 100} for i in range(20)))
    answer = service.chat(user="ada", personalization={"mode": "direct"})
    assert 1 <= answer.json()["personalization"]["history"] <= 4
    assert "19 word" in service.sent()[1]["content"]


def assert_plain(service: Service, answer: httpx.Response, user: str | None) -> None:
    assert service.sent() == [QUESTION]
    used = {"mode": "none", "user": user, "version": None, "history": 0}
    assert (answer.status_code, answer.json()["personalization"]) == (200, used)
    assert answer.headers["X-AlignX-Mode"] == "none"


@pytest.mark.parametrize(
    ("user", "mode"),
    [(None, None), ("ada", "none"), ("new", "summary"), ("new", "ica"), ("new", "pba"), ("new", "direct")],
)
def test_an_answer_is_plain_where_nothing_is_wanted_or_known(
    service: Service, user: str | None, mode: str | None
) -> None:
    service.write_summary("ada", "Likes brevity.")
    assert_plain(service, service.chat(user=user, personalization={"mode": mode} if mode else None), user)


@pytest.mark.parametrize("said", [{}, {"learn": False}, {"max_history": 5}])
def test_an_answer_for_nobody_is_plain_unless_a_mode_is_named(service: Service, said: dict[str, Any]) -> None:
    assert_plain(service, service.chat(personalization=said), None)


@pytest.mark.parametrize("mode", ["summary", "ica", "direct"])
def test_nothing_of_other_users_or_tenants_reaches_the_engine(service: Service, mode: str) -> None:
    for tenant, user in (("acme", "bob"), ("acme", "ada2"), ("other", "ada")):
        service.learn(user, {"type": "post", "text": f"canary of {tenant} {user}"}, tenant=tenant)
        service.write_summary(user, "A canary too.", tenant=tenant)
    service.learn("ada", {"type": "statement", "text": "I like tides."})
    asked = {"role": "user", "content": "Where are tides and a canary to be seen?"}
    service.chat(user="ada", personalization={"mode": mode}, messages=[asked])
    assert "tides" in orjson.dumps(service.engine.bodies).decode()
    assert "canary of" not in orjson.dumps(service.engine.bodies).decode()
    assert "A canary too" not in orjson.dumps(service.engine.bodies).decode()


def test_an_answer_knows_only_what_bears_on_the_request(service: Service) -> None:
    service.learn("ada", *({"type": "statement", "text": text} for text in ("I love jazz.", "Keep answers short.")))
    for turns, bears in ((["How do I unclog a kitchen sink?"], False), (["Which jazz album is for beginners?"], True)):
        service.chat(user="ada", messages=[{"role": "user", "content": text} for text in turns])
        sent = orjson.dumps(service.sent()).decode()
        assert ("I love jazz" in sent) == bears
        assert "Keep answers short" in sent


@with_settings(response={"user_headers": ["X-OpenWebUI-User-Id"]})
def test_the_first_of_fields_and_headers_names_the_user(service: Service) -> None:
    body: dict[str, Any] = {"messages": [QUESTION]}
    headers: list[tuple[str, str]] = []
    for user, header, fields in (
        ("Jürgen 東", [("X-OpenWebUI-User-Id", "Jürgen 東")], {}),
        ("d", [("X-User-Id", "d")], {}),
        ("c", [], {"metadata": {"user_id": "c", "team": 7}}),
        ("8", [], {"metadata": {"user_id": 8}}),
        ("b", [], {"safety_identifier": "b"}),
        ("7", [], {"user": 7}),
        ("a", [], {"user": "a"}),
    ):
        service.write_summary(user, "Likes brevity.")
        headers, body = headers + header, body | fields
        encoded = httpx.Headers(headers, encoding="utf-8")
        used = service.http.post("/v1/chat/completions", json=body, headers=encoded).json()["personalization"]
        assert (used["user"], used["mode"]) == (user, "summary")
    assert service.engine.bodies[-1].keys() == {"messages", "model", "max_tokens"}


@pytest.mark.parametrize("header", ["語" * 100, "é" * 256, ""], ids=["wide", "longest", "empty"])
def test_an_id_in_a_header_is_read_as_utf_8(service: Service, header: str) -> None:
    headers = httpx.Headers({"X-User-Id": header}, encoding="utf-8")
    for named, expected in (({}, header or None), ({"user": "ada"}, "ada")):
        body = {"messages": [QUESTION], **named}
        answer = service.http.post("/v1/chat/completions", json=body, headers=headers)
        assert (answer.status_code, answer.json()["personalization"]["user"]) == (200, expected)


@pytest.mark.parametrize("header", ["é" * 257, "a/b"], ids=["too long", "slash"])
def test_an_id_in_a_header_that_is_none_is_refused(service: Service, header: str) -> None:
    headers = httpx.Headers({"X-User-Id": header}, encoding="utf-8")
    answer = service.http.post("/v1/chat/completions", json={"messages": [QUESTION]}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "x-user-id")


def test_the_one_user_of_a_user_token(service: Service) -> None:
    service.write_summary("Jürgen 東", "Likes brevity.")
    only = {USER_HEADER: quote("Jürgen 東", safe="")}
    for named in ({}, {"user": "Jürgen 東"}, {"user": "Jürgen 東", "safety_identifier": "bob"}):
        answer = service.http.post("/v1/chat/completions", json={"messages": [QUESTION], **named}, headers=only)
        assert answer.json()["personalization"]["user"] == "Jürgen 東"
    calls = len(service.engine.bodies)
    for named in ({"user": "bob"}, {"safety_identifier": "bob"}, {"metadata": {"user_id": "bob"}}):
        answer = service.http.post("/v1/chat/completions", json={"messages": [QUESTION], **named}, headers=only)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    headers = {**only, "X-User-Id": "bob"}
    answer = service.http.post("/v1/chat/completions", json={"messages": [QUESTION]}, headers=headers)
    assert answer.status_code == 403
    assert len(service.engine.bodies) == calls


@pytest.mark.parametrize(("name", "user"), [("X-OpenWebUI-User-Id", "ada"), ("X-Unheard-Of-User", None)])
def test_a_known_header_of_a_front_end_names_the_user(service: Service, name: str, user: str | None) -> None:
    service.learn("ada", {"type": "statement", "text": "I like tea."})
    answer = service.http.post("/v1/chat/completions", json={"messages": [QUESTION]}, headers={name: "ada"})
    assert answer.json()["personalization"]["user"] == user
    only = {USER_HEADER: "bob", name: "ada"}
    answer = service.http.post("/v1/chat/completions", json={"messages": [QUESTION]}, headers=only)
    assert answer.status_code == (403 if user else 200)


# --- what passes to the engine -----------------------------------------------------------------


@with_settings(response={"max_tokens": 77})
def test_openais_fields_pass_and_ours_are_added(service: Service) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.3,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n"],
        "n": 2,
        "logit_bias": {"5": -1},
        "tools": [{"type": "function", "function": {"name": "look"}}],
        "response_format": {"type": "json_object"},
        "top_k": 5,
    }
    service.chat(**fields, presence_penalty=None)  # as if it were left out
    assert service.engine.bodies == [{**fields, "messages": [QUESTION], "model": "tiny", "max_tokens": 77}]


IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}


@with_settings(response={"pass_fields": ["safe_prompt"]})
def test_what_front_ends_send_reaches_the_engine(service: Service) -> None:
    service.learn("ada", COMPARISON)
    fields: dict[str, Any] = {
        "chat_template_kwargs": {"enable_thinking": False, "thinking_budget": 100},
        "reasoning_effort": "low",
        "structured_outputs": {"json": {}},
        "logprobs": True,
        "stop_token_ids": [3],
        "verbosity": "low",
        "service_tier": "auto",
        "store": False,
        "safe_prompt": True,
    }
    service.chat(**fields, user="ada", messages=[QUESTION, IMAGE], personalization={"mode": "direct"}, priority=None)
    sent = service.engine.bodies[0]
    assert {name: sent[name] for name in sent.keys() & {*fields, "priority"}} == fields
    assert sent["messages"][-1] == IMAGE


def test_the_case_of_dropped_fields(service: Service) -> None:
    """Each field passes or is named, with what to send instead."""
    answer = service.chat(
        chat_template_kwargs={"enable_thinking": False},
        structured_outputs={"json": {}},
        guided_json={"type": "object"},
        functions=[{"name": "f", "parameters": {}}],
        verbosity="low",
        service_tier="auto",
    )
    assert answer.status_code == 422
    message = failure(answer)["message"]
    assert "functions: vLLM ignores it; send tools" in message
    assert "guided_json: vLLM ignores it; send response_format or structured_outputs" in message
    assert not any(name in message.partition(":")[0] for name in ("chat_template_kwargs", "verbosity"))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        *(({name: {"a": 1}}, name) for name in sorted(REFUSED)),
        ({"anything_else": 0}, "anything_else"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"store": True}, "store"),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"thinking": {"a": 1}}}, "chat_template_kwargs.thinking"),
        ({"metadata": {"user_id": "a/b"}}, "metadata.user_id"),
    ],
)
def test_fields_that_reach_past_the_caller_are_refused_by_name(service: Service, fields: Any, named: str) -> None:
    answer = service.chat(**fields)
    assert answer.status_code == 422
    assert failure(answer)["param"].startswith(named)
    assert service.engine.bodies == []


def test_each_field_has_one_fate_and_the_page_tells_it() -> None:
    tables = [PASSED, READ, REFUSED.keys()]
    assert sum(map(len, tables)) == len(PASSED.union(*tables))
    page = (Path(__file__).parents[4] / "docs" / "how-to" / "chat.md").read_text()
    assert [name for name in PASSED.union(*tables) if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, {"max_tokens": 1_024}),
        ({"max_tokens": None}, {"max_tokens": 1_024}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 6}, {"max_completion_tokens": 6}),
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_completion_tokens": 6, "max_tokens": 5}),
    ],
)
def test_an_answer_always_has_a_limit(service: Service, fields: Any, sent: Any) -> None:
    service.chat(**fields)
    body = service.engine.bodies[0]
    assert {name: body[name] for name in body if name.endswith("_tokens")} == sent


@with_settings(engine={"cache_salt_secret": "a secret"})
def test_each_tenant_has_a_cache_of_its_own(service: Service) -> None:
    service.chat()
    with service.client("other") as other:
        other.post("/v1/chat/completions", json={"messages": [QUESTION]})
    first, second = (body["cache_salt"] for body in service.engine.bodies)
    assert first != second


@with_settings(engine={"session_secret": "a secret"})
def test_a_router_can_keep_a_users_requests_together(service: Service) -> None:
    service.chat(user="ada")
    service.chat(user="ada", stream=True)
    service.learn("ada", {"type": "statement", "text": "I like brevity."})
    service.select("ada", ["tea", "milk"], method="engine")
    service.chat(user="bob")
    service.chat()
    *own, other, nobody = service.engine.sessions
    assert len(own) >= 4
    assert len({*own}) == 1
    assert len({own[0], other, nobody}) == 3
    assert nobody is None
    assert "ada" not in f"{own}"


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["summary", "ica", "pba", "direct"])
def test_a_mode_without_a_user_is_the_callers_mistake(service: Service, mode: str) -> None:
    answer = service.chat(personalization={"mode": mode})
    assert answer.status_code == 422
    error = failure(answer)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "user", "invalid_request")
    assert service.engine.bodies == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "system"}, QUESTION]}, "messages.0"),
        ({"messages": [QUESTION], "max_tokens": 0}, "max_tokens"),
        ({"messages": [QUESTION], "user": "a/b"}, "user"),
        ({"messages": [QUESTION], "user": "a", "personalization": {"mode": "all"}}, "personalization.mode"),
        ({"messages": [QUESTION], "user": "a", "personalization": {"modes": "ica"}}, "personalization.modes"),
    ],
)
def test_a_field_that_is_not_valid_is_named(service: Service, body: Any, param: str) -> None:
    service.write_summary("ada", "Likes brevity.")
    answer = service.http.post("/v1/chat/completions", json={"user": "ada", **body})
    assert answer.status_code == 422
    assert failure(answer)["param"] == param
    assert service.engine.bodies == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "ours", "code"),
    [
        (400, 422, "engine_rejected"),
        (413, 422, "context_length_exceeded"),
        (500, 503, "engine_unavailable"),
        (429, 503, "engine_unavailable"),
    ],
)
def test_an_engine_that_refuses_is_told_in_openais_shape(
    service: Service, status: int, ours: int, code: str, stream: bool
) -> None:
    service.engine.chat = fails(status)
    answer = service.chat(stream=stream)
    assert answer.status_code == ours
    assert failure(answer)["code"] == code


def test_an_engine_that_refuses_everybody_is_not_the_callers_fault(service: Service) -> None:
    service.engine.chat = service.engine.canary = fails(400, "System role not supported")
    for fields in ({}, {"model": "other", "stream": True}):
        answer = service.chat(**fields)
        assert (answer.status_code, failure(answer)["code"]) == (503, "engine_unavailable")
        assert "status 400" in failure(answer)["message"]
    ready = service.http.get("/readyz").json()
    assert (ready["status"], ready["engine"]["state"]) == ("ready", "degraded")
    assert ready["checks"]["engine"].startswith("degraded: ")
    metrics = service.http.get("/metrics").text
    assert 'alignx_engine_canaries_total{outcome="refused"}' in metrics
    assert 'alignx_engine_info{dialect="vllm",model="tiny"} 1.0' in metrics
    assert "alignx_engine_breaker_open 1.0" in metrics


def within(window: int) -> Any:
    """An engine that refuses prompts and answers longer than its window, four characters a token."""
    refuse = rules(window=window)

    async def reply(request: web.Request) -> web.StreamResponse:
        refusal = refuse(await request.json())
        return await (fails(400, refusal) if refusal else answers(ANSWER))(request)

    return reply


@pytest.mark.parametrize("settings", [{"engine": {"context_tokens": 2_048}}, {}], ids=["set", "from the refusal"])
def test_an_answer_is_as_long_as_the_window_leaves(service: Service) -> None:
    """Case 09: a limit of tokens above the window."""
    service.engine.chat = within(2_048)
    service.write_summary("ada", "The user likes trains. " * 300)
    for fields in ({"max_tokens": 16_384}, {"max_completion_tokens": 16_384}, {}):
        assert service.chat("hi", **fields).status_code == 200
        assert service.chat("hi", user="ada", **fields).status_code == 200
    assert service.chat("word " * 1_600, max_tokens=4_000).status_code == 200, "it fits, though by estimate it does not"


def test_a_window_in_a_callers_words_counts_for_that_call_alone(service: Service) -> None:
    service.engine.chat = fails(400, "Invalid value: 'maximum context length is 300'")
    assert failure(service.chat(reasoning_effort="maximum context length is 300"))["code"] == "context_length_exceeded"
    service.engine.chat = answers(ANSWER)
    service.chat("word " * 1_000, max_tokens=4_000)
    assert service.engine.bodies[-1]["max_tokens"] == 4_000
    assert service.http.get("/readyz").json()["engine"]["context_tokens"] == 8_192


@pytest.mark.parametrize("settings", [{"engine": {"context_tokens": 2_048}}])
def test_the_part_that_is_too_long_is_named(service: Service) -> None:
    service.engine.chat = within(2_048)
    answer = service.chat("word " * 3_000)
    assert (answer.status_code, failure(answer)["code"]) == (422, "context_length_exceeded")
    assert failure(answer)["param"] == "messages"
    assert "The conversation is too long" in failure(answer)["message"]
    assert "2048 tokens" in failure(answer)["message"]


def test_a_model_that_nobody_serves_is_the_callers_mistake(service: Service) -> None:
    service.engine.chat = fails(404)
    answer = service.chat(model="other")
    assert (answer.status_code, failure(answer)["param"], failure(answer)["code"]) == (404, "model", "model_not_found")


@pytest.mark.parametrize("stream", [True, False, None])
@pytest.mark.parametrize("settings", [{"engine": {"url": NOBODY}}, {"engine": {"url": NOBODY, "model": "tiny"}}])
def test_while_the_engine_is_away_chat_is_unavailable(service: Service, stream: bool | None) -> None:
    answer = service.chat(user="ada", stream=stream)
    assert answer.status_code == 503
    assert failure(answer)["type"] == "server_error"
    assert failure(answer)["code"] == "engine_unavailable"


@pytest.mark.parametrize("stream", [True, False, None])
@with_settings(engine={"url": "profile"})
def test_chat_is_nothing_that_a_deployment_without_an_engine_has(service: Service, stream: bool | None) -> None:
    answer = service.chat(user="ada", stream=stream)
    assert (answer.status_code, failure(answer)["code"]) == (501, "no_engine")
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("body", [b"nonsense", [], b""])
def test_an_answer_that_cannot_be_read_is_the_engines_fault(service: Service, body: Any) -> None:
    service.engine.chat = answers(body)
    answer = service.chat()
    assert answer.status_code in (502, 503)
    assert failure(answer)["code"] in ("engine_error", "engine_unavailable")


@pytest.mark.parametrize("is_cut", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        ("Out of memory at 'a canary'", 503, "unavailable"),
        ({"message": "Out of memory at 'a canary'"}, 503, "unavailable"),
        ({"message": "Bad value 'a canary'", "code": 400}, 422, "rejected"),
    ],
    ids=["text", "failure", "refusal"],
)
def test_an_error_of_status_200_is_the_engines(
    service: Service, error: Any, status: int, outcome: str, is_cut: bool
) -> None:
    body = orjson.dumps({"error": error})
    service.engine.chat = sends(body[:9], body[9:]) if is_cut else answers(body)
    refused = service.chat()
    assert refused.status_code == status
    assert "canary" not in refused.text
    metrics = service.http.get("/metrics").text
    assert f'alignx_engine_calls_total{{kind="chat",outcome="{outcome}"}} 1.0' in metrics
    assert 'kind="chat",outcome="ok"' not in metrics


# --- callers that leave ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@with_settings(engine={"concurrency": 1})
def test_a_caller_that_leaves_early_ends_the_engines_work(service: Service, stream: bool) -> None:
    service.engine.chat = service.engine.silent
    body = {"messages": [QUESTION], "stream": stream}
    with service.client("acme") as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=body, timeout=1)
    assert service.engine.left.wait(5)
    service.engine.chat = answers(ANSWER)
    assert service.chat().status_code == 200  # the only slot is free again


@with_settings(engine={"concurrency": 1})
def test_a_caller_that_leaves_a_stream_ends_the_engines_work(service: Service) -> None:
    service.engine.chat = endless(b'data: {"choices": []}\n\n', service.engine.left)
    body = {"messages": [QUESTION], "stream": True}
    with service.client("acme") as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert next(answer.iter_raw()).startswith(b"data: ")
    assert service.engine.left.wait(5)
    service.engine.chat = answers(ANSWER)
    assert service.chat().status_code == 200
