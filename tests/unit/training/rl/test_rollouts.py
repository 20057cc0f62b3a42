"""Two-stage GRPO: rows, rollout and reward by hand, then TRL's real trainer on a random model."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset

from alignx.schemas.interactions import ComparisonInteraction
from services.prompts.build import ChatMessage, estimate_tokens
from services.prompts.profiles import load_profile
from services.prompts.templates import UPDATE_SYSTEM
from training.data.formats import RlRow
from training.rl.rollouts import make_rollout, streaming_reward_function
from training.rl.rows import Grpo, paired_rows, stage2_prompt

COUNT = 4
STAGES = Grpo(reward="streaming", generations=COUNT, prompt_tokens=2_048, past_tokens=256)


def user(name: str, length: int = 6, middle: int = 3, text: str = "tea") -> RlRow:
    choices = [{"query": f"{name} q{i}", "chosen": f"{text} {i}", "rejected": f"coffee {i}"} for i in range(length)]
    return RlRow.model_validate({"uid": name, "history": choices, "mid_position": middle})


@pytest.mark.parametrize("name", ["own", "alignxplore-plus"])
def test_a_user_is_two_neighbouring_rows_with_the_prompts_of_serving(name: str) -> None:
    served = load_profile(name)
    rows = list(paired_rows([user("ann"), user("bob")], STAGES.model_copy(update={"prompts": name})))
    assert [row["stage"] for row in rows] == [1, 2, 1, 2]
    assert rows[0]["target"] == {"query": "ann q3", "chosen": "tea 3", "rejected": "coffee 3"}
    assert rows[1]["target"] == {"query": "ann q5", "chosen": "tea 5", "rejected": "coffee 5"}
    events = [ComparisonInteraction(query=f"ann q{i}", chosen=f"tea {i}", rejected=f"coffee {i}") for i in range(6)]
    assert rows[0]["prompt"] == served.update_prompt(None, events[:3], past_tokens=256).messages
    for past in ("The user likes tea.", ""):
        update = served.update_prompt(past or None, events[3:5], past_tokens=256)
        assert stage2_prompt(rows[1]["prompt"], past, 256, served) == update.messages
    assert Dataset.from_list(rows)[1]["prompt"] == rows[1]["prompt"], "a data set keeps the row as it is"


def test_history_that_speaks_of_a_placeholder_or_a_past_summary_stays_itself() -> None:
    """A replaced placeholder would also be replaced inside what a user wrote."""
    rows = list(paired_rows([user("ann", text="Not Provided. </past_summary>")], STAGES))
    content = stage2_prompt(rows[1]["prompt"], "The user likes tea.", 256)[1]["content"]
    assert content.count("The user likes tea.") == 1
    assert content.count("Not Provided. &lt;/past_summary>") == 2


def test_a_long_history_loses_its_oldest_choices_and_never_the_instruction() -> None:
    small = Grpo(reward="streaming", prompt_tokens=1_200, past_tokens=200)
    first, second = paired_rows([user("ann", length=60, middle=30, text="tea " * 10)], small)
    for messages, latest, oldest in (
        (first["prompt"], "ann q29<", "ann q0<"),
        (stage2_prompt(second["prompt"], "Likes tea. " * 90, 200), "ann q58<", "ann q30<"),
    ):
        assert messages[0]["content"] == UPDATE_SYSTEM
        assert latest in messages[1]["content"]
        assert oldest not in messages[1]["content"]
        assert sum(estimate_tokens(message["content"]) for message in messages) <= 1_200


def test_rows_out_of_order_are_refused() -> None:
    rows = list(paired_rows([user("ann")], STAGES))
    with pytest.raises(ValueError, match="shuffle_dataset=False"):
        stage2_prompt(rows[0]["prompt"], "x", 256)


class Words:
    """A tokenizer and trainer in one, whose tokens are whole replies."""

    def __init__(self, replies: Sequence[str]) -> None:
        self.replies = list(replies)
        self.rendered: list[list[ChatMessage]] = []
        self.state = SimpleNamespace(global_step=0)
        self.processing_class = self

    def apply_chat_template(self, messages: Sequence[ChatMessage], **_: object) -> str:
        return str(messages)

    def batch_decode(self, rows: Sequence[Sequence[int]], **_: object) -> list[str]:
        return [self.replies[row[0]] for row in rows]

    def _tokenize_prompts(self, prompts: list[list[ChatMessage]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        start = len(self.rendered)
        self.rendered += prompts
        return [[start + index] for index in range(len(prompts))], None, {}

    def _generate_single_turn(self, ids: list[list[int]], _i: object, _f: object, count: int) -> tuple[Any, None]:
        assert count == COUNT
        return [list(row) for row in ids], None


def repeated(rows: Sequence[Any]) -> list[list[ChatMessage]]:
    return [row["prompt"] for row in rows for _ in range(COUNT)]


def test_the_rollout_shows_the_picked_summary_to_stage_2_and_nothing_else() -> None:
    replies = [f"<think>a</think>The user likes tea {i}." for i in range(16)]
    trainer = Words(replies)
    prompts = repeated(list(paired_rows([user("ann"), user("bob")], STAGES)))
    out = make_rollout(STAGES, 0)(prompts, trainer)
    assert out["logprobs"] is None
    assert [ids[0] for ids in out["prompt_ids"]] == [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]
    assert out["completion_ids"] == out["prompt_ids"]
    for start in (0, 8):
        picks = [index for index in range(start, start + 8) if out["picked"][index]]
        assert len(picks) == 1
        assert picks[0] < start + COUNT
        written = out["completion_ids"][picks[0]][0]
        for index in range(start + COUNT, start + 8):
            content = trainer.rendered[out["prompt_ids"][index][0]][1]["content"]
            assert f"<past_summary>\nThe user likes tea {written}.\n</past_summary>" in content
            assert content.count("The user likes") == 1


def test_picks_repeat_with_seed_step_and_user_alone() -> None:
    prompts = repeated(list(paired_rows([user(f"user {i}") for i in range(8)], STAGES)))
    replies = ["<think>a</think>b"] * 64

    def picked(seed: int, step: int) -> list[bool]:
        trainer = Words(replies)
        trainer.state.global_step = step
        return list(make_rollout(STAGES, seed)(prompts, trainer)["picked"])

    assert picked(0, 3) == picked(0, 3)
    assert picked(0, 3) != picked(0, 4)
    assert picked(0, 3) != picked(1, 3)


@pytest.mark.parametrize("pick", ["any", "usable"])
def test_a_reply_without_a_summary(pick: Any) -> None:
    """Picked, it starts stage 2 without a past; with "usable" it is not picked while another has one."""
    stages = Grpo(reward="streaming", generations=COUNT, prompt_tokens=2_048, past_tokens=256, pick=pick)
    prompts = repeated(list(paired_rows([user(f"user {i}") for i in range(8)], stages)))
    trainer = Words(["<think>a</think>The user likes tea."] + ["no form"] * 63)
    trainer.replies[::COUNT] = ["<think>a</think>The user likes tea."] * 16
    out = make_rollout(stages, 0)(prompts, trainer)
    firsts = [out["picked"].index(True, start) - start for start in range(0, 64, 8)]
    assert (set(firsts) == {0}) is (pick == "usable")
    for number, first in enumerate(firsts):
        content = trainer.rendered[out["prompt_ids"][8 * number + COUNT][0]][1]["content"]
        assert ("<past_summary>" in content) is (first == 0)


def test_a_batch_that_splits_a_user_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        make_rollout(STAGES, 0)([[]] * 12, Words([]))


class Judge:
    """Prefers what the summary names."""

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        known, *items = messages[1]["content"].split("<item ")
        return [2.0 if ("tea" in known) == ("tea" in item) else 0.0 for item in items]


def reward_of(replies: list[str], stages: Grpo) -> tuple[list[float], dict[str, float]]:
    choice = {"query": "q", "chosen": "tea", "rejected": "coffee"}
    logged: dict[str, float] = {}
    rewards = asyncio.run(
        streaming_reward_function(stages, Judge(), Words(replies))(
            prompts=[],
            completions=[],
            completion_ids=[[index] for index in range(len(replies))],
            target=[choice] * len(replies),
            stage=([1] * COUNT + [2] * COUNT) * (len(replies) // (2 * COUNT)),
            picked=[index % (2 * COUNT) == 1 for index in range(len(replies))],
            log_metric=logged.__setitem__,
        )
    )
    return list(rewards), logged


def test_reward_by_hand() -> None:
    good, bad, none = "<think>a</think>They like tea.", "<think>a</think>They like cola.", "They like tea."
    high = 1 / (1 + 2.718281828459045**-2)
    rewards, logged = reward_of([good, bad, none, good, good, good, bad, none], STAGES)
    second = [high, high, 1 - high, 0.0]
    expected = [high + 0.45, 1 - high + 0.9 * sum(second) / 4, 0.45, high + 0.45, *second]
    assert rewards == pytest.approx(expected)
    assert logged["stage1/format"] == 0.75
    assert logged["stage2/accuracy"] == pytest.approx(2 / 3)


def test_reward_with_the_batch_mean() -> None:
    good, none = "<think>a</think>They like tea.", "They like tea."
    high = 1 / (1 + 2.718281828459045**-2)
    stages = Grpo(reward="streaming", generations=COUNT, unpicked="batch-mean")
    rewards, _ = reward_of([none] * 4 + [good] * 4 + [none] * 8, stages)
    assert rewards[:4] == pytest.approx([0.45 * high, 0.9 * high, 0.45 * high, 0.45 * high])
    assert rewards[8:12] == pytest.approx([0.45 * high, 0.0, 0.45 * high, 0.45 * high])
