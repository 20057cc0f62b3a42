#!/usr/bin/env bash
# Two-stage streaming GRPO of AlignXplore+ on verl, with the published hyper-parameters.
#
#     JUDGE_URL=http://judge:8000/v1 MODEL=checkpoints/sft DATA=data/rl training/verl/run.sh
#
# What may differ between machines is an environment variable; anything else of verl's configuration
# can be set by arguments, which come last and win: training/verl/run.sh trainer.save_freq=2
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)

PYTHON=${PYTHON:-python3}
MODEL=${MODEL:?is the folder of the SFT checkpoint, trained from Qwen3-8B}
JUDGE_URL=${JUDGE_URL:?is the OpenAI-compatible URL of the judge, such as http://judge:8000/v1}
JUDGE_MODEL=${JUDGE_MODEL:-null}         # null: the first model that the judge lists
JUDGE_KEY_ENV=${JUDGE_KEY_ENV:-null}     # name of the variable that holds the judge's key, on every node
DATA=${DATA:-data/rl}                    # folder of train.parquet and val.parquet
OUT=${OUT:-checkpoints/alignxplore-plus-rl}
NODES=${NODES:-1}
GPUS=${GPUS:-8}                          # of each node
TENSOR_PARALLEL=${TENSOR_PARALLEL:-1}    # GPUs of one rollout server
USERS=${USERS:-1024}                     # of one step
N=${N:-4}                                # replies a stage
ROWS_PER_UPDATE=${ROWS_PER_UPDATE:-2048} # USERS × N × 2 rows make a step
UNPICKED=${UNPICKED:-0.45}               # or running-mean
LEARNING_RATE=${LEARNING_RATE:-1e-6}
EPOCHS=${EPOCHS:-1}
PROMPT_TOKENS=${PROMPT_TOKENS:-8192}
NEW_TOKENS=${NEW_TOKENS:-4096}
MEMORY_SHARE=${MEMORY_SHARE:-0.6}        # of a GPU, for the rollout server while it serves
SAVE_EVERY=${SAVE_EVERY:-5}
TEST_EVERY=${TEST_EVERY:-1}
SEED=${SEED:-0}

# A path may be read on another node, where the current folder is another.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
[[ -d $MODEL ]] && MODEL=$(absolute "$MODEL")
DATA=$(absolute "$DATA")
OUT=$(absolute "$OUT")

settings=(
    # the plugin
    actor_rollout_ref.model.external_lib=training.verl.two_stage
    actor_rollout_ref.rollout.agent.default_agent_loop=two_stage
    algorithm.adv_estimator=own_score
    trainer.use_v1=true
    trainer.v1.trainer_mode=sync
    "+two_stage.judge_url=$JUDGE_URL"
    "+two_stage.judge_model=$JUDGE_MODEL"
    "+two_stage.judge_key_env=$JUDGE_KEY_ENV"
    "+two_stage.n=$N"
    "+two_stage.weight=0.9"
    "+two_stage.unpicked=$UNPICKED"
    "+two_stage.seed=$SEED"
    "+ray_kwargs.ray_init.runtime_env.env_vars.PYTHONPATH='$root'"

    # data
    "data.train_files=['$DATA/train.parquet']"
    "data.val_files=['$DATA/val.parquet']"
    data.train_batch_size="$USERS"
    data.max_prompt_length="$PROMPT_TOKENS"
    data.max_response_length="$NEW_TOKENS"
    data.filter_overlong_prompts=true
    data.truncation=error
    data.seed="$SEED"

    # rollout: one loop a user, which samples for itself
    actor_rollout_ref.rollout.name=vllm
    actor_rollout_ref.rollout.n=1
    actor_rollout_ref.rollout.temperature=1.0
    actor_rollout_ref.rollout.top_p=1.0
    actor_rollout_ref.rollout.top_k=-1
    actor_rollout_ref.rollout.max_model_len=$((PROMPT_TOKENS + NEW_TOKENS))
    actor_rollout_ref.rollout.tensor_model_parallel_size="$TENSOR_PARALLEL"
    actor_rollout_ref.rollout.gpu_memory_utilization="$MEMORY_SHARE"
    actor_rollout_ref.rollout.seed="$SEED"

    # update
    "actor_rollout_ref.model.path='$MODEL'"
    actor_rollout_ref.model.use_remove_padding=true
    actor_rollout_ref.model.enable_gradient_checkpointing=true
    actor_rollout_ref.actor.optim.lr="$LEARNING_RATE"
    actor_rollout_ref.actor.optim.lr_scheduler_type=constant
    actor_rollout_ref.actor.optim.lr_warmup_steps=0
    actor_rollout_ref.actor.optim.weight_decay=0.01
    # Rows, not users: verl multiplies this by rollout.n, which is 1. That more rows than users are
    # wanted is refused unless micro-batches are counted in tokens, which is faster anyhow.
    actor_rollout_ref.actor.ppo_mini_batch_size="$ROWS_PER_UPDATE"
    actor_rollout_ref.actor.use_dynamic_bsz=true
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=$(((PROMPT_TOKENS + NEW_TOKENS) * 4 / 3))
    actor_rollout_ref.actor.ppo_epochs=1
    actor_rollout_ref.actor.clip_ratio=0.2
    actor_rollout_ref.actor.clip_ratio_low=0.2
    actor_rollout_ref.actor.clip_ratio_high=0.2
    actor_rollout_ref.actor.clip_ratio_c=3.0
    actor_rollout_ref.actor.use_kl_loss=false
    actor_rollout_ref.actor.entropy_coeff=0
    algorithm.use_kl_in_reward=false
    critic.enable=false

    # run
    reward.num_workers=1 # the loop brings its scores along
    trainer.nnodes="$NODES"
    trainer.n_gpus_per_node="$GPUS"
    trainer.total_epochs="$EPOCHS"
    trainer.save_freq="$SAVE_EVERY"
    trainer.test_freq="$TEST_EVERY"
    trainer.project_name=alignx
    trainer.experiment_name=two-stage
    "trainer.default_local_dir='$OUT'"
    "trainer.logger=[console,tensorboard]"
)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
export TENSORBOARD_DIR=${TENSORBOARD_DIR:-$OUT/tensorboard}
exec "$PYTHON" -m verl.trainer.main_ppo "${settings[@]}" "$@"
