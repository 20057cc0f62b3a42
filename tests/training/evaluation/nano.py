"""A random checkpoint of a few ten thousand parameters, whole with tokenizer and chat template."""

from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from services.core.prompts import CHAT_SYSTEM, LETTERS, SELECTION_SYSTEM, UPDATE_SYSTEM
from training.init_checkpoint import train_tokenizer


def write_nano(folder: Path, seed: int = 0) -> Path:
    letters = [f"Item{letter}\n" for letter in LETTERS for _ in range(50)]
    tokenizer = train_tokenizer(iter([*letters, *[SELECTION_SYSTEM, UPDATE_SYSTEM, *CHAT_SYSTEM.values()] * 10]))
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=4096,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=4096,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
