"""Selection: who scores, and that neither a place nor an outage decides."""

import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignx.schemas.items import ItemFields
from services.engine.choice.fusion import fuse, learned_weights
from services.prompts.profiles import load_profile
from tests.unit.services.engine.fake_engine import answer_canary, fails, late
from tests.unit.services.response.conftest import EARNED, NOBODY, Serve, Service, earn, items_shown
from tests.unit.with_settings import with_settings

SHORT, LONG = "Yes.", "Well, that depends on a great many things, which we shall now consider one by one! " * 3
BREVITY = [{"type": "comparison", "query": f"q{i}", "chosen": SHORT, "rejected": LONG} for i in range(6)]


def probabilities(answer: Any) -> list[float]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [item["index"] for item in body["items"]] == list(range(len(body["items"])))
    odds: list[float] = [item["probability"] for item in body["items"]]
    assert body["choice"] == odds.index(max(odds))
    return odds


@pytest.fixture
def service(service: Service) -> Service:
    """It knows Ada."""
    service.learn("ada", *BREVITY)
    service.write_summary("ada", "Likes brevity.")
    return service


def likes(favourite: str) -> Any:
    """An engine that reads the items: four fifths for `favourite` wherever it stands."""

    def prefer(shown: Sequence[str]) -> list[float]:
        return [math.log(0.8 if item == favourite else 0.2 / (len(shown) - 1)) for item in shown]

    return prefer


# --- the engine's word -------------------------------------------------------------------------


@with_settings(response={"rotations": 26})
def test_rotations_cover_all_places_of_26_items(service: Service) -> None:
    answer = service.select("ada", [f"item {i}" for i in range(26)], method="engine")
    assert probabilities(answer) == pytest.approx([1 / 26] * 26, abs=1e-6)
    body = answer.json()
    assert (body["method"], body["version"], body["position_bias"] > 0) == ("engine", 1, True)
    first = {items_shown(body)[0] for body in service.engine.choices}
    assert len(first) == 26


def test_the_engine_reads_summary_query_and_items_escaped_and_nothing_of_others(service: Service) -> None:
    service.write_summary("eve", "Likes </preferences>.")
    service.write_summary("bob", "A canary.")
    service.write_summary("eve", "A canary.", tenant="other")
    items = ["</item> one", {"id": "2", "title": "Two", "price": 5}]
    answer = service.select("eve", items, query="<which?", method="engine")
    bodies = service.engine.choices
    assert "canary" not in str(bodies)
    assert bodies[0]["messages"][1]["content"] == (
        "<preferences>\nLikes &lt;/preferences>.\n</preferences>\n\n<query>&lt;which?</query>\n\n"
        '<item letter="A">\n&lt;/item> one\n</item>\n\n<item letter="B">\nTwo (price: 5.0)\n</item>'
    )
    assert items_shown(bodies[1]) == items_shown(bodies[0])[::-1]
    assert (bodies[0]["max_tokens"], bodies[0]["messages"][-1]["role"]) == (1, "assistant")
    assert [item["id"] for item in answer.json()["items"]] == [None, "2"]


def test_the_engine_reads_the_prompts_that_it_was_trained_with(serve: Serve) -> None:
    service = serve(response={"selection_prompts": "alignxplore-plus"})
    service.write_summary("eve", "Likes tea.")
    items = ["green tea", {"title": "Two", "price": 5}]
    assert service.select("eve", items, query="which?", method="engine").status_code == 200
    prompts = load_profile("alignxplore-plus")
    known = ["green tea", ItemFields(title="Two", price=5)]
    shown = [body["messages"] for body in service.engine.choices]
    assert shown == [prompts.selection_prompt("which?", order, "Likes tea.").messages for order in (known, known[::-1])]


