"""The whole job on a real engine that refuses a system role, turns that do not alternate and priorities, and has a
small window: nothing is configured but its URL."""

from collections.abc import Iterator

import httpx
import pytest

from tests.live.suite import Suite

pytestmark = pytest.mark.live

POST = {"type": "post", "text": "I read about trains and timetables today. " * 100}


@pytest.fixture(scope="module")
def client(strict_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = {"ALIGNX_ENGINE__URL": strict_url, "ALIGNX_SUMMARY__MAX_TOKENS": "96"}
    settings["ALIGNX_ENGINE__CHOOSE"] = "likelihood"
    with Suite(tmp_path_factory.mktemp("strict"), settings).running() as suite, suite.client() as client:
        yield client


def test_long_events_become_versions(client: httpx.Client) -> None:
    for _ in range(2):
        answer = client.post("/v1/users/ada/events", json={"events": [POST] * 4}, headers={"Prefer": "wait=60"})
        assert (answer.status_code, answer.json()["pending"]) == (202, 0)
    summary = client.get("/v1/users/ada/preferences").json()
    assert (summary["source"], summary["version"] > 1) == ("llm:alignx-tiny", True)
    assert client.get("/v1/users/ada/dead-letters").json()["events"] == []


def test_chat_streams_and_selection_asks_the_engine(client: httpx.Client) -> None:
    turns = [{"role": "system", "content": "Be brief."}, *[{"role": "user", "content": "hello"}] * 2]
    body = {"messages": turns, "user": "ada", "max_tokens": 16_384, "stream": True, "stop": ["\n"]}
    answer = client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.text.endswith("data: [DONE]\n\n")) == (200, True)
    answer = client.post("/v1/users/ada/select", json={"items": ["trains " * 4_000, "cars"], "method": "fused"})
    assert answer.json()["method"] == "fused"


def test_readiness_says_how_the_engine_is_asked(client: httpx.Client) -> None:
    engine = client.get("/readyz").json()["engine"]
    assert (engine["state"], engine["context_tokens"], engine["letters"]) == ("ok", 2048, True)
    assert engine["dialect"].startswith("no system role")
    assert engine["protocol"] == "likelihood"


def test_too_long_a_conversation_is_the_callers(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "word " * 9_000}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "context_length_exceeded")
    assert "conversation is too long" in answer.json()["error"]["message"]
