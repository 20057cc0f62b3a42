"""Users who are held out are served as one of whom nothing is known, and every kept answer has an id."""

import json
from typing import Any

import pytest

from services.outcomes.served import arm_of
from tests.unit.services.response.conftest import Service

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
