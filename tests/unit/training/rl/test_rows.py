"""The order in which TRL reads the rows of a rollout, and the rows of AlignXplore's two rewards."""

import pytest
from trl.trainer.utils import RepeatSampler

from alignx.schemas.interactions import ComparisonInteraction
from services.prompts.build import estimate_tokens
from services.prompts.profiles import load_profile
from training.data.formats import AlignXploreRow
from training.rl.rows import RolloutSampler, single_rows


def order(rows: int, *, epoch: int = 0, seed: int = 0, reads: int = 2) -> list[int]:
    sampler = RolloutSampler(rows, stages=2, users=3, generations=4, reads=reads, seed=seed)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def test_the_form_of_the_order_is_that_of_trl() -> None:
    """TRL with its rows put into our order gives our order."""
    ours = order(14)
    firsts = list(dict.fromkeys(ours))
    theirs = RepeatSampler(firsts, mini_repeat_count=4, batch_size=6, repeat_count=2, shuffle=False)
    assert ours == [firsts[index] for index in theirs]
    assert len(firsts) == 12, "14 rows are 7 users, of whom one fills no rollout"


def test_the_two_rows_of_a_user_stay_together() -> None:
    once = order(40, reads=1)[::4]
    assert all(second == first + 1 and first % 2 == 0 for first, second in zip(once[::2], once[1::2], strict=True))


def test_the_order_depends_on_seed_and_epoch() -> None:
    assert order(40) == order(40)
    assert order(40) != order(40, epoch=1)
    assert order(40) != order(40, seed=1)


@pytest.mark.parametrize(("name", "delimiter"), [("own", "<"), ("alignxplore-plus", "\n")])
def test_a_single_row_is_the_prompt_of_serving_without_the_oldest_choices(name: str, delimiter: str) -> None:
    prompts = load_profile(name)
    history = [{"query": f"q{index}", "chosen": "tea " * 20, "rejected": "coffee"} for index in range(40)]
    row = AlignXploreRow.model_validate({"task": "t", "chosen": "tea", "rejected": "coffee", "history": history})
    (whole,) = single_rows([row], 20_000, prompts)
    events = [ComparisonInteraction(**choice) for choice in history]
    assert whole["prompt"] == prompts.update_prompt(None, events, past_tokens=1, whole_history=True).messages
    assert whole["target"] == {"query": "t", "chosen": "tea", "rejected": "coffee"}
    (cut,) = single_rows([row], 1_200, prompts)
    content = cut["prompt"][1]["content"]
    assert f"q39{delimiter}" in content
    assert f"q0{delimiter}" not in content
    assert cut["prompt"][0] == whole["prompt"][0]
    assert sum(estimate_tokens(turn["content"]) for turn in cut["prompt"]) <= 1_200