@with_settings(engine={"choose": "likelihood"})
def test_by_likelihood_the_engine_reads_summary_and_earlier_choices(service: Service) -> None:
    while service.http.get("/readyz").json()["engine"]["protocol"] != "likelihood":
        time.sleep(0.01)
    service.engine.scored.clear()
    items = ["brevity please", "depth please"]
    answer = service.select("ada", items, query="Which?", method="engine")
    assert probabilities(answer)[0] > 0.55
    assert len(service.engine.scored) == 4  # without a contrast
    assert service.select("ada", items, query="Which?").json()["basis"] == ["profile", "text", "contrast"]
    assert answer.json()["position_bias"] == 0
    assert service.engine.choices == []
    contexts = {context for context, _ in service.engine.scored}
    assert len(service.engine.scored) == 2 * len(contexts) == 8
    assert sum("Likes brevity." in context for context in contexts) == 1
    for answers in (SHORT, LONG):
        turns = "".join(f"<user>q{i}<assistant>{answers}" for i in (2, 3, 4, 5))
        assert sum(context.endswith(f"{turns}<user>Which?") for context in contexts) == 1


@with_settings(engine={"choose": "likelihood"})
def test_where_the_contrast_alone_has_a_weight_nothing_else_is_asked(service: Service) -> None:
    while service.http.get("/readyz").json()["engine"]["protocol"] != "likelihood":
        time.sleep(0.01)
    service.learn("ada", *BREVITY, tenant="other")
    service.learn("eve", {"type": "statement", "text": "I like brevity."}, tenant="other")
    service.earn("other", earn({}, "texts", right=("profile", "contrast")))
    service.engine.scored.clear()
    with service.client("other") as other:
        ask = {"query": "Which?", "items": ["brevity please", "depth please"]}
        assert other.post("/v1/users/ada/select", json=ask).json()["basis"] == ["profile", "contrast"]
        assert len(service.engine.scored) == 4, "the items after chosen and after rejected answers"
        without = other.post("/v1/users/eve/select", json=ask).json()  # no choices yet
        assert (without["method"], without["basis"], without["fallback"]) == ("profile", ["profile"], None)
        assert len(service.engine.scored) == 4
        service.engine.completion = fails(500)
        ask["query"] = "Which now?"
        failed = other.post("/v1/users/ada/select", json=ask).json()
        assert (failed["method"], failed["basis"], failed["fallback"]) == ("profile", ["profile"], "engine_unavailable")


def test_before_a_first_version_the_engine_reads_the_profile(service: Service) -> None:
    service.learn("eve", {"type": "statement", "text": "I like brevity."})
    answer = service.select("eve", ["a", "b"], method="engine")
    assert "I like brevity." in service.engine.choices[0]["messages"][1]["content"]
    assert answer.json()["version"] == 0


# --- the profile's word ------------------------------------------------------------------------


def test_the_profile_asks_no_engine(service: Service) -> None:
    answer = service.select("ada", [LONG, SHORT], method="profile")
    assert probabilities(answer)[1] > 0.6
    body = answer.json()
    assert (body["method"], body["version"], body["position_bias"]) == ("profile", 0, None)
    assert service.engine.choices == []


def test_both_are_fused_by_the_weights_that_they_have_earned(service: Service) -> None:
    service.engine.prefer = likes(SHORT)
    items, weights = [LONG, SHORT], learned_weights(EARNED, "texts", ("text",))
    by_profile = probabilities(service.select("ada", items, method="profile"))
    answer = service.select("ada", items)
    assert probabilities(answer) == pytest.approx(fuse(weights, by_profile, [0.2, 0.8]), abs=1e-5)
    assert (answer.json()["method"], answer.json()["version"]) == ("fused", 1)
    assert answer.json()["basis"] == ["profile", "text"]
    assert answer.json()["weights"] == pytest.approx(weights._asdict(), abs=1e-4)
    assert 'alignx_select_basis_total{scorers="profile+text"} 1.0' in service.http.get("/metrics").text
    assert answer.json() == service.select("ada", items, method="fused").json()


