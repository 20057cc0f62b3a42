"""Recommendation: the order, the window that the engine reads, and the reasons."""

import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.storage.timed_cache import CACHE_S
from tests.unit.services.response.conftest import NOBODY, Service, items_shown
from tests.unit.with_settings import with_settings

SPORT = [{"id": f"s{i}", "title": f"Match report {i}", "category": "sport"} for i in range(3)]
CULTURE = [{"id": f"c{i}", "title": f"Concert review {i}", "category": "culture"} for i in range(3)]
CLICKS = [{"type": "click", "clicked": sport, "shown": CULTURE} for sport in SPORT]
CANDIDATES = [
    {"id": "opera", "title": "Opera tonight", "category": "culture"},
    {"id": "cup", "title": "Cup final", "category": "sport"},
    "Tax news",
    {"id": "derby", "title": "Derby lost", "category": "sport"},
]


@pytest.fixture
def service(service: Service) -> Service:
    """It knows Ada."""
    service.learn("ada", *CLICKS)
    service.write_summary("ada", "Reads about sport.")
    return service


def ranking(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    assert [item["rank"] for item in items] == list(range(1, len(items) + 1))
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True)
    assert len({item["index"] for item in items}) == len(items)
    return items


def last_first(shown: Sequence[str]) -> list[float]:
    """An engine that likes what the profile does not: culture."""
    odds = [math.log(0.9 if "culture" in item else 0.1) for item in shown]
    total = math.log(sum(map(math.exp, odds)))
    return [value - total for value in odds]


def test_candidates_come_in_the_order_of_what_is_known(service: Service) -> None:
    answer = service.recommend("ada", CANDIDATES, method="profile")
    items = ranking(answer)
    assert {items[0]["id"], items[1]["id"]} == {"cup", "derby"}
    assert [item["id"] for item in items[2:]] == [None, "opera"]
    assert [CANDIDATES[item["index"]] for item in items[2:]] == ["Tax news", CANDIDATES[0]]
    assert sum(item["score"] for item in items) == pytest.approx(1, abs=1e-5)
    assert (answer.json()["method"], answer.json()["version"]) == ("profile", 0)
    assert service.engine.choices == []


@pytest.mark.parametrize(("k", "count"), [(1, 1), (3, 3), (4, 4), (1_000, 4)])
def test_k_cuts_the_ranking(service: Service, k: int, count: int) -> None:
    items = ranking(service.recommend("ada", CANDIDATES, k=k))
    assert len(items) == count
    whole = ranking(service.recommend("ada", CANDIDATES))
    assert items == whole[:count]


def test_reasons_come_on_request(service: Service) -> None:
    assert all(item["reason"] is None for item in ranking(service.recommend("ada", CANDIDATES)))
    reasons = {item["id"]: item["reason"] for item in ranking(service.recommend("ada", CANDIDATES, explain=True))}
    assert "sport" in reasons["cup"]
    assert "culture" in reasons["opera"]
    assert all(reasons.values())


@with_settings(response={"rerank": 2})
def test_the_engine_reads_the_best_of_the_profile(service: Service) -> None:
    by_profile = {
        item["index"]: item["score"] for item in ranking(service.recommend("ada", CANDIDATES, method="profile"))
    }
    service.engine.prefer = lambda shown: [math.log(0.9 if "Derby" in item else 0.1) for item in shown]
    answer = service.recommend("ada", CANDIDATES, query="today?", method="engine")
    items = ranking(answer)
    shown = items_shown(service.engine.choices[0])
    assert sorted(shown) == ["Cup final (category: sport)", "Derby lost (category: sport)"]
    mass = by_profile[1] + by_profile[3]
    scores = {item["index"]: item["score"] for item in items}
    assert scores[3] == pytest.approx(0.9 * mass, abs=1e-5)
    assert scores[1] == pytest.approx(0.1 * mass, abs=1e-5)
    assert (scores[0], scores[2]) == (by_profile[0], by_profile[2])  # unread: as the profile has them
    assert (answer.json()["method"], answer.json()["version"]) == ("engine", 1)


def test_engine_and_profile_are_fused_by_default(service: Service) -> None:
    service.engine.prefer = last_first
    assert ranking(service.recommend("ada", CANDIDATES, method="engine"))[0]["id"] == "opera"
    answer = service.recommend("ada", CANDIDATES)
    assert answer.json()["method"] == "fused"
    scores = {
        method: {item["id"]: item["score"] for item in ranking(service.recommend("ada", CANDIDATES, method=method))}
        for method in ("engine", "fused", "profile")
    }
    assert scores["profile"]["opera"] < scores["fused"]["opera"] < scores["engine"]["opera"]


@pytest.mark.parametrize("count", [27, 1_000])
def test_no_more_than_26_are_shown_to_the_engine(service: Service, count: int) -> None:
    items = ranking(service.recommend("ada", [f"candidate {i}" for i in range(count)], k=count))
    assert len(items) == count
    assert {len(items_shown(body)) for body in service.engine.choices} == {26}
    assert sum(item["score"] for item in items) == pytest.approx(1, abs=1e-3)


@with_settings(engine={"url": NOBODY})
def test_one_candidate_needs_no_engine(service: Service) -> None:
    answer = service.recommend("ada", ["only"], method="engine")
    assert ranking(answer)[0]["score"] == 1
    assert answer.json()["method"] == "profile"


