"""Scoring by meaning: what it adds, and that nothing waits or fails for want of it."""

from typing import Any

import pytest

from tests.unit.services.response.conftest import HERE, NOBODY, Serve, Service
from tests.unit.with_settings import with_settings

TAKEN, LEFT = "A walk along the cliffs at dawn", "A tour of the old town by bus"
NEAR, FAR = "A climb in the hills above the sea", "A seat on the tram to the market"
CHOICES = [{"type": "comparison", "query": "What now?", "chosen": TAKEN, "rejected": LEFT}] * 3


def on_foot(text: str) -> list[float]:
    """One direction for going on foot and one for being driven."""
    return [1.0, 0.2] if "walk" in text or "climb" in text else [0.2, 1.0]


EMBEDDING = {"url": "profile", "embeddings_url": HERE}


@pytest.fixture
def settings() -> dict[str, dict[str, Any]]:
    return {"engine": EMBEDDING}


@pytest.fixture
def service(service: Service) -> Service:
    """It knows Ada's choices."""
    service.engine.embed = on_foot
    service.learn("ada", *CHOICES)
    return service


def near(service: Service, user: str = "ada") -> float:
    answer = service.select(user, [NEAR, FAR], method="profile")
    assert answer.status_code == 200, answer.text
    probability: float = answer.json()["items"][0]["probability"]
    return probability


def scored(service: Service, outcome: str) -> float:
    name = f'alignx_meaning_scores_total{{outcome="{outcome}"}} '
    (sample,) = [row for row in service.http.get("/metrics").text.splitlines() if row.startswith(name)]
    return float(sample.removeprefix(name))


def test_items_of_like_meaning_gain_without_a_shared_word(service: Service, serve: Serve) -> None:
    without = near(serve(engine={"url": "profile"}))  # knows the same users
    assert near(service) > without + 0.1
    assert scored(service, "used") == 1


def test_a_history_is_embedded_once(service: Service) -> None:
    assert near(service) == near(service)
    assert [sorted(texts) for texts in service.engine.embedded] == [sorted((TAKEN, LEFT, NEAR, FAR))]


@with_settings(engine=EMBEDDING, response={"embed_keep_s": 0})
def test_vectors_are_forgotten(service: Service) -> None:
    assert near(service) == near(service)
    assert len(service.engine.embedded) == 2


def failing(service: Service) -> None:
    service.engine.embed_status = 500


def uneven(service: Service) -> None:
    service.engine.embed = lambda text: [1.0] * len(text)


def endless(service: Service) -> None:
    service.engine.embed = lambda _: [1e300, 1.0]


@pytest.mark.parametrize("wrong", [failing, uneven, endless], ids=lambda wrong: wrong.__name__)
def test_items_are_scored_without_a_server_that_fails(service: Service, serve: Serve, wrong: Any) -> None:
    without = near(serve(engine={"url": "profile"}))  # knows the same users
    wrong(service)
    assert near(service) == without
    assert scored(service, "failed") == 1


@with_settings(engine={"embeddings_url": NOBODY})
def test_items_are_scored_without_a_server_that_is_absent(service: Service) -> None:
    assert 0 < near(service) < 1
    assert scored(service, "failed") == 1


@with_settings(engine=EMBEDDING, response={"embed_timeout_s": 0.05})
def test_nobody_waits_long_for_a_slow_server(service: Service) -> None:
    service.engine.embed_pause = 5.0
    assert 0 < near(service) < 1
    assert scored(service, "late") == 1


@with_settings(
    engine={**EMBEDDING, "breaker_failures": 2, "breaker_cooldown_s": 60}, response={"embed_timeout_s": 0.05}
)
def test_a_server_that_stays_silent_is_left_alone(service: Service) -> None:
    service.engine.embed_pause = 5.0
    for _ in range(8):
        near(service)
    assert len(service.engine.embedded) == 2
    assert scored(service, "used") == 0


def test_no_endless_line_of_texts_waits(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.response.embeddings.MAX_PENDING", 3)
    near(service)
    assert scored(service, "failed") == 1
    assert service.engine.embedded == []


@with_settings(engine={**EMBEDDING, "embeddings_concurrency": 1}, response={"embed_timeout_s": 0.5})
def test_what_comes_too_late_is_kept_for_the_next_call(service: Service) -> None:
    service.engine.embed_pause = 0.2
    service.learn("bob", *({**CHOICES[0], "rejected": f"{LEFT} {n}", "chosen": f"{TAKEN} {n}"} for n in range(24)))
    near(service, "bob")  # needs four calls, one after the other
    assert scored(service, "late") == 1
    while not scored(service, "used"):
        near(service, "bob")
    texts = [text for call in service.engine.embedded for text in call]
    assert len(texts) == len(set(texts)) == 50


def test_the_first_of_a_row_of_failures_is_logged_and_so_is_the_recovery(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "alignx.meaning")
    service.engine.embed_status = 500
    near(service)
    near(service)
    service.engine.embed_status = 200
    near(service)
    near(service)
    records = [record for record in caplog.records if record.name == "alignx.meaning"]
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("WARNING", "items are scored without their meaning"),
        ("INFO", "items are scored by their meaning again"),
    ]
    assert TAKEN not in caplog.text


@with_settings(engine=EMBEDDING, response={"embed_items": 2})
def test_a_recommendation_embeds_the_best_of_the_profile(service: Service) -> None:
    candidates = [f"{kind} number {number}" for number in range(5) for kind in ("A climb", "A seat")]
    answer = service.recommend("ada", candidates, k=10)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["items"]) == 10
    (texts,) = service.engine.embedded
    assert len(set(texts) - {TAKEN, LEFT}) == 2


def test_without_choices_nothing_is_embedded(service: Service) -> None:
    service.learn("bob", {"type": "statement", "text": "I love walking"})
    near(service, "bob")
    assert service.engine.embedded == []