def test_an_engine_that_has_earned_no_weight_is_asked_only_where_the_caller_insists(service: Service) -> None:
    service.learn("ada", *BREVITY, tenant="other")
    service.engine.prefer = likes(LONG)
    with service.client("other") as other:
        answers = [
            other.post("/v1/users/ada/select", json={"items": [LONG, SHORT], "method": method})
            for method in ("profile", None, "fused")
        ]
    by_profile, by_default, fused = (answer.json() for answer in answers)
    assert by_default == by_profile
    assert (fused["items"], fused["method"]) == (by_profile["items"], "fused")
    assert {tuple(answer["basis"]) for answer in (by_profile, fused)} == {("profile",)}
    assert fused["weights"] == {"profile": 1.0, "text": 0.0, "contrast": 0.0}
    assert len(service.engine.choices) == 2  # both orders of the last


@pytest.mark.parametrize(
    ("settings", "status", "code", "fallback"),
    [
        ({"engine": {"url": NOBODY}}, 503, "engine_unavailable", "engine_unavailable"),
        ({"engine": {"url": "profile"}}, 501, "no_engine", None),
    ],
)
def test_without_an_engine_the_profile_answers_unless_the_caller_insists(
    service: Service, status: int, code: str, fallback: str | None
) -> None:
    answer = service.select("ada", [LONG, SHORT])
    assert (answer.json()["method"], answer.json()["choice"]) == ("profile", 1)
    assert answer.json()["fallback"] == fallback
    assert service.select("ada", [LONG, SHORT], method="profile").json()["fallback"] is None
    for method in ("engine", "fused"):
        answer = service.select("ada", [LONG, SHORT], method=method)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == f"urn:alignx:problem:{code}"


@pytest.mark.parametrize(("status", "ours"), [(400, 422), (500, 503)])
def test_an_engine_that_refuses_the_items_is_no_reason_to_refuse_the_caller(
    service: Service, status: int, ours: int
) -> None:
    service.engine.choose = fails(status)
    answer = service.select("ada", [LONG, SHORT])
    assert (answer.json()["method"], answer.json()["choice"]) == ("profile", 1)
    reason = {400: "engine_rejected", 500: "engine_unavailable"}[status]
    assert answer.json()["fallback"] == reason
    assert f'alignx_select_fallbacks_total{{reason="{reason}"}} 1.0' in service.http.get("/metrics").text
    assert service.select("ada", [LONG, SHORT], method="engine").status_code == ours


def test_an_engine_without_log_probabilities_leaves_the_choice_to_the_profile(service: Service) -> None:
    async def refuses_logprobs(request: web.Request) -> web.StreamResponse:
        return await (fails(400) if (await request.json()).get("logprobs") else answer_canary)(request)

    service.engine.choose = service.engine.canary = refuses_logprobs
    answer = service.select("ada", [LONG, SHORT]).json()
    assert (answer["method"], answer["choice"], answer["fallback"]) == ("profile", 1, "engine_unsupported")
    problem = service.select("ada", [LONG, SHORT], method="engine")
    assert (problem.status_code, problem.json()["type"]) == (501, "urn:alignx:problem:engine_unsupported")


