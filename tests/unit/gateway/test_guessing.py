"""Whoever fails again and again waits, then gets 429; a key that is right never does."""

import pytest

from gateway import guessing
from gateway.guessing import FADE_S, FREE, LIMIT, Guesses
from tests.unit.gateway.conftest import Suite
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio

PATH = "/v1/users/ann/preferences"


class Clock:
    """Time stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_failures_delay_then_refuse_then_fade() -> None:
    clock = Clock()
    guesses, names = Guesses(clock), ("1.2.3.4", "key k1")
    waits = [guesses.note_failure(names, f"d{number}") for number in range(LIMIT + 2)]
    assert waits[:LIMIT] == [None] * LIMIT
    assert waits[LIMIT:] == [FADE_S, 2 * FADE_S]
    assert guesses.delay_s(("9.9.9.9", "key k1"), "new") == 0.5  # the id, from another address
    assert guesses.delay_s(("9.9.9.9", "key k2"), "new") == 0
    clock.now += FADE_S * (LIMIT + 2 - FREE)
    assert guesses.delay_s(names, "new") == 0
    assert guesses.note_failure(names, "new") is None


def test_a_key_that_was_right_is_not_delayed_until_it_fails() -> None:
    guesses, names = Guesses(Clock()), ("1.2.3.4",)
    guesses.note_success("good")
    for number in range(3 * LIMIT):
        guesses.note_failure(names, f"d{number}")
    assert guesses.delay_s(names, "good") == 0
    assert 0 < guesses.delay_s(names, "other") <= 0.5
    retry_after = guesses.note_failure(names, "good")
    assert retry_after is not None
    assert retry_after <= LIMIT * FADE_S
    assert guesses.delay_s(names, "good") > 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "_MOST", 50)
    guesses = Guesses(Clock())
    for number in range(500):
        guesses.note_failure(("1.2.3.4", f"key {number}"), f"d{number}")
        guesses.note_success(f"s{number}")
    assert (len(guesses._failures), len(guesses._right)) == (50, 50)
    assert "1.2.3.4" in guesses._failures  # whoever goes on is not forgotten


async def test_a_guesser_gets_429_and_the_valid_key_goes_on(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "_STEP_S", 0.0)
    monkeypatch.setattr(guessing, "FADE_S", 1e6)
    fresh = (await suite.make_key())["key"]
    key_id = suite.key.split("_")[1]
    wrong = [await suite.json("GET", PATH, key=f"ax_{key_id}_" + f"{number:052d}") for number in range(LIMIT + 1)]
    assert [status for status, _, _ in wrong] == [401] * LIMIT + [429]
    _, headers, problem = wrong[-1]
    assert problem["type"] == "urn:alignx:problem:too_many_failures"
    assert int(headers["Retry-After"]) >= 1
    for key in ("nonsense", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.AAAA"):
        assert (await suite.json("GET", PATH, key=key))[0] == 429
    for key in (suite.key, fresh):
        assert (await suite.json("GET", PATH, key=key))[0] == 200
    assert (await suite.json("GET", PATH, key=""))[0] == 401  # without a key nobody guesses
    assert "alignx_gateway_rate_limited_total 3.0" in await suite.metrics()


@with_settings(gateway={"rate": 1000, "burst": 1000})
async def test_a_revoked_key_that_is_sent_on_and_on_is_slowed_down(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guessing, "_STEP_S", 0.0)
    monkeypatch.setattr(guessing, "FADE_S", 1e6)
    monkeypatch.setattr(guessing, "LIMIT", 3)
    statuses = [(await suite.json("GET", PATH, key="ax_gone_" + "a" * 52))[0] for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
