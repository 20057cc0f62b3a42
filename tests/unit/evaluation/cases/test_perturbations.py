"""Histories with another past or another user's events, and the settings that use them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from alignx.schemas.interactions import ComparisonInteraction, Interaction, PostInteraction
from evaluation.cases.perturbations import mix_histories, pick_other_users, replace_past
from evaluation.conditions import Protocol
from evaluation.config import Evaluation
from evaluation.runner import choose_settings
from tests.unit.evaluation.tastes import RuleModel, run_setting, users
from training.exceptions import ConfigError


def taken(history: Sequence[Interaction]) -> list[str]:
    """The last word of each choice: the drink."""
    return [str(event.chosen).split()[-1] for event in history if isinstance(event, ComparisonInteraction)]


def test_a_reversed_past_is_the_older_half(tmp_path: Path) -> None:
    cases = users(tmp_path, 3)
    for case, changed in zip(cases, replace_past(cases, "reversed", seed=0), strict=True):
        assert [then == now for then, now in zip(case.history, changed.history, strict=True)] == [False] * 6 + [
            True
        ] * 6
        assert changed.target == case.target
        assert changed.digest == case.digest
    assert taken(replace_past(cases, "reversed", seed=0)[0].history) == ["coffee"] * 6 + ["tea"] * 6


def test_the_past_of_another_user_takes_the_place_of_the_own(tmp_path: Path) -> None:
    cases = users(tmp_path, 3)
    changed = replace_past(cases, "other", seed=0)
    assert [case.history[:6] for case in changed] == [cases[place].history[:6] for place in (1, 2, 0)]
    assert [case.history[6:] for case in changed] == [case.history[6:] for case in cases]


def test_events_without_another_side_stay_in_a_reversed_past(tmp_path: Path) -> None:
    (case,) = users(tmp_path, 1)
    post = PostInteraction(text="It rains.")
    (changed,) = replace_past([replace(case, history=(post, *case.history))], "reversed", seed=0)
    assert changed.history[0] == post


@pytest.mark.parametrize(("share", "foreign"), [(0.5, 6), (1.0, 12), (0.0, 0)])
def test_the_events_of_another_user_are_mixed_in_and_orders_stay(tmp_path: Path, share: float, foreign: int) -> None:
    cases = users(tmp_path, 4)
    changed = mix_histories(cases, share, seed=1)
    for place, (case, now) in enumerate(zip(cases, changed, strict=True)):
        own = [event for event in now.history if event in case.history]
        strange = [event for event in now.history if event not in case.history]
        assert own == list(case.history)
        assert strange == list(cases[(place + 1) % 4].history)[12 - foreign :]
    assert mix_histories(cases, share, seed=1) == changed
    if foreign == 6:
        assert mix_histories(cases, share, seed=2) != changed


def test_the_other_user_is_one_with_another_history(tmp_path: Path) -> None:
    one, two = users(tmp_path, 2)
    again = replace(one, digest="of another target")
    assert pick_other_users([one, again, two]) == [2, 2, 0]
    with pytest.raises(ConfigError, match="different histories"):
        pick_other_users([one, again])


def test_updates_that_follow_are_right_after_a_drift_and_a_long_memory_is_not(tmp_path: Path) -> None:
    cases = users(tmp_path, 20)
    assert run_setting(RuleModel(forgetful=True), cases, "drifted")[0].accuracy.mean == 1
    assert run_setting(RuleModel(), cases, "streaming")[0].accuracy.mean == 1
    stuck = run_setting(Stuck(), cases, "drifted")[0]
    assert stuck.accuracy.mean == 0
    assert stuck.writing.replies == 40, "two updates, as in streaming"
    assert run_setting(Stuck(), cases, "drifted", drift="other")[0].accuracy.mean == 0, "neighbours differ"


class Stuck(RuleModel):
    """What it once wrote it writes again."""

    def reply(self, prompt: str) -> str:
        known = re.search(r"<past_summary>\n(.*?)\n</past_summary>", prompt)
        return f"<think>So it was.</think>\n{known[1]}" if known else super().reply(prompt)


class Loud(RuleModel):
    """It goes by the event that stands last in the prompt."""

    def reply(self, prompt: str) -> str:
        return f"<think>Last.</think>\nThe user likes {re.findall(r'<chosen>[a-z]+ ([a-z]+)</chosen>', prompt)[-1]}."


def test_who_counts_stands_irrelevant_events_and_who_goes_by_the_last_does_not(tmp_path: Path) -> None:
    cases = users(tmp_path, 40)
    assert run_setting(RuleModel(), cases, "mixed", mix=0.5)[0].accuracy.mean == 1
    assert run_setting(Loud(), cases, "full")[0].accuracy.mean == 1
    assert 0.4 < run_setting(Loud(), cases, "mixed", mix=0.5)[0].accuracy.mean < 0.9, "about a third is foreign"


def test_settings_of_several_users_need_them(tmp_path: Path) -> None:
    cases = users(tmp_path, 2)
    plan = Evaluation(out=tmp_path / "out.json", model="somewhere", data=tmp_path)
    assert {"mixed", "drifted"} <= set(choose_settings(plan, cases, None))
    assert "mixed" not in choose_settings(plan, cases[:1], None)
    assert "drifted" in choose_settings(plan, cases[:1], None)
    asked = plan.model_copy(update={"settings": ("drifted",), "protocol": Protocol(drift="other")})
    with pytest.raises(ConfigError, match="drifted: not possible"):
        choose_settings(asked, cases[:1], None)
