"""One user through verl's own worker: from the dataset's row to what the trainer is given."""

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pydantic import ValidationError
from transformers import AutoTokenizer
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla, get_adv_estimator_fn
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.rollout.replica import TokenOutput

from alignx.schemas.interactions import ComparisonInteraction
from services.prompts.build import update_prompt
from tests.unit.training.verl.conftest import CHOSEN, CPU, REJECTED, Judge, composed, reply, rl_row
from training.data.formats import RlRow
from training.rl.rewards import answer_of, couple, group_advantages
from training.verl.letter_choices import letters_at
from training.verl.make_parquet import Limits, verl_row
from training.verl.two_stage import Settings, TwoStage

PAST = re.compile(r"<past_summary>\n(.*?)\n</past_summary>", re.DOTALL)
N = 4


class Policy:
    """A rollout server that says the scripted replies in turn."""

    def __init__(self, tokenizer: Any, script: Iterator[str]) -> None:
        self.tokenizer, self.script = tokenizer, script
        self.prompts: list[str] = []
        self.names: list[str] = []

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]) -> TokenOutput:
        self.prompts.append(self.tokenizer.decode(prompt_ids))
        self.names.append(request_id)
        tokens = [*self.tokenizer(next(self.script)).input_ids, self.tokenizer.eos_token_id]
        versions = {"min_global_steps": 3, "max_global_steps": 3}
        return TokenOutput(token_ids=tokens, log_probs=[-1.0] * len(tokens), num_preempted=0, extra_fields=versions)


@dataclass
class Outcome:
    policy: Policy
    keys: list[str]
    tags: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    """What reached the store that trainer and workers share, row by row."""

    @property
    def scores(self) -> list[float]:
        return [float(row["rm_scores"].sum()) for row in self.rows]

    def details(self, name: str) -> list[float]:
        return [row["extra_fields"]["reward_extra_info"][name] for row in self.rows]


Run = Callable[..., Outcome]


