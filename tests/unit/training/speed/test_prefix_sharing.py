"""Replies packed behind one prompt give what they give alone, values and gradients."""

import random

import pytest
import torch
from transformers import Qwen3ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from tests.unit.training.nano import tiny_qwen
from training.speed.prefix_sharing import pack_replies

PAD = 0
LENGTHS = [(7, 4), (7, 1), (7, 9), (3, 5), (1, 2), (1, 3), (12, 6)]
"""Of prompts and replies; neighbours of one length share a prompt."""


@pytest.fixture
def model() -> Qwen3ForCausalLM:
    model = tiny_qwen(vocab_size=50, initializer_range=0.3)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model


def rows() -> tuple[list[list[int]], list[list[int]]]:
    draw = random.Random(0)
    prompts = {size: [draw.randrange(1, 50) for _ in range(size)] for size, _ in LENGTHS}
    return [prompts[size] for size, _ in LENGTHS], [[draw.randrange(1, 50) for _ in range(size)] for _, size in LENGTHS]


def test_log_probabilities_entropies_and_gradients_are_those_of_rows_alone(model: Qwen3ForCausalLM) -> None:
    prompts, replies = rows()
    weights = torch.randn(len(prompts), max(map(len, replies)), generator=torch.Generator().manual_seed(1))
    alone, alone_entropy = torch.zeros_like(weights), torch.zeros_like(weights)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        labels = torch.tensor([[-100] * len(prompt) + reply])
        found = model(input_ids=torch.tensor([prompt + reply]), labels=labels, fused_lm_head=True)
        alone[row, : len(reply)] = found.log_probs[0, -len(reply) :]
        alone_entropy[row, : len(reply)] = found.entropy[0, -len(reply) :]
    (alone * weights).sum().backward()
    wanted = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()

    packed = pack_replies(prompts, replies, PAD)
    assert len(packed.ids) == 4, "one row for each prompt"
    together = model(**packed.inputs(), shift_labels=packed.labels, fused_lm_head=True)
    shared = packed.by_reply(together.log_probs)
    (shared * weights).sum().backward()
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(packed.by_reply(together.entropy), alone_entropy, atol=1e-5, rtol=1e-4)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, wanted[name], atol=1e-4, rtol=1e-3)


def test_a_reply_sees_its_prompt_and_itself() -> None:
    packed = pack_replies([[5, 6, 7]] * 2, [[1, 2], [3, 4, 9]], PAD)
    assert packed.ids.tolist() == [[5, 6, 7, 1, 7, 3, 4]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2, 3, 4]]
    assert packed.labels.tolist() == [[-100, -100, 1, 2, 3, 4, 9]]
    seen = [[place for place, sees in enumerate(row) if sees] for row in packed.mask()[0, 0].tolist()]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [0, 1, 4, 5], [0, 1, 4, 5, 6]]
