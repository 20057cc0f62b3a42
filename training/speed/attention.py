"""Attention in float32 under bfloat16 autocast, for CPUs.

PyTorch's fused attention on a CPU is slower in bfloat16 than in float32, most of all for short rows.
Weights and the rest of the model stay in what autocast gives them.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward


def attention_in_float32() -> None:
    """Makes all models of this process with attention "sdpa" compute it in float32."""
    AttentionInterface.register("sdpa", _in_float32)


def _in_float32(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    with torch.autocast("cpu", enabled=False):
        out, none = sdpa_attention_forward(module, query.float(), key.float(), value.float(), *args, **kwargs)
    return out.to(query.dtype), none
