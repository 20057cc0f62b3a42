"""What the judge reads in each setting, and what the figures make of it."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.conditions import Protocol
from evaluation.models import Sampling
from evaluation.scoring.measure import measure_profile
from services.prompts.profiles import load_profile
from tests.unit.evaluation.tastes import RuleModel, run_setting, users


def test_a_judge_that_reads_no_summary_stays_at_one_half(tmp_path: Path) -> None:
    """Its lean to the first place cancels over both orders; what is left is a tie for every user."""
    cases = users(tmp_path, 40)
    for setting in ("none", "full", "streaming", "truth"):
        engine = RuleModel(deaf=True)
        scores, inference = run_setting(engine, cases, setting)
        assert scores.values == pytest.approx([0.5] * 40)
        assert scores.accuracy.mean == 0.5
        assert scores.position_bias == pytest.approx(0.1225, abs=1e-3)
        if setting == "none":
            assert (scores.writing, inference.replies, engine.written) == (None, 0, [])
            assert all("<preferences>" not in asked for asked in engine.chosen)


@pytest.mark.parametrize("setting", ["full", "streaming", "truth", "flipped"])
def test_a_model_that_infers_what_users_like_is_right(tmp_path: Path, setting: str) -> None:
    scores, _ = run_setting(RuleModel(), users(tmp_path, 40), setting)
    assert scores.accuracy.mean == 1
    assert scores.probability.mean > 0.85
    assert {kind: value.rows for kind, value in scores.by_kind.items()} == {"style": 20, "topic": 20}


@pytest.mark.parametrize(("name", "template"), [("own", "first/2"), ("alignxplore-plus", "whole-alignxplore-plus/1")])
def test_full_is_one_inference_as_it_is_served(tmp_path: Path, name: str, template: str) -> None:
    engine, cases, served = RuleModel(), users(tmp_path, 3), load_profile(name)
    scores, inference = run_setting(engine, cases, "full", prompts=name)
    prompts = [served.update_prompt(None, case.history, past_tokens=1_024, whole_history=True) for case in cases]
    assert engine.written == [prompt.messages[1]["content"] for prompt in prompts]
    assert inference.templates == {template}
    assert (scores.writing.replies, scores.writing.well_formed, scores.writing.usable) == (3, 1, 1)
    assert scores.writing.summary_tokens == (2 * len("The user likes tea.") + len("The user likes coffee.")) / 3
    assert scores.calls == 3 + 6


def test_streaming_updates_the_summary_of_the_first_half(tmp_path: Path) -> None:
    engine, cases = RuleModel(), users(tmp_path, 2)
    _, inference = run_setting(engine, cases, "streaming")
    first, second = engine.written[:2], engine.written[2:]
    assert [text.count("<event ") for text in first + second] == [6] * 4
    assert "<past_summary>\nThe user likes tea.\n</past_summary>" in second[0]
    assert "Drink 5 of 0?" in first[0]
    assert "Drink 6 of 0?" in second[0]
    assert inference.templates == {"first/2", "update/2"}
    engine = RuleModel()
    run_setting(engine, cases, "streaming", updates=4)
    assert len(engine.written) == 8


def test_flipping_reaches_the_model_and_not_the_target(tmp_path: Path) -> None:
    """With all choices the wrong way round the model is wrong about everyone."""
    cases = users(tmp_path, 20)
    engine = RuleModel()
    scores, _ = run_setting(engine, cases, "flipped", flip=1.0)
    assert scores.accuracy.mean == 0
    engine = RuleModel()
    run_setting(engine, cases, "flipped", flip=0.3)
    wrong = sum(text.count("coffee</chosen>") for text in engine.written[::2])
    wrong += sum(text.count("tea</chosen>") for text in engine.written[1::2])
    assert wrong == 72, "30 % of 20 users' 12 choices"


def test_another_users_summary_misleads_who_reads_it(tmp_path: Path) -> None:
    scores, _ = run_setting(RuleModel(), users(tmp_path, 20), "other")
    assert scores.accuracy.mean == 0, "neighbours like the other drink"


class Mumbling(RuleModel):
    """Its replies to updates hold no summary."""

    def reply(self, prompt: str) -> str:
        return "<think>It never ends" if "<past_summary>" in prompt else super().reply(prompt)


def test_a_reply_without_a_summary_leaves_the_past_one(tmp_path: Path) -> None:
    scores, _ = run_setting(Mumbling(), users(tmp_path, 10), "streaming")
    assert scores.accuracy.mean == 1
    assert scores.writing.usable == 0.5
    assert scores.writing.well_formed == 0.5


class Silent(RuleModel):
    def reply(self, prompt: str) -> str:
        return ""


def test_without_any_summary_the_judge_is_asked_as_in_the_control(tmp_path: Path) -> None:
    scores, _ = run_setting(Silent(), users(tmp_path, 10), "full")
    assert scores.accuracy.mean == 0.5
    assert (scores.writing.usable, scores.writing.summary_tokens) == (0, 0)


class Linking(RuleModel):
    def reply(self, prompt: str) -> str:
        return super().reply(prompt).replace("The user", "More at https://likes.example.com. The user")


def test_summaries_pass_the_guard_of_serving(tmp_path: Path) -> None:
    engine = Linking()
    run_setting(engine, users(tmp_path, 4), "full")
    assert any("likes tea" in asked for asked in engine.chosen)
    assert not any("https" in asked for asked in engine.chosen)


def test_the_profile_and_its_text_are_baselines(tmp_path: Path) -> None:
    cases = users(tmp_path, 20)
    assert measure_profile("profile", cases, Protocol()).accuracy.mean == 1
    engine = RuleModel()
    scores, _ = run_setting(engine, cases, "wording")
    assert engine.written == []
    assert all("Often chooses what mentions “" in asked for asked in engine.chosen)
    assert scores.writing.well_formed is None


def test_sampling_reaches_the_model(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    class Asked(RuleModel):
        def generate(self, prompts: Any, *, seed: int, **options: Any) -> list[str]:
            asked.append(options)
            return super().generate(prompts, seed=seed)

    run_setting(Asked(), users(tmp_path, 2), "full", sampling=Sampling(max_tokens=9, temperature=0.0))
    assert asked == [{"max_new_tokens": 9, "temperature": 0.0, "top_p": 0.95, "top_k": 20, "thinking": True}]
