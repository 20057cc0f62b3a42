"""Replies written from one reading of a prompt: those of transformers' own generation."""

import random
from collections import Counter
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig

from tests.unit.training.nano import tiny_qwen
from training.speed.generate import Sampling, generate_replies
from training.speed.prefix_sharing import has_full_attention

PAD, END = 0, 1
NEW = 24


def sampling(temperature: float, batch_tokens: int = 100_000) -> Sampling:
    return Sampling(new_tokens=NEW, temperature=temperature, end_tokens=(END, 2), pad=PAD, batch_tokens=batch_tokens)


@pytest.fixture
def model() -> Any:
    options = {"vocab_size": 24, "initializer_range": 0.5, "eos_token_id": END, "pad_token_id": PAD}
    return tiny_qwen(**options, tie_word_embeddings=False).eval()


def prompts() -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(3, 24) for _ in range(size)] for size in (5, 1, 17, 9)]


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("batch_tokens", [100_000, 70], ids=["at once", "in parts"])
def test_the_likeliest_replies_are_those_of_transformers(model: Any, batch_tokens: int) -> None:
    replies = generate_replies(model, prompts(), 2, sampling(1e-6, batch_tokens), draws(0))
    greedy = GenerationConfig(do_sample=False, max_new_tokens=NEW, eos_token_id=[END, 2], pad_token_id=PAD)
    wanted = []
    for prompt in prompts():
        ids = torch.tensor([prompt])
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
        wanted += [written[0, len(prompt) :].tolist()] * 2
    assert replies == wanted
    assert len({len(reply) for reply in replies}) > 1, "some end before others"


def test_replies_end_once_or_are_cut_off(model: Any) -> None:
    replies = generate_replies(model, prompts(), 16, sampling(1.0), draws(0))
    assert len(replies) == 64
    for reply in replies:
        assert not {END, 2} & set(reply[:-1])
        assert reply[-1] in (END, 2) or len(reply) == NEW
    assert len({tuple(reply) for reply in replies[:16]}) > 1


def test_the_same_seed_writes_the_same(model: Any) -> None:
    first, again, other = (generate_replies(model, prompts(), 4, sampling(1.0), draws(seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_tokens_are_drawn_by_their_probability(model: Any) -> None:
    prompt, temperature, count = prompts()[0], 0.7, 4_000
    with torch.no_grad():
        odds = (model(input_ids=torch.tensor([prompt])).logits[0, -1] / temperature).softmax(-1).tolist()
    one = Sampling(new_tokens=1, temperature=temperature, end_tokens=(END, 2), pad=PAD, batch_tokens=10**6)
    drawn = Counter(reply[0] for reply in generate_replies(model, [prompt], count, one, draws(0)))
    for token, chance in enumerate(odds):
        spread = (chance * (1 - chance) / count) ** 0.5
        assert abs(drawn[token] / count - chance) <= 5 * spread + 1 / count


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft reads a name that transformers renamed
def test_an_adapter_takes_part(model: Any) -> None:
    plain = generate_replies(model, prompts(), 1, sampling(1e-6), draws(0))
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["v_proj"], init_lora_weights=False)).eval()
    assert generate_replies(adapted, prompts(), 1, sampling(1e-6), draws(0)) != plain


def test_a_model_with_a_window_is_left_to_trl(model: Any) -> None:
    assert has_full_attention(model)
    model.config.layer_types = ["full_attention", "sliding_attention"]
    assert not has_full_attention(model)
