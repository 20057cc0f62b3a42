"""The router's head and its calibration."""

import math

import numpy as np
import pytest
import torch

from training.mocae.router import fit_temperature, load_balance, log_density, softmax, train_head, variant_logits
from training.mocae.stage import Router

ROUTER = Router(width=8, steps=60, weight_decay=0.1)


def clusters(seed: int, count: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (count, 6) around one direction an axis, and their axes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.eye(6)[labels] + 0.3 * torch.randn(count, 6, generator=generator), labels


def test_a_head_learns_axes_that_lie_apart() -> None:
    head = train_head(*clusters(0), ROUTER, seed=0)
    features, labels = clusters(1)
    right = head.logits(head.embed(features)).argmax(1) == labels
    assert float(right.float().mean()) > 0.9
    again = train_head(*clusters(0), ROUTER, seed=0)
    assert torch.equal(head.route, again.route)


def test_the_load_balance_is_least_where_all_axes_take_as_many() -> None:
    even, uneven = torch.eye(3), torch.eye(3)[[0, 0, 0]]
    assert float(load_balance(even)) == pytest.approx(1)
    assert float(load_balance(uneven)) == pytest.approx(3)


def test_the_density_of_an_axis_counts_its_points_nearby() -> None:
    points, labels = torch.tensor([[1.0, 0], [1, 0.1], [0, 1]]), torch.tensor([0, 0, 1])
    density = log_density(torch.tensor([[2.0, 0]]), points, labels, radius=0.05)
    assert density[0].tolist() == pytest.approx([math.log(3 / 3), math.log(1 / 2), math.log(1 / 1)])


def test_the_temperature_undoes_a_scale() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4_000, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)


def test_variants_share_the_heads_logits() -> None:
    parts = {name: clusters(seed) for seed, name in enumerate(("train", "calibration", "test"))}
    head = train_head(*parts["train"], ROUTER, seed=0)
    z = {name: head.embed(features) for name, (features, _) in parts.items()}
    logits = variant_logits(z, {name: labels for name, (_, labels) in parts.items()}, head, radius=0.05)
    plain = head.logits(z["test"]).double().numpy()
    assert np.array_equal(logits["plain"]["test"], plain)
    assert np.abs(logits["network"]["test"] - plain).max() <= 0.4  # tanh times its share
    assert not np.array_equal(logits["both"]["test"], logits["density"]["test"])