@pytest.fixture
def run(checkpoint: Path, recorder: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one user through verl's worker as its constructor makes it from run.sh's configuration;
    only the store is replaced, which needs Ray."""
    stored: dict[str, Any] = {}

    async def put(keys: list[str], fields: Any, tags: list[dict[str, Any]], partition_id: str) -> None:
        stored.update(keys=keys, tags=tags, rows=[fields[i].to_dict() for i in range(len(keys))])

    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_batch_put", put)
    monkeypatch.setattr(TwoStage, "recent", deque([0.5], maxlen=8))

    def go(replies: list[str], *overrides: str, split: str = "train", row: dict[str, Any] | None = None) -> Outcome:
        variables = {"MODEL": str(checkpoint), "JUDGE_URL": judge.url}
        config = composed(recorder, CPU, *overrides, **variables)
        policy = Policy(AutoTokenizer.from_pretrained(checkpoint), iter(replies))
        Worker = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class  # noqa: N806 - a class
        sample, _ = verl_row(RlRow.model_validate(row or rl_row("u")), 5, split, Limits())  # type: ignore[arg-type]
        sample["raw_prompt"] = sample.pop("prompt")
        trajectory = {"step": 1, "sample_index": 5, "rollout_n": 0, "validate": split != "train"}

        async def work() -> None:
            worker = Worker.__new__(Worker)
            AgentLoopWorker.__init__(worker, config, policy)
            name = worker.rollout_config.agent.default_agent_loop
            names = {"uid": "user", "session_id": 0, "global_steps": 1, "index": 5}
            await worker._run_agent_loop({}, trajectory, agent_name=name, trace=False, **names, **sample)
            await letters_at(judge.url, None, None, 64).close()  # a worker has one event loop, a test several

        asyncio.run(work())
        return Outcome(policy, **stored)

    return go


def test_each_row_keeps_its_own_score_on_its_last_token(run: Run):
    first, second = [70, 60, 80, 90], [50, 90, 60, 80]
    done = run(list(map(reply, first + second)))
    pick = [PAST.search(done.policy.prompts[N]).group(1) == answer_of(reply(p)) for p in first].index(True)
    shares = [[p / 100 for p in stage] for stage in (first, second)]
    coupled = couple([shares[0]], [shares[1]], [pick], weight=0.9, unpicked=0.45)[0]
    expected = group_advantages(coupled) + group_advantages(shares[1])
    assert done.keys == [f"user_0_{i}" for i in range(2 * N)]
    assert done.scores == pytest.approx(expected, abs=1e-5)
    assert len(set(done.scores)) > N, "verl copies the last score to all rows"
    for row in done.rows:
        assert not row["rm_scores"][:-1].any()
        assert len(row["rm_scores"]) == len(row["responses"]) == int(row["response_mask"].sum())
    assert done.details("judged") == pytest.approx(shares[0] + shares[1])
    assert done.details("coupled") == pytest.approx(coupled + shares[1])
    assert done.details("stage") == [1.0] * N + [2.0] * N


def test_the_advantages_of_a_stage_sum_to_zero(run: Run):
    scores = run(list(map(reply, [70, 60, 80, 90, 50, 90, 60, 85]))).scores
    assert sum(scores[:N]) == pytest.approx(0, abs=1e-5)
    assert sum(scores[N:]) == pytest.approx(0, abs=1e-5)


def test_the_trainer_gets_exactly_these_advantages(run: Run):
    done = run(list(map(reply, [70, 60, 80, 90, 50, 90, 60, 85])))
    length = max(len(row["responses"]) for row in done.rows)
    mask, rewards = torch.zeros(2 * N, length), torch.zeros(2 * N, length)
    for place, row in enumerate(done.rows):
        mask[place, : len(row["responses"])] = 1
        rewards[place, : len(row["responses"])] = row["rm_scores"]
    order = random.Random(0).sample(range(2 * N), 2 * N)  # the trainer balances rows over its ranks
    data = DataProto.from_dict(
        tensors={"token_level_rewards": rewards[order], "response_mask": mask[order]},
        non_tensors={"uid": np.array(["user"] * 2 * N, dtype=object)},
    )
    keys = [done.keys[place] for place in order]
    data = compute_advantage_for_multi_trajectories(data, keys, adv_estimator="own_score", config=OmegaConf.create({}))
    expected = torch.tensor([done.scores[place] for place in order])[:, None] * mask[order]
    assert torch.equal(data.batch["advantages"], expected)


def test_the_update_prefers_the_better_reply(checkpoint: Path, recorder: Path, judge: Judge):
    """verl's own clipped loss with the advantages of `own_score`: the gradient raises the log-probability
    of the row above its group's mean and lowers that of the row below; dual clipping is on."""
    config = omega_conf_to_dataclass(
        composed(recorder, CPU, MODEL=str(checkpoint), JUDGE_URL=judge.url).actor_rollout_ref.actor
    )
    rewards = torch.tensor([[0.0, 0.0, 1.5], [0.0, -1.5, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    advantages, returns = get_adv_estimator_fn("own_score")(rewards, mask, config=None, index=None)
    assert torch.equal(advantages, returns)
    old = torch.full((2, 3), -1.0)
    now = old.clone().requires_grad_()
    loss, _ = compute_policy_loss_vanilla(old, now, advantages, mask, "token-mean", config)
    loss.backward()
    assert (now.grad[0] < 0).all()
    assert (now.grad[1, :2] > 0).all()
    assert now.grad[1, 2] == 0
    far = (old + 5.0).requires_grad_()  # far more likely than when it was sampled
    compute_policy_loss_vanilla(old, far, advantages, mask, "token-mean", config)[0].backward()
    assert not far.grad.any(), "ratio above 1 + .2 of a good row, above 3 of a bad one: clipped"


def test_stage_2_reads_the_picked_summary_in_the_served_prompt(run: Run):
    row = rl_row("u", events=8, middle=3)
    done = run(list(map(reply, [71, 62, 83, 94, 50, 50, 50, 50])), row=row)
    pasts = {PAST.search(prompt).group(1) for prompt in done.policy.prompts[N:]}
    assert len(pasts) == 1, "all replies of stage 2 follow the same summary"
    [past] = pasts
    later = [ComparisonInteraction(**triple) for triple in row["history"][3:-1]]
    expected = update_prompt(past, later, past_tokens=1024).messages
    assert all(message["content"] in done.policy.prompts[-1] for message in expected)
    assert done.policy.prompts[:N] == [done.policy.prompts[0]] * N
    assert "past_summary>" not in done.policy.prompts[0]
    assert len(set(done.policy.names[:N])) == len(set(done.policy.names[N:])) == 1


def test_each_stage_is_judged_by_its_own_next_choice(run: Run, judge: Judge):
    run(list(map(reply, [70] * 8)), row=rl_row("u", events=9, middle=4))
    queries = [re.search(r"<query>(.*?)</query>", prompt[1]["content"]).group(1) for prompt in judge.prompts]
    assert queries == ["Drink 4?"] * 2 * N + ["Drink 8?"] * 2 * N
    shown = judge.prompts[0][1]["content"]
    assert CHOSEN in shown
    assert REJECTED in shown


@pytest.mark.parametrize("broken", ["The user likes tea 90 times of 100.", "<think>Only thought.", "<think>a</think>"])
def test_a_reply_without_the_form_gets_nothing_and_is_not_judged(run: Run, judge: Judge, broken: str):
    done = run([reply(60), broken, reply(70), reply(80), broken, broken, broken, broken])
    assert done.details("judged")[1] == 0.0
    assert done.details("format")[:N] == [1.0, 0.0, 1.0, 1.0]
    assert done.scores[N:] == [0.0] * N, "a group without differences moves nothing"
    assert len(judge.prompts) == 2 * 3


def test_a_picked_reply_without_the_form_leaves_stage_2_without_a_past(run: Run):
    done = run(["No form at all."] * 4 + list(map(reply, [60, 70, 80, 90])))
    assert not any(PAST.search(prompt) for prompt in done.policy.prompts)
    assert all(score != 0 for score in done.scores[:N]), "the picked row is still paid for stage 2"


def test_what_the_others_gain_may_follow_the_mean_of_stage_2(run: Run):
    replies = list(map(reply, [60, 60, 60, 60, 90, 90, 90, 90]))
    published = run(replies).details("coupled")[:N]
    assert sorted(published) == pytest.approx([0.6 + 0.45] * 3 + [0.6 + 0.81])
    assert sorted(run(replies, "two_stage.unpicked=running-mean").details("coupled")[:N])[0] == pytest.approx(1.05)
    later = run(replies, "two_stage.unpicked=running-mean").details("coupled")[:N]
    assert sorted(later)[0] == pytest.approx(0.6 + 0.9 * (0.5 + 0.9) / 2)


def test_advantages_without_the_standard_deviation(run: Run):
    scores = run(list(map(reply, [50] * 4 + [60, 70, 80, 90])), "+two_stage.divide_by_std=false").scores
    assert scores[N:] == pytest.approx([-0.15, -0.05, 0.05, 0.15], abs=1e-6)


def test_validation_scores_one_reply_a_stage_as_it_is(run: Run):
    done = run([reply(70), reply(85)], split="val")
    assert done.scores == pytest.approx([0.7, 0.85])
    assert PAST.search(done.policy.prompts[1]).group(1) == answer_of(reply(70))
    assert "reward" not in done.rows[-1]["extra_fields"]["reward_extra_info"], "verl would add it twice"


def test_the_versions_of_the_weights_reach_the_trainer(run: Run):
    assert {tag["min_global_steps"] for tag in run(list(map(reply, [70] * 8))).tags} == {3}


def test_a_long_second_part_loses_its_oldest_triples(run: Run):
    row = rl_row("u", events=70, middle=10, words=60)
    done = run(list(map(reply, [70] * 8)), "data.max_prompt_length=3000", row=row)
    prompt = done.policy.prompts[-1]
    assert len(done.rows[-1]["prompts"]) <= 3000
    assert "You keep a written summary" in prompt, "the left is not cut"
    assert "Drink 68?" in prompt
    assert "Drink 11?" not in prompt


def test_a_long_reply_is_cut_with_its_log_probabilities(run: Run):
    done = run([reply(70) + " More." * 200] * 8, "data.max_response_length=64")
    assert {len(row["responses"]) for row in done.rows} == {64}
    assert {len(row["rollout_log_probs"]) for row in done.rows} == {64}


def test_settings_name_the_field():
    with pytest.raises(ValidationError, match="judge_url"):
        Settings.model_validate({"judge_url": "judge:8000"})
    with pytest.raises(ValidationError, match="unpicket"):
        Settings.model_validate({"judge_url": "http://judge:8000/v1", "unpicket": 0.5})
