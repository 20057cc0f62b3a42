"""Simulated users, and texts of known habits."""

import itertools

import pytest

from evaluation.suites import drift
from evaluation.suites.drift import SimulatedUser, measure_drift
from services.profile.statistics import Profile


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

    def told(profile: Profile) -> str:
        """The newest statement, and how many events there were."""
        return f'In their own words, newest first: "{profile.statements[-1]}"\nBased on {profile.events} events so far.'

    monkeypatch.setattr(drift, "render", told)
    changed, said, _ = shares()
    assert (changed, said) == (0, 0), "figures are no claims, and the newest statement is of the new category"
    monkeypatch.setattr(drift, "render", lambda _: f"Likes {chr(65 + next(numbers) % 26)}.")
    assert shares() == (1, 0.5, 0.5), "another claim each time, and nothing to tell the categories apart"
