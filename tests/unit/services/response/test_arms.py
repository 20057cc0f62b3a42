"""Users who are held out are served as one of whom nothing is known, and every kept answer has an id."""

import json
import re
from typing import Any

import pytest

from services.outcomes.served import arm_of
from tests.unit.services.engine.fake_engine import answers, endless, fails, late
from tests.unit.services.response.conftest import ANSWER, Service, sends
from tests.unit.services.response.doors.test_responses import END, chunk
from tests.unit.with_settings import with_settings

SHARE = 0.5
CONTROL, PERSONALIZED = [
    next(user for number in range(99) if arm_of("acme", user := f"user-{number}", SHARE) == arm)
    for arm in ("control", "personalized")
]
CHOICE = {"type": "comparison", "chosen": "green tea", "rejected": "black coffee"}


def set_up(service: Service, **settings: Any) -> None:
    for user in (CONTROL, PERSONALIZED):
        for _ in range(4):
            service.learn(user, CHOICE)
        service.write_summary(user, "Likes green tea above all.")
    if settings:
        service.configure("acme", **settings)


def test_a_chat_of_the_control_arm_is_plain(service: Service) -> None:
    set_up(service, holdout_share=SHARE)
    for user, arm in ((CONTROL, "control"), (PERSONALIZED, "personalized")):
        answer = service.chat(user=user)
        used = answer.json()["personalization"]
        assert (used["arm"], used["mode"]) == (arm, "none" if arm == "control" else "summary")
        assert ("green tea" in json.dumps(service.sent())) is (arm == "personalized")
        assert answer.headers["X-AlignX-Response-Id"] == used["response_id"]
        assert len(used["response_id"]) == 32


@pytest.mark.parametrize("method", [None, "engine", "fused"])
def test_a_selection_of_the_control_arm_knows_nothing_of_the_user(service: Service, method: str | None) -> None:
    set_up(service, holdout_share=SHARE)
    items = ["black coffee", "green tea"]
    answer = service.select(CONTROL, items, method=method).json()
    assert (answer["arm"], answer["method"], answer["basis"]) == ("control", "profile", ["popular"])
    assert [item["probability"] for item in answer["items"]] == [0.5, 0.5]
    assert service.engine.choices == []
    assert service.select(PERSONALIZED, items, method=method).json()["basis"] != ["popular"]


def test_a_recommendation_of_the_control_arm_knows_nothing_of_the_user(service: Service) -> None:
    set_up(service, holdout_share=SHARE)
    for user, arm in ((CONTROL, "control"), (PERSONALIZED, "personalized")):
        answer = service.recommend(user, ["black coffee", "green tea"], method="profile", explain=True).json()
        assert answer["arm"] == arm
        assert (answer["items"][0]["score"] == 0.5) is (arm == "control")
        assert len(answer["response_id"]) == 32


def test_answers_of_a_tenant_that_keeps_none_say_nothing_of_it(service: Service) -> None:
    set_up(service)
    answer = service.chat(user=CONTROL)
    assert "X-AlignX-Response-Id" not in answer.headers
    assert not {"arm", "response_id"} & answer.json()["personalization"].keys()
    selected = service.select(CONTROL, ["a", "b"]).json()
    assert (selected["arm"], selected["response_id"]) == (None, None)


def count_served(service: Service) -> float:
    served = re.findall(r"^alignx_arm_served_total\{.*\} (.+)$", service.http.get("/metrics").text, re.MULTILINE)
    return sum(map(float, served))


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_that_fails_is_no_answer(service: Service, stream: bool) -> None:
    set_up(service, feedback_s=3_600)
    beyond = "This model's maximum context length is 8 tokens"
    for chat in (fails(503), fails(429), fails(400), fails(400, beyond), sends(b'data: {"error": "boom"}\n\n')):
        service.engine.chat = chat
        assert service.chat(user=PERSONALIZED, stream=stream).status_code in (422, 429, 502, 503)
    service.engine.chat = answers({"choices": []})
    hello = {"model": "tiny", "input": "hello", "user": PERSONALIZED}
    assert service.http.post("/v1/responses", json=hello).status_code == 502
    assert count_served(service) == 0
    service.engine.chat = sends(chunk(content="Hi."), *END) if stream else answers(ANSWER)
    assert service.chat(user=PERSONALIZED, stream=stream).status_code == 200
    assert count_served(service) == 1


@with_settings(response={"keep_alive_after_s": 0.01, "keep_alive_s": 0.01})
@pytest.mark.parametrize("late_s", [0, 0.1])
def test_a_streamed_answer_is_kept_before_its_first_event(service: Service, late_s: float) -> None:
    set_up(service, feedback_s=3_600)
    service.engine.chat = late(late_s, endless(chunk(content="Hi.")))
    body = {"messages": [{"role": "user", "content": "hello"}], "user": PERSONALIZED, "stream": True}
    with service.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        first = next(line for line in answer.iter_lines() if line.startswith("data: "))
        assert count_served(service) == 1
    used = json.loads(first.removeprefix("data: "))["personalization"]
    assert used["response_id"] == answer.headers["X-AlignX-Response-Id"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_kept_has_no_id(service: Service, stream: bool) -> None:
    set_up(service, feedback_s=3_600)
    service.engine.chat = sends(chunk(content="Hi."), *END) if stream else answers(ANSWER)
    service.refuse_writes(is_refused=True)
    answer = service.chat(user=PERSONALIZED, stream=stream)
    service.refuse_writes(is_refused=False)
    assert answer.status_code == 200
    assert "X-AlignX-Response-Id" not in answer.headers
    assert "response_id" not in answer.text
