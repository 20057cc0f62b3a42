"""Private methods and attributes of TRL and transformers that training uses or overrides.

No release note announces a change of these. A test that fails after an upgrade names what to read again in
the library, and the link says why there is no public way. accelerate is used by its public names alone, and so is
deepspeed but for the list of its operators (test_many.py).
"""

import inspect
import re
from typing import Any

import pytest
from transformers import Trainer
from transformers.cache_utils import Cache, DynamicLayer
from trl import DPOTrainer, GRPOTrainer, SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head, get_peak_flops

from training import dpo, sft
from training.rl import policy
from training.trainer import StageTrainer

SAMPLER = "https://github.com/huggingface/transformers/issues/8952"  # no argument for the order of the rows
ATOMIC = "https://github.com/huggingface/transformers/issues/35782"  # an interrupted save is resumed from
CARD = "https://github.com/huggingface/transformers/pull/27754"  # a card is written with every checkpoint
TOKENIZED = "https://github.com/oumi-ai/oumi/pull/1922"  # DPO has no option for tokenized rows
REFERENCE = "https://github.com/huggingface/trl/issues/3985"  # DPO keeps no reference log-probabilities
GENERATE = "https://github.com/huggingface/trl/issues/5119"  # a rollout cannot ask the trainer to generate
SPLIT = "https://github.com/huggingface/trl/issues/3017"  # how a rollout is cut into micro-batches is fixed
PREFIX = "https://arxiv.org/abs/2506.05433"  # the replies of a group share no computation of their prompt
FUSED = "https://github.com/huggingface/trl/pull/2683"  # log-probabilities without the logits of the prompt
PEAK = "https://github.com/huggingface/trl/pull/7197"  # a table of cards, in TRL's utilities alone
CACHE = "https://github.com/huggingface/transformers/pull/30536"  # a cache copies itself at every token

METHODS: list[tuple[Any, str, str]] = [
    (SFTTrainer._get_train_sampler, "self train_dataset", SAMPLER),
    (DPOTrainer._get_train_sampler, "self train_dataset", SAMPLER),
    (GRPOTrainer._get_train_sampler, "self dataset", SAMPLER),
    (Trainer._get_output_dir, "self trial", ATOMIC),
    (Trainer._save_checkpoint, "self model trial", ATOMIC),
    (SFTTrainer._save_checkpoint, "self model trial", ATOMIC),
    (DPOTrainer._save_checkpoint, "self model trial", ATOMIC),
    (GRPOTrainer._save_checkpoint, "self model trial", ATOMIC),
    (SFTTrainer.create_model_card, "self model_name dataset_name tags", CARD),
    (DPOTrainer._prepare_dataset, "self dataset processing_class args dataset_name", TOKENIZED),
    (DPOTrainer._precompute_ref_logps, "self dataset name batch_size", REFERENCE),
    (DPOTrainer.compute_ref_log_probs, "self model inputs", REFERENCE),
    (GRPOTrainer._tokenize_prompts, "self prompts", GENERATE),
    (
        GRPOTrainer._generate_single_turn,
        "self prompt_ids images multimodal_fields num_generations has_tool_images",
        GENERATE,
    ),
    (GRPOTrainer._prepare_inputs, "self generation_batch", SPLIT),
    (GRPOTrainer._generate_and_score_completions, "self inputs", SPLIT),
    (
        GRPOTrainer._get_per_token_logps_and_entropies,
        "self model input_ids attention_mask logits_to_keep batch_size compute_entropy compute_aux_loss",
        PREFIX,
    ),
    (add_fused_lm_head, "model temperature cast_lm_head_to_fp32 outputs", FUSED),
    (get_peak_flops, "device_name dtype", PEAK),
    (DynamicLayer.lazy_initialization, "self key_states value_states", CACHE),
    (DynamicLayer.update, "self key_states value_states args kwargs", CACHE),
    (DynamicLayer.get_seq_length, "self", CACHE),
    (Cache.__init__, "self layers", CACHE),
]
ATTRIBUTES = {
    GRPOTrainer: "_buffered_inputs _step _tokenizer aux_loss_enabled eos_token_ids async_loop max_completion_length",
    DPOTrainer: "_metrics precompute_ref_logps beta ref_model",
    Trainer: "model_wrapped",
}
"""Set in constructors; undocumented, like the methods above."""


@pytest.mark.parametrize(("method", "parameters", "link"), METHODS, ids=lambda part: getattr(part, "__qualname__", ""))
def test_a_method_takes_the_arguments_that_training_passes(method: Any, parameters: str, link: str) -> None:
    names = parameters.split()
    assert list(inspect.signature(method).parameters)[: len(names)] == names, f"changed; see {link}"


@pytest.mark.parametrize("trainer", ATTRIBUTES, ids=lambda trainer: trainer.__name__)
def test_an_attribute_is_set_by_the_constructor(trainer: type) -> None:
    source = inspect.getsource(trainer.__init__)
    missing = [name for name in ATTRIBUTES[trainer].split() if not re.search(rf"self\.{name}\b.* = ", source)]
    assert missing == []


def test_the_fused_head_returns_what_training_reads() -> None:
    assert {"log_probs", "entropy"} <= set(FusedCausalLMOutput.__annotations__)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(sft.Trainer, SFTTrainer), (dpo.Trainer, DPOTrainer), (policy.Trainer, GRPOTrainer)],
    ids=["sft", "dpo", "grpo"],
)
def test_every_private_method_that_a_trainer_overrides_is_listed(ours: type, theirs: type) -> None:
    listed = {method.__name__ for method, _, _ in METHODS}
    names = {name for cls in (ours, StageTrainer) for name in vars(cls) if re.match("_[^_]", name)}
    assert {name for name in names if hasattr(theirs, name)} <= listed
