"""A step's rollout on a real local Ray: verl's manager, workers, load balancer, store and replay buffer,
up to the trainer's own computation of advantages. Only the GPU parts are missing: the policy's server
is faked, and nothing is updated."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import ray
import torch
import transfer_queue as tq
from tensordict import NonTensorData, NonTensorStack, TensorDict
from transformers import AutoTokenizer
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.router import GlobalRequestLoadBalancer

from tests.unit.training.verl.conftest import CPU, ROOT, Judge, composed, reply, rl_row
from training.data.formats import RlRow
from training.verl.make_parquet import Limits, verl_row

USERS, N = 3, 4
SAID = [reply(percent) for percent in range(50, 95, 7)]
# Ray's workers do not import tests.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@ray.remote(num_cpus=0)
class Server:
    """A rollout server: tokens in, tokens out, each reply as good as its turn says."""

    def __init__(self, checkpoint: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.turn = 0

    async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
        self.turn += 1
        tokens = [*self.tokenizer(SAID[self.turn % len(SAID)]).input_ids, self.tokenizer.eos_token_id]
        return TokenOutput(
            token_ids=tokens, log_probs=[-1.0] * len(tokens), num_preempted=0, extra_fields={"global_steps": 0}
        )


@pytest.fixture
def config(checkpoint: Path, recorder: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    small = (
        CPU,
        "actor_rollout_ref.rollout.agent.num_workers=2",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        "transfer_queue.enable=true",
    )
    config = composed(recorder, *small, MODEL=str(checkpoint), JUDGE_URL=judge.url)
    environment = dict(config.ray_kwargs.ray_init.runtime_env.env_vars) | {"TRANSFER_QUEUE_ENABLE": "1"}
    assert environment["PYTHONPATH"] == str(ROOT)
    monkeypatch.setenv("TRANSFER_QUEUE_ENABLE", "1")
    monkeypatch.setenv("RAY_AUTH_TOKEN", uuid4().hex)  # else Ray leaves one in the home folder
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment})
    tq.init(config.transfer_queue)
    yield config
    tq.close()
    ray.shutdown()


def prompts(uids: list[str], split: str) -> TensorDict:
    """A batch as the trainer makes it from the dataset."""
    samples = [
        verl_row(RlRow.model_validate(rl_row(uid)), place, split, Limits())[0]  # type: ignore[arg-type]
        for place, uid in enumerate(uids)
    ]
    columns = {name: NonTensorStack(*(sample[name] for sample in samples)) for name in samples[0]}
    columns["raw_prompt"] = columns.pop("prompt")
    columns |= {"uid": NonTensorStack(*uids), "index": NonTensorStack(*range(len(uids)))}
    batch = TensorDict({"dummy_tensor": torch.zeros(len(uids), 1)}, batch_size=len(uids))
    batch.update(columns)
    return batch


def rolled_out(config: Any, manager: Any, split: str) -> Any:
    """Hands one batch to the workers and samples the rows it became, as the trainer does."""
    uids = [uuid4().hex for _ in range(USERS)]
    partition = "train" if split == "train" else "val"
    batch = prompts(uids, split)
    batch["global_steps"] = NonTensorData(1)
    batch["validate"] = NonTensorData(split != "train")
    tags = [{"is_prompt": True, "status": "pending", "global_steps": 1} for _ in uids]
    tq.kv_batch_put(keys=uids, partition_id=partition, tags=tags)
    manager.generate_sequences(batch)
    sampler = config.trainer.v1.sampler
    buffer = ReplayBuffer(
        trainer_mode="sync",
        trainer_config=config.trainer.v1.sync,
        max_off_policy_threshold=sampler.max_off_policy_threshold,
        max_off_policy_strategy=sampler.max_off_policy_strategy,
        sampler_kwargs=sampler.sampler_kwargs,
        poll_interval=0.2,
    )
    rows, _ = buffer.sample(global_steps=1, partition_id=partition, batch_size=USERS)
    return rows


def put_old_log_probs(rows: Any) -> None:
    """As the actor would that has the weights of the rollout."""
    data = tq.kv_batch_get(keys=rows.keys, partition_id="train", select_fields=["rollout_log_probs"])
    data["old_log_probs"] = data.pop("rollout_log_probs")
    tq.kv_batch_put(keys=rows.keys, partition_id="train", fields=data)


def test_a_steps_rows_reach_the_trainer_with_their_advantages(config: Any, checkpoint: Path):
    server = Server.remote(str(checkpoint))
    balancer = ray.remote(GlobalRequestLoadBalancer).options(num_cpus=0).remote(servers={"one": server})
    manager = agent_loop_tq.AgentLoopManagerTQ.create(config=config, llm_client=LLMServerClient(config, balancer))

    rows = rolled_out(config, manager, "train")
    assert len(rows.keys) == USERS * N * 2
    assert {tag["status"] for tag in rows.tags} == {"success"}
    before = tq.kv_batch_get(keys=rows.keys, partition_id="train", select_fields=["rm_scores", "extra_fields"])
    scores = [float(score.sum()) for score in before["rm_scores"]]
    stages = [extra["reward_extra_info"]["stage"] for extra in before.pop("extra_fields").tolist()]
    put_old_log_probs(rows)
    trainer = SimpleNamespace(config=config)
    PPOTrainer._init_tokenizer(trainer)  # loads the model's configuration, and with it the plugin
    PPOTrainer._compute_advantage(trainer, rows, {})
    after = tq.kv_batch_get(keys=rows.keys, partition_id="train", select_fields=["advantages"])["advantages"]
    sums: dict[tuple[str, float], float] = {}
    for key, stage, score, advantages in zip(rows.keys, stages, scores, after, strict=True):
        assert torch.allclose(advantages, torch.full_like(advantages, score))
        sums[key.split("_")[0], stage] = sums.get((key.split("_")[0], stage), 0.0) + score
    assert len(sums) == USERS * 2
    assert all(abs(total) < 1e-5 for total in sums.values())
    assert len({round(score, 4) for score in scores}) > USERS, "the scores are not one per user"

    rows = rolled_out(config, manager, "val")
    assert len(rows.keys) == USERS * 2
    fields = ["uid", "rm_scores", "num_turns", "reward_model", "data_source", "extra_fields"]
    data = tq.kv_batch_get(keys=rows.keys, partition_id="val", select_fields=fields)
    assert all(0.5 <= float(score.sum()) < 1 for score in data["rm_scores"])
