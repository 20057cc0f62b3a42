"""Scoring by meaning: what it adds, and that nothing waits or fails for want of it."""

from typing import Any

import pytest

from tests.unit.services.response.conftest import HERE, NOBODY, Serve, Service

TAKEN, LEFT = "A walk along the cliffs at dawn", "A tour of the old town by bus"
NEAR, FAR = "A climb in the hills above the sea", "A seat on the tram to the market"
CHOICES = [{"type": "comparison", "query": "What now?", "chosen": TAKEN, "rejected": LEFT}] * 3


def on_foot(text: str) -> list[float]:
    """One direction for going on foot and one for being driven."""
    return [1.0, 0.2] if "walk" in text or "climb" in text else [0.2, 1.0]


def told(service: Service) -> Service:
    service.engine.embed = on_foot
    service.learn("ada", *CHOICES)
    return service


def near(service: Service, **fields: Any) -> float:
    answer = service.select("ada", [NEAR, FAR], method="profile", **fields)
    assert answer.status_code == 200, answer.text
    probability: float = answer.json()["items"][0]["probability"]
    return probability


def scored(service: Service, outcome: str) -> float:
    line = f'alignx_meaning_scores_total{{outcome="{outcome}"}} '
    (found,) = [each for each in service.http.get("/metrics").text.splitlines() if each.startswith(line)]
    return float(found.removeprefix(line))


def test_items_of_like_meaning_gain_without_a_shared_word(serve: Serve) -> None:
    without = near(told(serve(engine={"url": "profile"})))
    service = serve(engine={"url": "profile", "embeddings_url": HERE})  # knows the same users
    service.engine.embed = on_foot
    assert near(service) > without + 0.1
    assert scored(service, "used") == 1


def test_a_history_is_embedded_once(serve: Serve) -> None:
    service = told(serve(engine={"embeddings_url": HERE}))
    assert near(service) == near(service)
    assert [sorted(texts) for texts in service.engine.embedded] == [sorted((TAKEN, LEFT, NEAR, FAR))]


def test_vectors_are_forgotten(serve: Serve) -> None:
    service = told(serve(engine={"embeddings_url": HERE}, response={"embed_keep_s": 0}))
    assert near(service) == near(service)
    assert len(service.engine.embedded) == 2


def failing(service: Service) -> None:
    service.engine.embed_status = 500


def uneven(service: Service) -> None:
    service.engine.embed = lambda text: [1.0] * len(text)


def endless(service: Service) -> None:
    service.engine.embed = lambda _: [1e300, 1.0]


@pytest.mark.parametrize("wrong", [failing, uneven, endless], ids=lambda each: each.__name__)
def test_items_are_scored_without_a_server_that_fails(serve: Serve, wrong: Any) -> None:
    without = near(told(serve(engine={"url": "profile"})))
    service = serve(engine={"embeddings_url": HERE})  # knows the same users
    wrong(service)
    assert near(service) == without
    assert scored(service, "failed") == 1


def test_items_are_scored_without_a_server_that_is_absent(serve: Serve) -> None:
    service = told(serve(engine={"embeddings_url": NOBODY}))
    assert 0 < near(service) < 1
    assert scored(service, "failed") == 1


def test_nobody_waits_long_for_a_slow_server(serve: Serve) -> None:
    service = told(serve(engine={"embeddings_url": HERE}, response={"embed_timeout_s": 0.05}))
    service.engine.embed_pause = 5.0
    assert 0 < near(service) < 1
    assert scored(service, "late") == 1


def test_a_server_that_stays_silent_is_left_alone(serve: Serve) -> None:
    engine = {"url": "profile", "embeddings_url": HERE, "breaker_failures": 2, "breaker_cooldown_s": 60}
    service = told(serve(engine=engine, response={"embed_timeout_s": 0.05}))
    service.engine.embed_pause = 5.0
    for _ in range(8):
        near(service)
    assert len(service.engine.embedded) == 2
    assert scored(service, "used") == 0


def test_no_endless_line_of_texts_waits(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.response.embeddings.MAX_PENDING", 3)
    service = told(serve(engine={"url": "profile", "embeddings_url": HERE}))
    near(service)
    assert scored(service, "failed") == 1
    assert service.engine.embedded == []


def test_what_comes_too_late_is_kept_for_the_next_call(serve: Serve) -> None:
    engine = {"url": "profile", "embeddings_url": HERE, "embeddings_concurrency": 1}
    service = serve(engine=engine, response={"embed_timeout_s": 0.5})
    service.engine.embed, service.engine.embed_pause = on_foot, 0.2
    service.learn("ada", *({**CHOICES[0], "rejected": f"{LEFT} {n}", "chosen": f"{TAKEN} {n}"} for n in range(24)))
    near(service)  # needs four calls, one after the other
    assert scored(service, "late") == 1
    while not scored(service, "used"):
        near(service)
    asked = [text for texts in service.engine.embedded for text in texts]
    assert len(asked) == len(set(asked)) == 50


def test_the_first_of_a_row_of_failures_is_logged_and_so_is_the_recovery(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "alignx.meaning")
    service = told(serve(engine={"url": "profile", "embeddings_url": HERE}))
    service.engine.embed_status = 500
    near(service)
    near(service)
    service.engine.embed_status = 200
    near(service)
    near(service)
    told_of = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "alignx.meaning"]
    assert told_of == [
        ("WARNING", "items are scored without their meaning"),
        ("INFO", "items are scored by their meaning again"),
    ]
    assert TAKEN not in caplog.text


def test_a_recommendation_embeds_the_best_of_the_profile(serve: Serve) -> None:
    service = told(serve(engine={"url": "profile", "embeddings_url": HERE}, response={"embed_items": 2}))
    candidates = [f"{kind} number {number}" for number in range(5) for kind in ("A climb", "A seat")]
    answer = service.recommend("ada", candidates, k=10)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["items"]) == 10
    (texts,) = service.engine.embedded
    assert len(set(texts) - {TAKEN, LEFT}) == 2


def test_without_choices_nothing_is_embedded(serve: Serve) -> None:
    service = serve(engine={"embeddings_url": HERE})
    service.learn("ada", {"type": "statement", "text": "I love walking"})
    near(service)
    assert service.engine.embedded == []
