"""Scores of the labelled tokens against the plain loss over all logits: values, gradients, and what exists at once."""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import Qwen3ForCausalLM

from tests.unit.training.nano import tiny_qwen
from training.speed import forward, next_token_scores
from training.speed.next_token_scores import add_next_token_scores
from training.speed.prefix_sharing import IGNORED

ROWS = 8
"""Positions of a chunk here; 45 are labelled."""


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 97, (3, 40), generator=torch.Generator().manual_seed(1))
    next_tokens = torch.full_like(ids, IGNORED)
    next_tokens[:, 24:39] = ids[:, 25:]
    return ids, next_tokens


@pytest.fixture(params=["chunks", "TRL's kernels"])
def scored(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that adds the scores to a model. TRL folds the tiles of its kernels in plain torch on a CPU."""
    monkeypatch.setattr(forward, "HEAD_ROWS", ROWS)
    monkeypatch.setattr(next_token_scores, "has_fused_kernels", lambda: request.param == "TRL's kernels")
    return add_next_token_scores


def gradients(model: Any, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.float().flatten() for weight in model.parameters()])


def model_of(dtype: torch.dtype, *, tied: bool) -> Qwen3ForCausalLM:
    return tiny_qwen(vocab_size=97, initializer_range=0.3, tie_word_embeddings=tied).to(dtype)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("weights", "autocast", "tolerance"),
    [(torch.float32, False, 1e-5), (torch.float32, True, 2e-2), (torch.bfloat16, False, 2e-2)],
    ids=["float32", "autocast", "bfloat16"],
)
def test_loss_and_gradients_are_those_of_all_logits(
    batch: tuple[torch.Tensor, torch.Tensor], scored: Any, weights: Any, autocast: bool, tolerance: float, tied: bool
):
    ids, next_tokens = batch
    model = model_of(weights, tied=tied)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(input_ids=ids).logits.float()
    plain = cross_entropy(logits.flatten(0, 1), next_tokens.flatten(), ignore_index=IGNORED, reduction="sum")
    wanted = gradients(model, plain)
    scored(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        scores = model(input_ids=ids, next_tokens=next_tokens)
    found = gradients(model, -scores.sum())
    assert scores.dtype == torch.float32
    assert (scores[next_tokens == IGNORED] == 0).all()
    assert -scores.sum().item() == pytest.approx(plain.item(), rel=tolerance / 10)
    assert (found - wanted).norm() < tolerance * wanted.norm()


def test_only_a_chunk_of_labelled_positions_has_logits_at_once(
    batch: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
):
    ids, next_tokens = batch
    monkeypatch.setattr(forward, "HEAD_ROWS", ROWS)
    model, passes = model_of(torch.float32, tied=False), list[int]()
    model.lm_head.register_forward_hook(lambda head, inputs, output: passes.append(len(output)))
    add_next_token_scores(model)
    loss = -model(input_ids=ids, next_tokens=next_tokens).sum()
    assert passes == [8, 8, 8, 8, 8, 5]
    loss.backward()
    assert sorted(passes) == sorted([8, 8, 8, 8, 8, 5] * 2), "the backward computes each chunk once more"


def test_a_batch_without_a_label_has_a_loss_of_zero_and_gradients(
    batch: tuple[torch.Tensor, torch.Tensor], scored: Any
):
    model = model_of(torch.float32, tied=False)
    scored(model)
    scores = model(input_ids=batch[0], next_tokens=torch.full_like(batch[1], IGNORED))
    assert scores.sum() == 0
    scores.sum().backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())


def test_other_calls_of_the_model_stay_as_they_were(batch: tuple[torch.Tensor, torch.Tensor], scored: Any):
    model = model_of(torch.float32, tied=False)
    before = model(input_ids=batch[0]).logits
    scored(model)
    assert torch.equal(model(input_ids=batch[0]).logits, before)