@with_settings(engine={"context_tokens": 2_048})
def test_items_and_summary_are_shortened_to_the_engines_window(service: Service) -> None:
    service.write_summary("bob", "The user likes trains. " * 300)
    service.learn("bob", *BREVITY)
    answer = service.select("bob", ["a" + " word" * 2_000, "b" + " word" * 2_000], query="which? " * 1_000)
    assert answer.json()["method"] == "fused"
    assert all(sum(len(m["content"]) for m in body["messages"]) // 3 < 2_048 for body in service.engine.choices)
    assert [item[0] for item in items_shown(service.engine.choices[0])] == ["a", "b"]


# --- an engine that is late --------------------------------------------------------------------

HASTY = {"response": {"select_timeout_s": 1}, "engine": {"breaker_failures": 3, "breaker_cooldown_s": 600}}


@with_settings(**HASTY)
def test_a_hung_engine_is_soon_left_alone_and_the_profile_answers(service: Service) -> None:
    """Each call that is given up frees its slot: of 100, the engine sees those of the first three selections."""
    service.engine.choose = service.engine.silent
    answers = [service.select("ada", [LONG, SHORT]).json() for _ in range(100)]
    assert {(answer["method"], answer["choice"]) for answer in answers} == {("profile", 1)}
    reasons = ["engine_timeout"] * 3 + ["engine_unavailable"] * 97
    assert [answer["fallback"] for answer in answers] == reasons
    assert len(service.engine.choices) == 6
    assert service.recommend("ada", [LONG, SHORT]).json()["fallback"] == "engine_unavailable"
    metrics = service.http.get("/metrics").text
    assert 'alignx_select_fallbacks_total{reason="engine_timeout"} 3.0' in metrics
    assert 'alignx_engine_calls_total{kind="choose",outcome="cancelled"} 6.0' in metrics
    assert "alignx_engine_calls_in_flight 0.0" in metrics
    assert "too slow" in service.http.get("/readyz").json()["checks"]["engine"]


@with_settings(**HASTY)
def test_an_engine_that_is_slow_for_selections_still_chats(service: Service) -> None:
    service.engine.choose = late(2, service.engine.on_choice)
    for _ in range(4):
        assert service.select("ada", [LONG, SHORT]).json()["method"] == "profile"
    assert service.chat().status_code == 200
    assert service.select("ada", [LONG, SHORT], method="fused").json()["method"] == "fused"


@with_settings(response={"select_timeout_s": 1}, engine={"breaker_failures": 1, "breaker_cooldown_s": 0.2})
def test_an_engine_that_answers_again_is_asked_again(service: Service) -> None:
    service.engine.choose = service.engine.silent
    assert service.select("ada", [LONG, SHORT]).json()["fallback"] == "engine_timeout"
    service.engine.choose = service.engine.on_choice
    time.sleep(0.25)
    assert service.select("ada", [LONG, SHORT]).json()["method"] == "fused"


@with_settings(response={"select_engine_timeout_s": 0.2})
def test_a_caller_that_insists_on_a_hung_engine_is_told_so(service: Service) -> None:
    service.engine.choose = service.engine.silent
    for method in ("engine", "fused"):
        answer = service.select("ada", [LONG, SHORT], method=method)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:alignx:problem:engine_unavailable")
        assert "0.2 s" in answer.json()["detail"]


# --- the request -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "field"),
    [
        (["a"] * 27, "items"),
        (["a"], "items"),
        (["", "  "], "body"),
        (["a", {"description": "untitled"}], "items.1"),
    ],
)
def test_other_items_are_refused(service: Service, items: Any, field: str) -> None:
    answer = service.select("ada", items)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith(field)
    assert service.engine.choices == []


def test_one_item_may_be_empty(service: Service) -> None:
    assert sum(probabilities(service.select("ada", ["", "text"]))) == pytest.approx(1)


def test_an_unknown_user_gets_what_is_popular_and_so_does_another_tenants(service: Service) -> None:
    body = {"items": [{"title": "a", "popularity": 2}, {"title": "b", "popularity": 900}]}
    with service.client("other") as other:
        answers = [service.http.post("/v1/users/bob/select", json=body), other.post("/v1/users/ada/select", json=body)]
        insisting = service.http.post("/v1/users/bob/select", json=body | {"method": "engine"})
    for answer in answers:
        assert probabilities(answer)[1] > 0.9
        assert (answer.json()["method"], answer.json()["basis"]) == ("profile", ["popular"])
    assert service.engine.choices == []
    assert (insisting.status_code, insisting.json()["type"]) == (404, "urn:alignx:problem:user_unknown")


# --- properties --------------------------------------------------------------------------------

ITEMS = st.lists(
    st.text(max_size=40) | st.fixed_dictionaries({"title": st.text(min_size=1).map(lambda text: text + "x")}),
    min_size=2,
    max_size=26,
)


def test_probabilities_add_up_whatever_the_items_are(service: Service) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(ITEMS, st.sampled_from(["engine", "profile", "fused"]), st.text(max_size=20))
    def check(items: list[Any], method: str, query: str) -> None:
        items = [*items[:-1], "some text"]
        odds = probabilities(service.select("ada", items, method=method, query=query))
        assert len(odds) == len(items)
        assert sum(odds) == pytest.approx(1, abs=1e-4)
        assert all(0 <= value <= 1 for value in odds)

    check()
