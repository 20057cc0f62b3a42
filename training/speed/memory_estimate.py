"""The memory that a run takes on one device, estimated before it starts.

    needs about 61 of 80 GB: weights 16, gradients 0.7, optimizer 1.4, activations 38, logits 1.2

Weights, gradients and the states of AdamW follow from the number of parameters. Activations are what autograd
keeps of the largest micro-batch: the model's forward runs once on tensors that have shapes and no data (PyTorch's
FakeTensorMode), so that any architecture, adapter and precision is counted as it is.
"""

import json
import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import psutil  # type: ignore[import-untyped]
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations import is_deepspeed_zero3_enabled

from training.config import Stage, devices
from training.exceptions import ConfigError
from training.speed.forward import HEAD_ROWS, unwrap_adapter
from training.speed.next_token_scores import has_fused_kernels
from training.trl_arguments import lora_config, on_cpu

GB: Final = 1e9
SLACK: Final = {"cuda": 1.1, "cpu": 1.3}
"""What allocators lose to holes between tensors, as a factor of what comes and goes in a step."""
FUSED_TILE: Final = 4_096 * 32_768
"""Logits that TRL's kernels hold at once."""
LOGIT_COPIES: Final = 3
"""The float32 logits of a chunk, their log-softmax and their gradient, beside those in the model's type."""
MASTER_BYTES: Final = 12
"""DeepSpeed's float32 weight and two moments of each trained parameter, where the model's are bfloat16."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The largest micro-batch that a run meets on a device, and what else the run keeps there."""

    rows: int
    tokens: int
    """Of each row, padding included."""
    length_field: str
    """The field of the configuration that bounds `tokens`."""
    is_masked: bool = False
    """Whether attention reads a mask of (tokens, tokens) for each row."""
    cached_tokens: int = 0
    """Tokens of the cache of keys and values while the model writes replies; no activations exist then."""
    frozen_copies: float = 0
    """Copies of the weights beside the trained ones: a reference, a judge; .5 for one of half the bytes."""
    other_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """In bytes, of one device."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    other: float = 0.0

    @property
    def total(self) -> float:
        lasting = self.weights + self.gradients + self.optimizer + self.other
        return lasting + SLACK[_device()] * (self.activations + self.logits)

    def __str__(self) -> str:
        names = [name for name in self.__slots__ if getattr(self, name)]
        return ", ".join(f"{name} {_gigabytes(getattr(self, name))}" for name in names)


def check_memory(config: Stage, batch: MicroBatch) -> None:
    """Prints what the run needs of the device's memory. Raises ConfigError when it is more than there is, unless
    `run.memory` is "warn". Under ZeRO-3, where transformers shards each model that is made, it estimates nothing."""
    if is_deepspeed_zero3_enabled():
        return
    estimate, available = estimate_memory(config, batch), available_memory()
    if estimate is None:
        print("needs an unknown amount of memory: the model's shapes depend on its data", flush=True)
        return
    told = f"needs about {_gigabytes(estimate.total)} of {_gigabytes(available)} GB: {estimate}"
    if estimate.total > available:
        told += f". To need less, {_remedies(config, batch)}"
        if config.run.memory == "refuse":
            raise ConfigError(f'{told}; run.memory = "warn" starts it anyway')
    if os.environ.get("RANK", "0") == "0":
        print(told, flush=True)


def available_memory() -> float:
    """Free bytes of this process's device; on a CPU, its share of the machine's available memory."""
    if not on_cpu():
        return float(torch.cuda.mem_get_info()[0])
    return float(psutil.virtual_memory().available) / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def estimate_memory(config: Stage, batch: MicroBatch) -> MemoryEstimate | None:
    """None for a model whose shapes depend on its data, such as a mixture of experts."""
    model = model_without_data(config)
    stage = _sharding_stage(config)
    masters = bool(config.run.deepspeed) and config.run.precision == "bf16"  # then DeepSpeed's weights are bfloat16
    weights = [(weight.numel(), 2 if masters else weight.element_size()) for weight in model.parameters()]
    trained = [size for size, weight in zip(weights, model.parameters(), strict=True) if weight.requires_grad]
    held, gradients = (sum(count * width for count, width in sizes) for sizes in (weights, trained))
    states = sum(count * (MASTER_BYTES if masters else 2 * width) for count, width in trained)
    try:
        activations = _activations(model, config, batch)
    except (DataDependentOutputException, DynamicOutputShapeException):
        return None
    text = model.config.get_text_config()
    cache = 2.0 * batch.cached_tokens * text.num_hidden_layers * _head_sizes(text) * _compute_bytes(config)
    return MemoryEstimate(
        weights=held / (devices() if stage >= 3 else 1),
        gradients=gradients / (devices() if stage >= 2 else 1),
        optimizer=states / (devices() if stage >= 1 else 1),
        activations=max(activations, cache),
        logits=_logits(model, config, batch),
        other=batch.frozen_copies * held + batch.other_bytes,
    )


# --- the parts -----------------------------------------------------------------------------------


def model_without_data(config: Stage) -> Any:
    """The model with its adapters, on the device "meta"."""
    shape = AutoConfig.from_pretrained(config.model.path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape, dtype=getattr(torch, config.model.dtype))
        adapters = lora_config(config)
        if adapters is not None:
            from peft import get_peft_model  # takes a second, and most runs do not use it

            model = get_peft_model(model, adapters)
    return model.train()


def _activations(model: Any, config: Stage, batch: MicroBatch) -> float:
    kept = _saved_bytes(unwrap_adapter(model), batch, autocast=config.run.precision == "bf16")
    mask = batch.rows * batch.tokens**2 * (1 + _compute_bytes(config)) if batch.is_masked else 0
    if not config.run.gradient_checkpointing:
        return kept + mask
    text = model.config.get_text_config()
    layers, width = int(text.num_hidden_layers), int(getattr(torch, config.model.dtype).itemsize)
    states = batch.rows * batch.tokens * int(text.hidden_size) * width
    return states * layers + kept / layers + mask  # one layer is computed anew


def _saved_bytes(model: Any, batch: MicroBatch, *, autocast: bool) -> float:
    """What autograd keeps of a forward up to the output layer; weights do not count, casts of them do."""
    device, found = _device(), dict[int, int]()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device=device)
        model.tie_weights()
        own = {weight.untyped_storage()._cdata for weight in model.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                found[storage._cdata] = storage.nbytes()
            return tensor

        ids = torch.zeros(batch.rows, batch.tokens, dtype=torch.long, device=device)
        cast = torch.autocast(device, torch.bfloat16) if autocast else nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), cast:
            states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        del states  # held until here: the graph's tensors must not be freed, or their addresses come again
    return float(sum(found.values()))


def _logits(model: Any, config: Stage, batch: MicroBatch) -> float:
    """Of the chunk that passes the output layer at once."""
    vocabulary, size = model.config.get_text_config().vocab_size, _compute_bytes(config)
    if has_fused_kernels():
        head = model.get_output_embeddings().weight
        return float(FUSED_TILE * size + (4 * head.numel() if head.requires_grad else 0))
    positions = min(HEAD_ROWS, batch.rows * batch.tokens)
    return float(positions * vocabulary * (4 * LOGIT_COPIES + size))


def _device() -> str:
    return "cpu" if on_cpu() else "cuda"


def _compute_bytes(config: Stage) -> int:
    return 2 if config.run.precision == "bf16" else int(getattr(torch, config.model.dtype).itemsize)


def _head_sizes(text: Any) -> int:
    """Numbers in a layer's keys of one token."""
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(size * (getattr(text, "num_key_value_heads", None) or text.num_attention_heads))


