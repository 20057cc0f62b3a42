"""What callers meet whose tenant has a token budget."""

import re
from typing import Any

import orjson
import pytest

from tests.unit.services.engine.fake_engine import answers, sse
from tests.unit.services.response.conftest import ANSWER, Serve

LONG, SHORT = "A long answer, with every detail that there is and then some more.", "Short."
LIKES_SHORT = {"type": "comparison", "query": "q", "chosen": SHORT, "rejected": LONG}
PLENTY = {"tokens_per_day": 100_000, "tokens_per_month": 200_000}
USED = 12
"""Tokens of an answer, as the engine says."""


def test_a_chat_says_what_is_left(serve: Serve) -> None:
    service = serve(engine=PLENTY)
    for round_number in (1, 2):
        headers = service.chat(max_tokens=50).headers
        assert re.fullmatch(
            r'"tokens-day";q=100000;w=86400, "tokens-month";q=200000;w=\d+', headers["RateLimit-Policy"]
        )
        left = re.findall(r'"tokens-(\w+)";r=(\d+);t=\d+', headers["RateLimit"])
        assert left == [("day", str(100_000 - USED * round_number)), ("month", str(200_000 - USED * round_number))]
    assert "RateLimit" not in serve().chat().headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_beyond_the_budget_is_refused_in_openais_shape(serve: Serve, stream: bool) -> None:
    service = serve(engine={"tokens_per_day": 400})
    assert service.chat(max_tokens=100).status_code == 200
    answer = service.chat(max_tokens=390, stream=stream)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "budget_spent"
    assert "388 of 400 are left" in answer.json()["error"]["message"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 3_600
    assert answer.headers["RateLimit"].startswith('"tokens-day";r=388;t=')
    assert len(service.engine.bodies) == 1
    service.engine.chat = (
        sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) if stream else answers(ANSWER)
    )
    assert service.chat(max_tokens=100, stream=stream).status_code == 200, "a shorter answer fits"
    assert 'alignx_engine_budget_refusals_total{kind="chat"} 1.0' in service.http.get("/metrics").text


def test_an_error_of_status_200_spends_nothing(serve: Serve) -> None:
    service = serve(engine=PLENTY)
    service.engine.chat = answers({"error": {"message": "Out of memory"}})
    assert service.chat(max_tokens=50).status_code == 503
    service.engine.chat = answers(ANSWER)
    assert f'"tokens-day";r={100_000 - USED};' in service.chat(max_tokens=50).headers["RateLimit"]


def text_of(body: bytes) -> list[Any]:
    return [orjson.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]


@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_is_counted_and_looks_as_the_caller_asked(serve: Serve, asked: dict[str, Any]) -> None:
    service = serve(engine=PLENTY)
    pieces = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in "abc"]
    ends = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    counts = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
    service.engine.chat = sse(*pieces, ends, counts)
    answer = service.chat(stream=True, max_tokens=50, **asked)
    assert '"tokens-day";r=' in answer.headers["RateLimit"]
    events = text_of(answer.content)
    assert ["".join(c["delta"].get("content", "") for e in events for c in e["choices"])] == ["abc"]
    assert [event["usage"] for event in events if "usage" in event] == [counts["usage"]] * len(asked)
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert service.engine.bodies[-1]["stream_options"] == {"include_usage": True}
    service.engine.chat = answers(ANSWER)
    assert f'"tokens-day";r={100_000 - 2 * USED};' in service.chat(max_tokens=50).headers["RateLimit"]


def test_a_stream_whose_counts_come_with_its_last_text_keeps_it(serve: Serve) -> None:
    service = serve(engine=PLENTY)
    last = {"choices": [{"index": 0, "delta": {"content": "end"}, "finish_reason": "stop"}], "usage": {"x": 1}}
    service.engine.chat = sse(last)
    assert b'"end"' in service.chat(stream=True).content


def test_the_profile_selects_where_the_budget_is_spent(serve: Serve) -> None:
    service = serve(engine={"tokens_per_day": 1})
    service.learn("ada", LIKES_SHORT)
    for method in (None, "fused"):
        answer = service.select("ada", [LONG, SHORT], **({"method": method} if method else {}))
        assert (answer.status_code, answer.json()["method"], answer.json()["choice"]) == (200, "profile", 1)
        assert answer.json()["fallback"] == "budget_spent"
    answer = service.recommend("ada", [LONG, SHORT], method="fused")
    assert (answer.json()["method"], answer.json()["fallback"]) == ("profile", "budget_spent")
    assert service.engine.choices == []
    assert 'alignx_select_fallbacks_total{reason="budget_spent"} 3.0' in service.http.get("/metrics").text


@pytest.mark.parametrize("call", ["select", "recommend"])
def test_who_insists_on_the_engine_is_refused(serve: Serve, call: str) -> None:
    service = serve(engine={"tokens_per_day": 1})
    service.learn("ada", LIKES_SHORT)
    answer = getattr(service, call)("ada", [LONG, SHORT], method="engine")
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "urn:alignx:problem:budget_spent"
    assert (problem["limit"], problem["left"], problem["window"]) == (1, 1, "day")
    assert answer.headers["RateLimit"].startswith('"tokens-day";r=1;t=')
    assert int(answer.headers["Retry-After"]) <= 3_600


def test_selections_spend(serve: Serve) -> None:
    service = serve(engine=PLENTY)
    service.learn("ada", LIKES_SHORT)
    assert service.select("ada", [LONG, SHORT], method="engine").status_code == 200
    left = re.search(r'"tokens-day";r=(\d+);', service.chat(max_tokens=50).headers["RateLimit"])
    assert left
    assert int(left[1]) < 100_000 - USED - 100, "two prompts of a selection, estimated: the engine tells no counts"
