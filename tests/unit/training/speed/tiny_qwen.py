"""A Qwen3 with two layers and random weights: small enough to compare forwards to the last digit."""

from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM


def tiny_qwen(**options: Any) -> Qwen3ForCausalLM:
    """The same weights each time; `options` are fields of its configuration."""
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            **options,
        )
    )
