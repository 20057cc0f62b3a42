"""How an option is chosen: by letters, by a sampled reply, fused with the profile; over two options and more."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.models import Placement, open_model
from evaluation.scoring.baselines import estimate_baselines, estimate_margins, score_baselines
from evaluation.scoring.choice_scores import (
    FOLDS,
    SAMPLING,
    UNPARSED,
    Choice,
    Context,
    choose_by_judge,
    choose_by_profile,
    choose_by_sampling,
    parse_choice,
)
from evaluation.scoring.measure import score_choices
from services.engine.choice.fusion import Comparison, add, additions, compare, fuse, learned_weights
from services.prompts.build import ChatMessage, selection_prompt
from tests.unit.evaluation.tastes import RuleModel, local_model, run_setting, users
from tests.unit.services.engine.fake_engine import FakeEngine, reply
from training.synthesis.answer_store import AnswerStore


class Selecting(RuleModel):
    """Writes summaries by rule, and for each selection the next of `replies`, over and over."""

    def __init__(self, *replies: str) -> None:
        super().__init__()
        self.replies = replies
        self.selections: list[str] = []
        self.options: list[dict[str, Any]] = []

    def generate(self, prompts: Sequence[Sequence[ChatMessage]], *, seed: int, **options: Any) -> list[str]:
        if "<item letter=" not in prompts[0][-1]["content"]:
            return super().generate(prompts, seed=seed)
        self.options.append(options)
        start = len(self.selections)
        self.selections += [prompt[-1]["content"] for prompt in prompts]
        return [self.replies[(start + place) % len(self.replies)] for place in range(len(prompts))]


def shown_first(prompt: str) -> str:
    return re.findall(r'<item letter="A">\n(.*?)\n</item>', prompt)[0]


# --- sampled -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "order", "choice"),
    [
        ('{"selection": "Item A"}', [0, 1], Choice((1, 0), place=0)),
        ('{"selection": "Item A"}', [1, 0], Choice((0, 1), place=0)),
        ('{"selection": "Item C"}', [1, 0], Choice((0, 0), place=UNPARSED)),
        ('{"selection": "Item C"}', [2, 1, 0], Choice((1, 0, 0), place=2)),
    ],
)
def test_a_reply_is_read_in_the_order_that_was_shown(reply: str, order: list[int], choice: Choice) -> None:
    assert parse_choice(reply, order) == choice


def test_of_sampled_replies_only_right_ones_count(tmp_path: Path) -> None:
    cases = users(tmp_path, 40)
    recorded = ('{"selection": "Item A"}', "<think>Well", '{"selection": "Item A or B"}', '{"selection": "Item Z"}')
    engine = Selecting(*recorded, '{"selection": "', "Item A")
    scores, _ = run_setting(engine, cases, "none", choice="sampled")
    assert (scores.replies.unparsed, scores.replies.took_first) == (33, 1)
    right = [
        float(place % 6 == 0 and shown_first(text) == case.target.chosen)
        for place, (case, text) in enumerate(zip(cases, engine.selections, strict=True))
    ]
    assert scores.right == scores.values == tuple(right)
    assert scores.accuracy.mean == sum(right) / 40
    assert (scores.auc, scores.calibration_error, scores.position_bias) == (None, None, None)


def test_the_sampled_prompt_is_that_of_serving_without_the_start_of_the_answer(tmp_path: Path) -> None:
    engine, cases = Selecting('{"selection": "Item B"}'), users(tmp_path, 30)
    run_setting(engine, cases, "full", choice="sampled")
    liked = ["The user likes tea.", "The user likes coffee."]
    for place, (case, text) in enumerate(zip(cases, engine.selections, strict=True)):
        items = [str(case.target.chosen), str(case.target.rejected)]
        items = items if shown_first(text) == items[0] else items[::-1]
        prompt = selection_prompt(case.target.query, items, liked[place % 2])
        assert text == prompt.messages[1]["content"]
    assert engine.options[0] == {
        "max_new_tokens": 16,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "thinking": False,
    }
    heads = sum(shown_first(text) == case.target.chosen for case, text in zip(cases, engine.selections, strict=True))
    assert 5 < heads < 25, "a coin decides"
    again = Selecting('{"selection": "Item A"}')
    run_setting(again, cases, "full", choice="sampled", seed=7)
    assert again.selections == engine.selections, "the coin has a seed of its own"


def test_a_url_is_asked_for_sampled_replies_too(tmp_path: Path) -> None:
    cases, fake = users(tmp_path, 4), FakeEngine()
    fake.chat = reply('{"selection"', ': "Item A"}')

    async def over_http(store: AnswerStore) -> list[Choice]:
        async with fake.serving() as url, open_model(url, store, Placement()) as model:
            return await choose_by_sampling(model, cases, [Context()] * 4, seed=0, tick=lambda _: None)

    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        choices = asyncio.run(over_http(store))
    assert [choice.place for choice in choices] == [0] * 4
    for body in fake.bodies:
        assert {name: body[name] for name in ("max_tokens", "temperature", "top_p", "top_k")} == {
            "max_tokens": SAMPLING.max_tokens,
            "temperature": 0.6,
            "top_p": 0.95,
            "top_k": 20,
        }
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        assert [message["role"] for message in body["messages"]] == ["system", "user"]


# --- direct and fused --------------------------------------------------------------------------


def test_direct_shows_the_history_and_infers_nothing(tmp_path: Path) -> None:
    engine, cases = RuleModel(), users(tmp_path, 3)
    scores, inference = run_setting(engine, cases, "direct")
    assert engine.written == []
    assert scores.writing is None
    target = cases[0].target
    prompt = selection_prompt(target.query, [str(target.chosen), str(target.rejected)], None, cases[0].history)
    assert prompt.messages[1]["content"] in engine.chosen
    assert inference.shortened == set()
    short = RuleModel()
    for setting, read in (("direct", short.chosen), ("full", short.written)):
        _, inference = run_setting(short, cases, setting, history_tokens=200)
        assert inference.shortened == {0, 1, 2}
        assert "Drink 11 of 0?" in read[0]
        assert "Drink 0 of 0?" not in read[0]


def test_fused_joins_letters_and_profile_by_the_weights_that_other_rows_earn(tmp_path: Path) -> None:
    cases = users(tmp_path, 60)
    letters, _ = run_setting(RuleModel(), cases, "full")
    both, _ = run_setting(RuleModel(), cases, "fused")
    sums: dict[str, float] = {}
    scores = [
        (choose_by_profile(case).probabilities, (p, 1 - p)) for p, case in zip(letters.values, cases, strict=True)
    ]
    for index, score in enumerate(scores):
        if index % FOLDS:
            sums = add(sums, additions(sums, Comparison("texts", compare(*score, None, chosen=0, rejected=1))))
    weights = learned_weights(sums, "texts")
    assert weights.text > 0
    assert both.values[::FOLDS] == pytest.approx([fuse(weights, *score)[0] for score in scores[::FOLDS]])
    deaf, _ = run_setting(RuleModel(deaf=True), cases, "fused")
    assert deaf.values == pytest.approx([by_profile[0] for by_profile, _ in scores]), "it has earned nothing"


# --- several options and baselines -------------------------------------------------------------


def test_more_options_are_shown_in_each_place_and_the_best_one_counts(tmp_path: Path) -> None:
    cases = [replace(case, others=("hot water", "iced milk")) for case in users(tmp_path, 4)]
    engine = RuleModel()
    scores, _ = run_setting(engine, cases, "full")
    assert scores.accuracy.mean == 1
    firsts = {shown_first(text) for text in engine.chosen if "drink of 0" in text}
    assert firsts == {"hot tea", "hot coffee", "hot water", "iced milk"}
    deaf, _ = run_setting(RuleModel(deaf=True), cases, "full")
    assert deaf.right == pytest.approx([0.25] * 4), "four that tie"
    assert estimate_baselines(score_baselines(cases), cases, 0)["random"].mean == 0.25


def test_baselines_stand_beside_and_popularity_where_it_is_known(tmp_path: Path) -> None:
    cases = users(tmp_path, 4)
    assert estimate_baselines(score_baselines(cases), cases, 0).keys() == {"random", "longer wins", "profile"}
    assert score_baselines(cases)["longer wins"] == [0, 1, 0, 1], "coffee is longer than tea"
    popular = [replace(cases[0], popularity=(3, 1)), replace(cases[1], popularity=(2, 2)), *cases[2:]]
    found = estimate_baselines(score_baselines(popular), popular, 0)
    assert (found["popularity"].mean, found["popularity"].rows) == (0.75, 2)
    assert (found["random"].mean, found["longer wins"].mean, found["profile"].mean) == (0.5, 0.5, 1)
    above = estimate_margins(score_baselines(popular), [1, 1, 0, 0], popular, 0)
    assert (above["popularity"].mean, above["popularity"].rows) == (0.25, 2), "paired, over the rows that have it"
    assert above["profile"].mean == -0.5


def test_rows_of_one_user_are_drawn_together_and_each_half_has_a_score(tmp_path: Path) -> None:
    cases = [
        replace(case, userid=f"u{place // 2}", half="kept" if place < 2 else "development")
        for place, case in enumerate(users(tmp_path, 8))
    ]
    choices = [Choice((0.9, 0.1)), Choice((0.9, 0.1)), Choice((0.2, 0.8)), Choice((0.2, 0.8))] * 2
    apart = score_choices(choices, [replace(case, userid="") for case in cases], 0)
    together = score_choices(choices, cases, 0)
    assert together.accuracy.mean == apart.accuracy.mean == 0.5
    assert together.accuracy.high - together.accuracy.low > apart.accuracy.high - apart.accuracy.low
    halves = together.accuracy.halves
    assert (halves["kept"].mean, halves["kept"].rows) == (1, 2)
    assert (halves["development"].mean, halves["development"].rows) == (2 / 6, 6)


def test_figures_of_letters_hold_area_and_calibration(tmp_path: Path) -> None:
    cases = users(tmp_path, 4)
    scores = score_choices([Choice((p, 1 - p), 0.0) for p in (0.9, 0.8, 0.6, 0.3)], cases, 0)
    assert scores.accuracy.mean == 0.75
    assert scores.auc.mean == 13 / 16, "of 16 comparisons .6 loses to .7, and .3 to .4 and .7"
    assert 0 < scores.calibration_error < 1


def test_forced_asks_about_each_user_in_both_orders(tmp_path: Path) -> None:
    engine, cases = RuleModel(), users(tmp_path, 2)
    with local_model(engine) as model:
        known = [Context("The user likes tea.")] * 2
        found = asyncio.run(choose_by_judge(model, cases, known, batch=1, tick=lambda _: None))
    assert len(engine.chosen) == 4
    assert found[0].probabilities[0] > 0.5 > found[1].probabilities[0]


def test_by_likelihood_each_item_is_asked_about_with_the_summary_and_once_without(tmp_path: Path) -> None:
    engine, cases = RuleModel(), users(tmp_path, 2)
    with local_model(engine) as model:
        model.protocol = "likelihood"
        for summary in ("The user likes tea.", "The user likes coffee."):
            known = [Context(summary)] * 2
            found = asyncio.run(choose_by_judge(model, cases, known, batch=1, tick=lambda _: None))
    assert len(engine.chosen) == 12, "what was asked without a summary is stored"
    assert found[0].probabilities[0] < 0.5 < found[1].probabilities[0]
    assert found[0].position_bias == 0
