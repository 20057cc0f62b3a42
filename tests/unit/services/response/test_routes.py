"""What the routes share: the gateway's word, the list of models, health, metrics, and what is logged."""

from typing import Any

import httpx
import pytest

from services.server.app import TENANT_HEADER, TOKEN_HEADER
from tests.unit.services.response.conftest import INTERNAL_TOKEN, NOBODY, Service
from tests.unit.with_settings import with_settings

CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/users/ada/select", {"items": ["a", "b"]}),
    ("POST", "/v1/users/ada/recommend", {"candidates": ["a", "b"]}),
    ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "user": "ada"}),
    ("GET", "/v1/models", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {TENANT_HEADER: "acme"},
        {TOKEN_HEADER: "wrong", TENANT_HEADER: "acme"},
        {TOKEN_HEADER: INTERNAL_TOKEN},
    ],
)
def test_only_the_gateway_is_answered(service: Service, method: str, path: str, body: Any, headers: Any) -> None:
    service.learn("ada", {"type": "statement", "text": "I like tea."})
    answer = httpx.request(method, service.url + path, json=body, headers=headers)
    assert answer.status_code == 401
    assert (service.engine.bodies, service.engine.choices) == ([], [])


@pytest.mark.parametrize(("settings", "model"), [({}, "tiny"), ({"engine": {"url": "profile"}}, "profile")])
def test_models_are_the_engines(service: Service, model: str) -> None:
    answer = service.http.get("/v1/models")
    assert answer.json()["object"] == "list"
    assert [entry["id"] for entry in answer.json()["data"]] == [model]


@pytest.mark.parametrize("path", ["tiny", "org/tiny", "org%2Ftiny", "other"])
def test_a_model_is_read_by_its_name(service: Service, path: str) -> None:
    service.engine.models = ["tiny", "org/tiny"]
    answer = service.http.get(f"/v1/models/{path}")
    if path == "other":
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    else:
        assert (answer.status_code, answer.json()["id"]) == (200, path.replace("%2F", "/"))


@with_settings(engine={"url": NOBODY})
def test_without_its_engine_the_service_is_ready_and_has_no_models(service: Service) -> None:
    assert service.http.get("/v1/models").status_code == 503
    answer = service.http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["redis"]) == (200, "ok")


def test_calls_of_the_engine_are_counted_and_name_no_user(service: Service) -> None:
    service.learn("ada-canary", {"type": "statement", "text": "I like tea."})
    service.chat(user="ada-canary")
    service.select("ada-canary", ["a canary", "b"])
    metrics = service.http.get("/metrics").text
    assert 'alignx_engine_calls_total{kind="chat",outcome="ok"} 1.0' in metrics
    assert 'alignx_engine_calls_total{kind="choose",outcome="ok"} 2.0' in metrics
    assert 'alignx_engine_tokens_total{kind="chat",token="completion"} 3.0' in metrics
    assert 'route="/v1/users/{user}/select"' in metrics
    assert "canary" not in metrics


@pytest.mark.parametrize("user", ["a%20b", "%E6%9D%B1", "a:b@c"])
def test_ids_of_users_may_hold_anything_but_a_slash(service: Service, user: str) -> None:
    assert service.select(user, ["a", "b"]).json()["basis"] == ["popular"]
    service.learn(httpx.URL(f"http://x/{user}").path[1:], {"type": "statement", "text": "I like tea."})
    assert "profile" in service.select(user, ["a", "b"]).json()["basis"]


def test_a_body_that_is_no_json_is_refused(service: Service) -> None:
    for path, code in (("users/ada/select", "type"), ("chat/completions", "error")):
        answer = service.http.post(f"/v1/{path}", content=b"{", headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert "malformed_body" in str(answer.json()[code])
