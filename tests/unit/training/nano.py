"""A random Qwen3 of some ten thousand parameters with a whole tokenizer: what tests of the stages train."""

import random
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from services.prompts.build import LETTERS
from services.prompts.templates import CHAT_SYSTEM, SELECTION_SYSTEM, UPDATE_SYSTEM
from training.corpus.lexicon import Pen
from training.corpus.world_rows import World, inference
from training.init_checkpoint import train_tokenizer


def nano(*, hidden: int = 32, seed: int = 0, spread: float = 0.02, tied: bool = False) -> tuple[Any, Any]:
    """Model and tokenizer. A larger `spread` of the random weights makes the model surer of its nonsense."""
    letters = [f"Item{letter}\n" for letter in LETTERS for _ in range(50)]
    prompts = [SELECTION_SYSTEM, UPDATE_SYSTEM, *CHAT_SYSTEM.values()]
    rows = [inference(Pen(random.Random(seed), "train"), World(), 2, past=True) for seed in range(20)]
    said = [message["content"] for row in rows for message in (*row["prompt"], *row["completion"])]
    tokenizer = train_tokenizer(iter([*letters, *prompts * 10, *said * 3]))
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=4096,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=1,
        num_attention_heads=hidden // 16,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=4096,
        initializer_range=spread,
        tie_word_embeddings=tied,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config), tokenizer


def write_nano(folder: Path, **shape: Any) -> Path:
    """The same as a checkpoint folder."""
    model, tokenizer = nano(**shape)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
