"""What run.sh asks of verl: every key known to verl's own configuration, and the published values."""

from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from tests.unit.training.verl.conftest import composed, run_sh
from training.verl.two_stage import Settings

NEEDED = {"MODEL": "Qwen/Qwen3-8B", "JUDGE_URL": "http://judge:8000/v1"}


def test_verl_accepts_the_configuration(recorder: Path):
    config = composed(recorder, **NEEDED)
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert not need_critic(config)
    assert not need_reference_policy(config)


def test_the_published_hyper_parameters(recorder: Path):
    config = composed(recorder, **NEEDED)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    settings = Settings.model_validate(dict(config.two_stage))
    assert config.data.train_batch_size * settings.n * 2 == 4 * 2048
    assert actor.ppo_mini_batch_size * rollout.n == 2048
    assert (actor.optim.lr, actor.optim.lr_scheduler_type, actor.optim.weight_decay) == (1e-6, "constant", 0.01)
    assert (actor.clip_ratio, actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c) == (0.2, 0.2, 0.2, 3.0)
    assert not actor.use_kl_loss
    assert not config.algorithm.use_kl_in_reward
    assert (rollout.temperature, rollout.prompt_length, rollout.response_length) == (1.0, 8192, 4096)
    assert (settings.n, settings.weight, settings.unpicked) == (4, 0.9, 0.45)
    assert config.trainer.total_epochs == 1


def test_the_variables_reach_verl(recorder: Path):
    config = composed(recorder, **NEEDED, UNPICKED="running-mean", USERS="16", NODES="4", JUDGE_KEY_ENV="KEY", N="8")
    settings = Settings.model_validate(dict(config.two_stage))
    assert (settings.unpicked, settings.n, settings.judge_key_env) == ("running-mean", 8, "KEY")
    assert (config.data.train_batch_size, config.trainer.nnodes) == (16, 4)


def test_arguments_win_over_the_variables(recorder: Path):
    assert composed(recorder, "trainer.save_freq=3", **NEEDED, SAVE_EVERY="9").trainer.save_freq == 3


def test_an_unknown_key_is_refused(recorder: Path):
    with pytest.raises(ConfigCompositionException, match="save_frequency"):
        composed(recorder, "trainer.save_frequency=3", **NEEDED)


@pytest.mark.parametrize("missing", sorted(NEEDED))
def test_what_has_no_default_is_asked_for(recorder: Path, missing: str):
    done = run_sh(recorder, **{name: value for name, value in NEEDED.items() if name != missing})
    assert done.returncode != 0
    assert missing in done.stderr
