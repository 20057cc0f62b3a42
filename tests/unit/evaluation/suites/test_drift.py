"""Simulated users, and texts of known habits."""

import itertools

import pytest

from evaluation.suites import drift
from evaluation.suites.drift import SimulatedUser, is_stale, measure_drift
from services.profile.claims.evidence import Sentence
from services.profile.statistics import EMPTY


def shares() -> tuple[float, ...]:
    return tuple(value.mean for value in measure_drift(4).values())


def test_a_user_is_the_same_each_time_and_takes_what_they_like() -> None:
    history = SimulatedUser(3).stable_history()
    assert history == SimulatedUser(3).stable_history() != SimulatedUser(4).stable_history()
    liked = SimulatedUser(3).categories[:2]
    taken = [pair.chosen.category in liked for event in history for pair in event.pairs()[:1]]
    assert len(history) == 200
    assert 0.8 < sum(taken) / len(taken) < 1


def test_texts_of_known_habits(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    def told(text: str, key: str) -> Sentence:
        return Sentence("topics", "topic", text, about=(key,))

    monkeypatch.setattr(drift, "render", lambda _: "Likes what nobody sells.")
    monkeypatch.setattr(drift, "sentences", lambda _: [told(f"Likes Poetry, for example {next(numbers)}.", "+Poetry")])
    assert shares() == (0, 0.5, 0.5), "examples are no claims"
    monkeypatch.setattr(drift, "sentences", lambda _: [told("Likes.", f"+{next(numbers)}")])
    assert shares() == (1, 0.5, 0.5), "another claim each time, and nothing to tell the categories apart"
    for stated, stale in (("I love poetry.", 0), ("I love crime stories.", 1)):
        text = f'In their own words, newest first: "{stated}"'
        monkeypatch.setattr(drift, "render", lambda _, text=text: text)
        assert is_stale(EMPTY, "Crime", "Poetry") == stale