@with_settings(engine={"url": NOBODY})
def test_without_an_engine_the_profile_ranks_unless_the_caller_insists(service: Service) -> None:
    answer = service.recommend("ada", CANDIDATES)
    by_profile = service.recommend("ada", CANDIDATES, method="profile").json()
    assert answer.json() == by_profile | {"fallback": "engine_unavailable"}
    for method in ("engine", "fused"):
        assert service.recommend("ada", CANDIDATES, method=method).status_code == 503


TEXTS = [
    "Yes.",
    "Go by train; it is fast, and you need not park.",
    "There are, as ever, many ways, and each of them deserves a thorough word! " * 3,
    "Perhaps the most considerate thing would be to consider, one after the other, all of them! " * 4,
]
BREVITY = [{"type": "comparison", "query": f"q{i}", "chosen": TEXTS[0], "rejected": TEXTS[2]} for i in range(6)]


@with_settings(engine={"url": NOBODY}, response={"rerank": 2})
def test_an_engine_that_is_away_leaves_the_profiles_ranking_as_it_is(service: Service) -> None:
    """Also where it would have read a few: these are not compared anew among themselves."""
    service.learn("bob", *BREVITY)
    answer = service.recommend("bob", TEXTS)
    assert ranking(answer) == ranking(service.recommend("bob", TEXTS, method="profile"))


def test_a_reason_tells_of_meaning(service: Service) -> None:
    service.learn("bob", *[{"type": "purchase", "item": {"title": "Guide to hiking trails"}}] * 3)
    candidates = [{"title": "Backpacking in the wilderness"}, {"title": "Stock market news"}]
    reasons = [item["reason"] for item in ranking(service.recommend("bob", candidates, explain=True))]
    assert reasons == [
        "It is close to what they took before in meaning.",
        "It is far from what they took before in meaning.",
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"candidates": []}, "candidates"),
        ({"candidates": ["a"] * 1_001}, "candidates"),
        ({"candidates": ["a"], "k": 0}, "k"),
        ({"candidates": ["a"], "method": "guess"}, "method"),
        ({"candidates": ["a"], "items": ["a"]}, "items"),
    ],
)
def test_a_field_that_is_not_valid_is_named(service: Service, body: Any, field: str) -> None:
    answer = service.http.post("/v1/users/ada/recommend", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_an_unknown_user_gets_what_is_popular(service: Service) -> None:
    """Case 23."""
    answer = service.recommend("new", [{"title": "b", "popularity": 2}, {"title": "a", "popularity": 900}])
    assert answer.status_code == 200
    assert [item["index"] for item in answer.json()["items"]] == [1, 0]
    assert (answer.json()["method"], answer.json()["basis"]) == ("profile", ["popular"])


def test_candidates_may_be_ids_of_the_catalogue(service: Service) -> None:
    assert service.recommend("ada", ["5", "6"]).status_code == 200  # texts, while there is no catalogue
    service.put_items(
        {"id": 5, "title": "Horror night", "popularity": 900}, {"id": "6", "title": "Romance", "popularity": 2}
    )
    time.sleep(CACHE_S)
    for candidates in (["6", "5"], [{"id": 6}, {"id": "5"}], [{"id": "6"}, "5"]):
        answer = service.recommend("new", candidates).json()
        assert [item["id"] for item in answer["items"]] == ["5", "6"]  # the popular one first
    texts = service.recommend("ada", ["a text", "another"]).json()
    assert [item["id"] for item in texts["items"]] == [None, None]
    for candidates, place in ((["5", "7"], 1), ([{"id": "9"}, "5"], 0)):
        unknown = service.recommend("ada", candidates)
        assert unknown.status_code == 422
        assert [error["field"] for error in unknown.json()["errors"]] == [f"candidates.{place}"]
        assert "no item of this id" in unknown.json()["detail"]
    chosen = service.select("new", [{"id": "5"}, {"id": "6"}]).json()
    assert [item["id"] for item in chosen["items"]] == ["5", "6"]
    assert service.select("new", [{"id": "5"}, {"id": "7"}]).json()["errors"][0]["field"] == "items.1"
    with service.client("other") as other:
        foreign = other.post("/v1/users/new/recommend", json={"candidates": [{"id": "5"}]})
    assert foreign.status_code == 422


def test_a_whole_number_is_an_id(service: Service) -> None:
    """Case 22."""
    answer = service.recommend("ada", [{"title": "a", "id": 5}])
    assert [item["id"] for item in answer.json()["items"]] == ["5"]
    wrong = service.recommend("ada", [{"title": "a", "id": [5]}])
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "candidates.0.id")


@with_settings(response={"rerank": 3})
def test_scores_add_up_whatever_the_candidates_are(service: Service) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.text(max_size=40), min_size=1, max_size=30), st.sampled_from(["engine", "profile", "fused", None])
    )
    def check(candidates: list[str], method: str | None) -> None:
        items = ranking(service.recommend("ada", candidates, method=method, k=1_000, explain=True))
        assert len(items) == len(candidates)
        assert sum(item["score"] for item in items) == pytest.approx(1, abs=1e-4)

    check()