def _sharding_stage(config: Stage) -> int:
    """ZeRO's: from 1 optimizer states are sharded over the devices, from 2 gradients, with 3 weights."""
    if config.run.fsdp:
        return 3
    if not config.run.deepspeed:
        return 0
    settings = json.loads(config.run.deepspeed.read_text(encoding="utf-8"))
    return int(settings.get("zero_optimization", {}).get("stage", 0))


# --- what is printed -----------------------------------------------------------------------------


def _remedies(config: Stage, batch: MicroBatch) -> str:
    ways = []
    if batch.rows > 1:
        half = replace(batch, rows=batch.rows // 2)
        ways.append(f"halve optim.micro_batch, {config.optim.micro_batch} now{_then(config, half)}")
    if not config.run.gradient_checkpointing:
        less = config.model_copy(update={"run": config.run.model_copy(update={"gradient_checkpointing": True})})
        ways.append(f"set run.gradient_checkpointing = true{_then(less, batch)}")
    ways.append(f"lower {batch.length_field}: a row has {batch.tokens:,} tokens")
    if config.model.lora is None:
        ways.append("train adapters with [model.lora]")
    if not config.run.deepspeed and not config.run.fsdp:
        ways.append("shard over several devices with run.deepspeed or run.fsdp")
    return ", ".join(ways)


def _then(config: Stage, batch: MicroBatch) -> str:
    estimate = estimate_memory(config, batch)
    return f" (then {_gigabytes(estimate.total)} GB)" if estimate else ""


def _gigabytes(count: float) -> str:
    return f"{count / GB:.1f}" if count < 10 * GB else f"{count / GB:,.0f}"
