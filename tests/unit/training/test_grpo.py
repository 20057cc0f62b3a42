"""Reinforcement learning with each reward on a random model of one layer, the judge in process."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.training.nano import write_nano
from training import grpo as stage
from training.checkpoint import MARKER, run_dir
from training.config import load
from training.exceptions import ConfigError, DatasetError
from training.grpo import GrpoConfig, grpo
from training.judges import RemoteJudge
from training.rl import policy
from training.rl.policy import Trainer
from training.rl.rewards import group_advantages

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and transformers about their own futures

REWARDS = ("streaming", "jud", "gen")
CONFIG = """
stage = "grpo"

[model]
path = "{model}"

[data]
train = ["{data}"]

[grpo]
reward = "{reward}"
generations = 4
prompt_tokens = 1200
new_tokens = 6
past_tokens = 100
smooth = true

[judge]
precision = "fp32"

[optim]
learning_rate = 1e-2
schedule = "constant"
max_steps = 4
batch = 16
micro_batch = 8

[run]
output = "{output}"
seed = 3
save_every = 2
log_every = 1
precision = "fp32"
tensorboard = false
final_weights = "float32"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano(tmp_path_factory.mktemp("model"), spread=0.3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")

    def choices(user: int, count: int) -> list[dict[str, str]]:
        return [{"query": f"q{user}{i}", "chosen": f"tea {i * 'x'}", "rejected": f"coffee {i}"} for i in range(count)]

    streamed = [{"uid": str(user), "history": choices(user, 6), "mid_position": 3} for user in range(12)]
    single = [
        {"task": f"t{user}", "chosen": one, "rejected": other, "history": choices(user, 1 + user % 3)}
        for user in range(12)
        for one, other in (("tea", "coffee"), ("coffee", "tea"))  # a judge of fixed taste is right once
    ]
    files = {"streaming": (folder / "rl.jsonl", streamed), "jud": (folder / "alignxplore.jsonl", single)}
    for path, rows in files.values():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"streaming": files["streaming"][0], "jud": files["jud"][0], "gen": files["jud"][0]}


@pytest.fixture
def configured(tmp_path: Path, model: Path, data: dict[str, Path]) -> Callable[..., GrpoConfig]:
    def make(reward: str, *overrides: str, name: str = "out", rows: str = "") -> GrpoConfig:
        path = tmp_path / "grpo.toml"
        text = CONFIG.format(model=model, data=data[rows or reward], reward=reward, output=tmp_path / name)
        path.write_text(text, encoding="utf-8")
        return load(path, GrpoConfig, overrides)

    return make


@pytest.fixture(autouse=True)
def formed(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    """A random model never writes the form of an answer; so three of four replies are given it, and the words
    without which they are no summary."""
    tokenizer, write = AutoTokenizer.from_pretrained(model), policy.generate_replies
    form = tokenizer.encode("<think>a</think>The user likes tea and prefers short answers. The user likes")

    def writes(*given: Any) -> list[list[int]]:
        end = given[3].end_tokens[0]
        return [
            [*form, *(token for token in reply if token != end), end] if index % 4 else reply
            for index, reply in enumerate(write(*given))
        ]

    monkeypatch.setattr(policy, "generate_replies", writes)


@pytest.mark.parametrize("reward", REWARDS)
def test_each_reward_trains(reward: str, configured: Callable[..., GrpoConfig], model: Path) -> None:
    config = configured(reward, "optim.max_steps=2")
    found = grpo(config)
    assert found == json.loads((run_dir(config.run.output) / "metrics.json").read_text())
    assert [entry["step"] for entry in found["history"]] == [1, 2]
    assert all(math.isfinite(entry["loss"]) and 0 < entry["reward"] < 2 for entry in found["history"])
    assert found["tokens"] > 32 * 100
    assert found["rows"] == {"streaming": 12, "jud": 24, "gen": 24}[reward]
    shares = [entry["stage1/format" if reward == "streaming" else "judge/format"] for entry in found["history"]]
    assert all(0 < share <= 0.75 for share in shares)
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (model, config.run.output))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert "grpo.generations" in (config.run.output / "README.md").read_text()


class Unclosable(RemoteJudge):
    """Always takes the first item, and cannot be closed."""

    def __init__(self) -> None:
        """Opens nothing."""

    async def choose(self, messages: object, letters: Sequence[str], *, tenant: str, priority: int = 0) -> list[float]:
        return [0.0, *(-9.0 for _ in letters[1:])]

    async def aclose(self) -> None:
        raise OSError("the connection is gone")


def test_a_judge_that_cannot_be_closed_leaves_the_weights(
    configured: Callable[..., GrpoConfig], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage, "open_judge", lambda *_: Unclosable())
    config = configured("jud", "optim.max_steps=1")
    found = grpo(config)
    assert found == json.loads((run_dir(config.run.output) / "metrics.json").read_text())
    AutoModelForCausalLM.from_pretrained(config.run.output)
    told = [record.getMessage() for record in caplog.records if record.name == "alignx.training"]
    cause = "OSError: the connection is gone"
    assert told == [f"closing the judge failed ({cause}); the weights are in {config.run.output}"]


@pytest.mark.parametrize("updates", [1, 2])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    updates: int, configured: Callable[..., GrpoConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data, picks, replies, rewards and loss are those of an undisturbed run, from the middle
    of one epoch into the next."""
    overrides = (f"grpo.updates={updates}", "optim.max_steps=4", "data.limit=6")
    whole = grpo(configured("streaming", *overrides, name="whole"))
    config = configured("streaming", *overrides, name="broken")
    step = Trainer.training_step

    def breaks(self: Any, *given: Any) -> Any:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "training_step", breaks)
        with pytest.raises(KeyboardInterrupt):
            grpo(config)
    assert (run_dir(config.run.output) / "checkpoint-2" / MARKER).exists()
    resumed = grpo(config)
    told = [
        [(entry["step"], entry.get("reward"), entry["loss"], entry["grad_norm"]) for entry in found["history"]]
        for found in (whole, resumed)
    ]
    assert told[0] == told[1]
    assert len({entry[1] for entry in told[0]}) > 2, "rewards that never differ would show nothing"


@pytest.mark.parametrize("advantage", ["group-std", "unscaled-as-published"])
def test_advantages_are_of_each_group(
    advantage: str, configured: Callable[..., GrpoConfig], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the prompts of stage 2 show the picked summary, the same in each group."""
    seen: dict[str, Any] = {}
    score, calculate = Trainer._generate_and_score_completions, Trainer._calculate_rewards

    def scored(self: Any, rows: Any) -> Any:
        seen["made"] = score(self, rows)
        return seen["made"]

    def rewarded(self: Any, *given: Any) -> Any:
        seen["rewards"] = calculate(self, *given)
        return seen["rewards"]

    monkeypatch.setattr(Trainer, "_generate_and_score_completions", scored)
    monkeypatch.setattr(Trainer, "_calculate_rewards", rewarded)
    grpo(configured("streaming", f"grpo.advantage={advantage}", "grpo.pick=usable", "optim.max_steps=1"))
    rewards = seen["rewards"][:, 0].view(-1, 4).tolist()
    wanted = [group_advantages(group, divide_by_std=advantage == "group-std") for group in rewards]
    assert seen["made"]["advantages"].view(-1, 4).tolist() == [pytest.approx(row, rel=0.02, abs=1e-3) for row in wanted]
    prompts = AutoTokenizer.from_pretrained(model).batch_decode(seen["made"]["prompt_ids"])
    for start in range(0, len(prompts), 8):
        assert "<past_summary>" not in prompts[start]
        assert prompts[start + 4 : start + 8] == [prompts[start + 4]] * 4
        assert "<past_summary>\nThe user likes" in prompts[start + 4]


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_each_reply_is_trained_on_once_where_a_step_holds_no_whole_number_of_groups(updates: int) -> None:
    lengths = torch.tensor([9, 7, 8, 5, 6]).repeat_interleave(2)
    masks = {"prompt_mask": torch.ones(10, 3), "completion_mask": torch.arange(9) < lengths[:, None]}
    order = policy._order_by_length(masks, 2, updates)
    assert sorted(order.tolist()) == list(range(10))
    assert order.view(-1, 2)[:, 0].tolist() == {1: [6, 8, 2, 4, 0], 2: [2, 4, 0, 6, 8], 3: [2, 0, 6, 4, 8]}[updates]


def test_rows_of_another_kind_are_named(configured: Callable[..., GrpoConfig]) -> None:
    with pytest.raises(DatasetError, match="AlignXplore"):
        grpo(configured("streaming", rows="jud"))
    with pytest.raises(DatasetError, match=r"AlignXplore\+ RL"):
        grpo(configured("jud", rows="streaming"))


def test_too_few_users_for_a_rollout(configured: Callable[..., GrpoConfig]) -> None:
    with pytest.raises(DatasetError, match="12 users are fewer than the 16 of one rollout"):
        grpo(configured("streaming", "optim.batch=128"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("optim.batch=12", "optim.micro_batch=4"),
            "optim.batch 12 .* no multiple of 8.*2 stages times grpo.generations 4",
        ),
        (("grpo.generations=1",), "grpo.generations"),
        (("grpo.updates=4",), "run.save_every 2 is no multiple of grpo.updates 4"),
        (("grpo.vllm=server",), "vllm_url"),
        (("grpo.prompts=alignxplore",), "grpo.prompts: alignxplore is for raw completion"),
        (("grpo.reward=best",), "grpo.reward.*'streaming', 'jud' or 'gen'"),
        (("judge.path=x", "judge.engine.url=http://127.0.0.1:1/v1"), "judge: path and engine exclude each other"),
        (("grpo.reward=gen", "judge.engine.url=http://127.0.0.1:1/v1"), "judge.engine gives no likelihoods"),
    ],
)
def test_a_wrong_configuration_names_the_field(
    overrides: tuple[str, ...], message: str, configured: Callable[..., GrpoConfig]
) -> None:
    with pytest.raises(ConfigError, match=message):
        configured("streaming", *overrides)


def test_a_user_split_over_devices_names_the_field(
    configured: Callable[..., GrpoConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured("streaming")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"optim\.batch 16 times grpo\.updates 1 is no multiple of 32"):
        config.users()
