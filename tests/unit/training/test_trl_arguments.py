"""Attention in float32 under autocast: the precision it promises, the type the rest of the model expects."""

from collections.abc import Iterator

import pytest
import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tests.unit.training.nano import tiny_qwen
from training.trl_arguments import attention_in_float32


@pytest.fixture(autouse=True)
def given_attention() -> Iterator[None]:
    yield
    AttentionInterface.register("sdpa", sdpa_attention_forward)


class Layer(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    is_causal = True
    num_key_value_groups = 2


def test_scores_are_computed_in_float32() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 40, 16).bfloat16() for heads in (4, 2, 2))
    exact, _ = sdpa_attention_forward(Layer(), query.float(), key.float(), value.float(), None, scaling=0.25)
    attention_in_float32()
    attend = AttentionInterface()["sdpa"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = attend(Layer(), query, key, value, None, scaling=0.25)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, exact.bfloat16())


def test_a_model_uses_it_and_its_gradients_agree_with_float32() -> None:
    model = tiny_qwen(vocab_size=50)
    assert model.config._attn_implementation == "sdpa"
    ids = torch.randint(0, 50, (2, 30))
    model(ids, labels=ids).loss.backward()
    exact = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    attention_in_float32()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(ids, labels=ids).loss
    loss.backward()
    for name, weight in model.named_parameters():
        assert (weight.grad - exact[name]).norm() < 0.05 * exact[name].norm() + 1e-4, name
