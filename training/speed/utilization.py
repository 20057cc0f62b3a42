"""How much of a card's arithmetic a training uses: model FLOPs utilization (MFU), as PaLM's report defines it
(https://arxiv.org/abs/2204.02311, appendix B), without the attention between tokens.

    share = mfu(flops_per_token(model), tokens_per_second, devices=8, peak=989e12)

A token of a forward takes 2 FLOPs a weight, the gradient of its states 2 more, and the gradient of the weights 2 for
those that are trained: 6 N for a full fine-tune, 4 N for adapters. What is computed anew for less memory, and what
is saved by skipping output logits of prompts, does not count.
"""

from typing import Any

import torch
from trl.trainer.utils import get_peak_flops

from training.speed.forward import unwrap_adapter


def flops_per_token(model: Any) -> float:
    """Of forward and backward. An input embedding that is no output layer as well is a look-up and takes none."""
    base = unwrap_adapter(model)
    inputs, outputs = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    weights = [weight for weight in model.parameters() if weight is not inputs or inputs is outputs]
    return 4.0 * sum(map(_size, weights)) + 2.0 * sum(_size(weight) for weight in weights if weight.requires_grad)


def _size(weight: Any) -> int:
    return int(getattr(weight, "ds_numel", weight.numel()))  # the whole of a weight that DeepSpeed shards


def device_peak() -> float | None:
    """FLOP/s of this process's GPU in dense bfloat16, by its maker; None for a CPU or an unknown card."""
    if not torch.cuda.is_available():
        return None
    peak: float | None = get_peak_flops(torch.cuda.get_device_name(), "bfloat16")
    return peak


def mfu(flops_per_token: float, tokens_per_second: float, *, devices: int, peak: float) -> float:
    """A share of 1. The tokens are those of all devices, `peak` is of one."""
    return flops_per_token * tokens_per_second / (devices * peak)
