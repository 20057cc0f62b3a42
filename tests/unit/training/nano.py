"""Random Qwen3 models: one small enough to compare forwards to the last digit, one with a whole tokenizer that tests of
the stages train."""

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


def tiny_qwen(seed: int = 0, **options: Any) -> Qwen3ForCausalLM:
    """The same weights each time; `options` are fields of its configuration."""
    torch.manual_seed(seed)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    return Qwen3ForCausalLM(Qwen3Config(**shape | options))


def speaking_qwen(tokenizer: Any, **options: Any) -> Qwen3ForCausalLM:
    """For a tokenizer of `train_tokenizer`."""
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    return tiny_qwen(vocab_size=4096, **ends, **heads | options)


def nano(*, hidden: int = 32, seed: int = 0, spread: float = 0.02, tied: bool = False) -> tuple[Any, Any]:
    """Model and tokenizer. A larger `spread` of the random weights makes the model surer of its nonsense."""
    letters = [f"Item{letter}\n" for letter in LETTERS for _ in range(50)]
    prompts = [SELECTION_SYSTEM, UPDATE_SYSTEM, *CHAT_SYSTEM.values()]
    rows = [inference(Pen(random.Random(seed), "train"), World(), 2, past=True) for seed in range(20)]
    said = [message["content"] for row in rows for message in (*row["prompt"], *row["completion"])]
    tokenizer = train_tokenizer(iter([*letters, *prompts * 10, *said * 3]))
    model = speaking_qwen(
        tokenizer,
        seed=seed,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=1,
        num_attention_heads=hidden // 16,
        max_position_embeddings=4096,
        initializer_range=spread,
        tie_word_embeddings=tied,
    )
    return model, tokenizer


def write_nano(folder: Path, **shape: Any) -> Path:
    """The same as a checkpoint folder."""
    model, tokenizer = nano(**shape)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
