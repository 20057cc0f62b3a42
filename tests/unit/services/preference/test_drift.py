"""A change of preferences: found soon, told in the document, the stream and the log, and rarely where there is none."""

import json
import logging
import random

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from alignx.schemas.interactions import ComparisonInteraction
from alignx.schemas.summaries import StoredInteraction
from services.preference.drift import Drift, detect_drift
from services.preference.queue import Queue
from services.profile.fold import fold
from services.profile.statistics import EMPTY
from services.storage.prequential import CHANGE, WINDOW, encode_window
from services.storage.users import Store
from tests.unit.services.preference.served import EVENTS, PREFERENCES, Served
from tests.unit.services.preference.updates.test_regression import short_choice


def _choice(prefers_short: bool, source: random.Random) -> ComparisonInteraction:
    short = short_choice(source)
    return short if prefers_short else short.model_copy(update={"chosen": short.rejected, "rejected": short.chosen})


def _alarms(seed: int, turns_at: int, noise: float, count: int) -> list[int]:
    """The choices at which a change is detected; the user prefers short texts up to choice `turns_at`."""
    source, profile, window, alarms = random.Random(seed), EMPTY, "", []
    for index in range(count):
        prefers_short = (index < turns_at) != (source.random() < noise)
        profile, predicted = fold(profile, _choice(prefers_short, source))
        drift = detect_drift(window, predicted)
        alarms += [index] if drift else []
        window = (window + encode_window(predicted) + (CHANGE if drift else ""))[-WINDOW:]
    return alarms


@pytest.mark.parametrize(("noise", "within"), [(0.0, 4), (0.1, 10)])
def test_a_turn_is_detected_within_a_few_choices(noise: float, within: int) -> None:
    first = [(_alarms(seed, 40, noise, 60) or [60])[0] - 40 for seed in range(20)]
    assert sum(0 <= delay <= within for delay in first) >= 17  # of 20


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.4])
def test_a_steady_user_is_left_alone(noise: float) -> None:
    assert sum(len(_alarms(seed, 200, noise, 200)) for seed in range(15)) <= 3  # of 3,000 choices


def test_one_click_past_many_items_counts_once() -> None:
    steady = encode_window([0.9] * 30)
    assert detect_drift(steady, [0.1]) is None
    assert detect_drift(steady, [0.1, 0.2, 0.1, 0.1]) == Drift(4, 1.0, 0.0)
    assert detect_drift(steady + CHANGE, [0.1] * 8) is None, "what was told is not told again"


@pytest.mark.anyio
async def test_events_are_accepted_although_their_change_cannot_be_recorded(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise RedisConnectionError

    source = random.Random(7)
    monkeypatch.setattr(Queue, "record_change", fail)
    for short in (True, False):
        events = [_choice(short, source).model_dump(mode="json", exclude_none=True) for _ in range(30)]
        assert (await served.http.post(EVENTS, json={"events": events})).status_code == 202
    found = (await served.http.get(PREFERENCES)).json()
    assert (found["changed"], found["events_total"]) == (None, 60)
    assert "a change of preferences was not recorded" in caplog.text


@pytest.mark.anyio
async def test_events_are_accepted_although_their_user_is_erased_before_the_change_is_dated(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    events_before = Store.events_before

    async def erase(store: Store, tenant: str, user: str, end: str, limit: int) -> list[StoredInteraction]:
        assert await served.bench.queue.forget(tenant, user)
        return await events_before(store, tenant, user, end, limit)

    source = random.Random(7)
    monkeypatch.setattr(Store, "events_before", erase)
    for short in (True, False):
        events = [_choice(short, source).model_dump(mode="json", exclude_none=True) for _ in range(30)]
        assert (await served.http.post(EVENTS, json={"events": events})).status_code == 202
    assert (await served.http.get(PREFERENCES)).status_code == 404


@pytest.mark.anyio
async def test_contradictory_events_are_told(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    source = random.Random(7)
    for short in (True, False):
        events = [_choice(short, source).model_dump(mode="json", exclude_none=True) for _ in range(40)]
        with caplog.at_level(logging.INFO, "alignx.ingest"):
            for start in range(0, 40, 8):
                answer = await served.http.post(EVENTS, json={"events": events[start : start + 8]})
                assert answer.status_code == 202
    found = (await served.http.get(PREFERENCES)).json()
    changed = found["changed"]
    assert changed["accuracy_before"] > 0.9
    assert changed["accuracy_since"] < 0.7
    assert changed["comparisons"] <= 8
    assert changed["since"] <= changed["detected_at"]
    recent = found["quality"]["profile"]["recent"]
    assert recent["comparisons"] == 49
    assert recent["baselines"] == {"coin": 0.5}
    assert recent["low"] < recent["accuracy"] < recent["high"]
    entries = await served.bench.redis.xrange(served.bench.keys().live)
    told = [json.loads(fields["d"]) for _, fields in entries if fields["e"] == "changed"]
    assert told == [changed]
    assert [record.message for record in caplog.records] == ["preferences changed"]
    assert "ada" not in str(vars(caplog.records[0]))
