"""A configuration as TRL takes it: the arguments that all stages share, the tokenizer, the LoRA adapter.

A stage adds its own to `shared_arguments(config)` and passes all to SFTConfig, DPOConfig or GRPOConfig.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AutoTokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils.logging import disable_progress_bar

from training.checkpoint import run_dir
from training.config import Stage, devices
from training.data.tokens import end_token_id
from training.exceptions import CheckpointError, ConfigError

FSDP2 = {
    "version": 2,
    "reshard_after_forward": True,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "state_dict_type": "FULL_STATE_DICT",
}


def on_cpu() -> bool:
    return not torch.cuda.is_available()


def attention_in_float32() -> None:
    """Makes all models of this process with attention "sdpa" compute it in float32, under autocast as well: PyTorch's
    fused attention on a CPU is slower in bfloat16, most of all for short rows."""
    AttentionInterface.register("sdpa", _in_float32)


def _in_float32(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    with torch.autocast("cpu", enabled=False):
        out, none = sdpa_attention_forward(module, query.float(), key.float(), value.float(), *args, **kwargs)
    return out.to(query.dtype), none


def shared_arguments(config: Stage) -> dict[str, Any]:
    """Arguments of a transformers Trainer; on a CPU, sets the faster attention as well. Raises ConfigError."""
    disable_progress_bar()  # of loading models
    if on_cpu():
        attention_in_float32()
    run, optim, folder = config.run, config.optim, run_dir(config.run.output)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    return {
        "output_dir": str(folder),
        "use_cpu": on_cpu(),
        "bf16": run.precision == "bf16",
        "seed": run.seed,
        "model_init_kwargs": {"dtype": config.model.dtype},
        "per_device_train_batch_size": optim.micro_batch,
        "gradient_accumulation_steps": optim.accumulation(devices()),
        "num_train_epochs": optim.epochs,
        "max_steps": optim.max_steps or -1,
        "learning_rate": optim.learning_rate,
        "warmup_steps": optim.warmup,
        "weight_decay": optim.weight_decay,
        "adam_beta1": optim.beta1,
        "adam_beta2": optim.beta2,
        "max_grad_norm": optim.max_grad_norm,
        "activation_checkpointing": run.gradient_checkpointing,
        "save_steps": run.save_every,
        "save_total_limit": run.keep,
        "logging_steps": run.log_every,
        "logging_first_step": True,
        "report_to": ["tensorboard"] if run.tensorboard else [],
        "disable_tqdm": True,
        "dataloader_pin_memory": not on_cpu(),
        "ddp_find_unused_parameters": False,
        **_schedule(config),
        **_sharding(config),
    }


def _schedule(config: Stage) -> dict[str, Any]:
    optim = config.optim
    match optim.schedule:
        case "constant":
            return {"lr_scheduler_type": "constant_with_warmup"}
        case "cosine" if optim.min_rate:
            rate = {"min_lr_rate": optim.min_rate}
            return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": rate}
        case schedule:
            return {"lr_scheduler_type": schedule}


def _sharding(config: Stage) -> dict[str, Any]:
    if config.run.fsdp:
        return {"fsdp": True, "fsdp_config": FSDP2}
    if not config.run.deepspeed:
        return {}
    if on_cpu() and devices() > 1:
        import deepspeed  # slow, and only used under torchrun

        # It would first compile an operator that inference alone uses: deepspeedai/DeepSpeed#7625.
        deepspeed.ops.__compatible_ops__ = {}
        deepspeed.init_distributed(dist_backend="gloo", verbose=False)  # accelerate does not do it on a CPU
    try:
        return {"deepspeed": json.loads(config.run.deepspeed.read_text(encoding="utf-8"))}
    except (OSError, ValueError) as error:
        raise ConfigError(f"run.deepspeed: {config.run.deepspeed} is not a readable JSON file") from error


def lora_config(config: Stage) -> Any:
    """PEFT's configuration of the adapters; None trains all weights."""
    if config.model.lora is None:
        return None
    from peft import LoraConfig  # takes a second, and most runs do not use it

    lora = config.model.lora
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )


def load_tokenizer(config: Stage) -> Any:
    """The tokenizer of the base model, with a padding token. Raises CheckpointError."""
    path = config.model.path
    folder = Path(path)
    if folder.exists() and not (folder / "config.json").exists():
        raise CheckpointError(f"model.path: {path} is not a checkpoint: it holds no config.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"model.path: {path} is neither a checkpoint folder nor a model in the cache") from error
    if not tokenizer.chat_template:
        raise CheckpointError(f"model.path: the tokenizer of {path} has no chat template")
    end_token_id(tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer
