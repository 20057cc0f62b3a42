"""The router: which axes a prompt bears on, as probabilities, and how well those are calibrated.

    python -m training.mocae.router training/configs/nano/mocae.toml

h is the mean last hidden state of the base over the prompt, z = P h, p = softmax(W z / T). P and W are trained by cross
entropy on the axis of each prompt and a load balance, T on the fold of calibration. The same head over the static word
table of services/profile/word_table.py, `words`, is the one that the response service computes without torch.

The two calibrators of the paper (arXiv 2602.07381), l' = l + .6 f + .4 n, stand here in forms of our own, since its
formulas are not at hand: f is the log-density of an axis's training prompts around z, n = tanh(U z + b) is trained on
the fold of calibration. Every variant has its own T. What each is worth is measured by evaluation/suites/mocae.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from services.axes import AXES, ROUTER_FILE
from services.profile.word_table import embed
from training.config import run_script
from training.data.whole_file import replace_file
from training.mocae.axis_rows import AxisPrompt
from training.mocae.stage import MocaeConfig, Router

DENSITY_SHARE: Final = 0.6
NETWORK_SHARE: Final = 0.4
CALIBRATOR_STEPS: Final = 200
CALIBRATOR_DECAY: Final = 1e-2
TEMPERATURES: Final = np.geomspace(0.05, 20, 241)
VARIANTS: Final = ("plain", "density", "network", "both")
FEATURES: Final = ("hidden", "words")

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """A trained router. `project` is P (width, d), `route` is W (axes, width)."""

    project: torch.Tensor
    route: torch.Tensor

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """z, (n, width), for features (n, d)."""
        return features @ self.project.T

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        return z @ self.route.T


def hidden_states(base: Path, prompts: Sequence[str], max_tokens: int) -> torch.Tensor:
    """(n, d): the mean last hidden state of the base over each prompt, of length one."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModel.from_pretrained(base, dtype=torch.float32).to(device).eval()
    rows = []
    with torch.no_grad():
        for prompt in prompts:
            ids = tokenizer(prompt, return_tensors="pt", truncation=True, max_length=max_tokens).input_ids
            rows.append(model(input_ids=ids.to(device)).last_hidden_state[0].mean(0).cpu())
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def load_balance(probabilities: torch.Tensor) -> torch.Tensor:
    """K Σ_k (share of prompts whose first axis is k) · (mean probability of k): 1 where all axes take as many."""
    axes = probabilities.shape[1]
    shares = torch.bincount(probabilities.argmax(1), minlength=axes) / len(probabilities)
    return axes * (shares * probabilities.mean(0)).sum()


def train_head(features: torch.Tensor, labels: torch.Tensor, router: Router, seed: int) -> Head:
    """Of features (n, d) and labels (n) below the number of axes."""
    generator = torch.Generator().manual_seed(seed)
    count, width = features.shape[1], router.width
    project = (torch.randn(width, count, generator=generator) / count**0.5).requires_grad_()
    route = (torch.randn(len(AXES), width, generator=generator) / width**0.5).requires_grad_()
    head = Head(project, route)
    adam = torch.optim.AdamW([project, route], lr=router.learning_rate, weight_decay=router.weight_decay)
    for _ in range(router.steps):
        logits = head.logits(head.embed(features))
        loss = torch.nn.functional.cross_entropy(logits, labels) + router.balance * load_balance(logits.softmax(1))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return Head(project.detach(), route.detach())


# --- calibration -------------------------------------------------------------------------------


def log_density(z: torch.Tensor, points: torch.Tensor, labels: torch.Tensor, radius: float) -> torch.Tensor:
    """f, (n, axes): the logarithm of the share of each axis's points within `radius` of z, by cosine distance; one
    point more everywhere keeps it finite."""
    normal = torch.nn.functional.normalize
    near = (1 - normal(z, dim=-1) @ normal(points, dim=-1).T <= radius).float()
    members = torch.nn.functional.one_hot(labels, len(AXES)).float()
    return ((near @ members + 1) / (members.sum(0) + 1)).log()


def train_network(z: torch.Tensor, others: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """U and b of n = tanh(U z + b), where `others` is the rest of the logits."""
    u = torch.zeros(len(AXES), z.shape[1], requires_grad=True)
    b = torch.zeros(len(AXES), requires_grad=True)
    adam = torch.optim.AdamW([u, b], lr=1e-2, weight_decay=CALIBRATOR_DECAY)
    for _ in range(CALIBRATOR_STEPS):
        loss = torch.nn.functional.cross_entropy(others + NETWORK_SHARE * torch.tanh(z @ u.T + b), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return u.detach(), b.detach()


def softmax(logits: Matrix, temperature: float = 1.0) -> Matrix:
    """Over the last axis."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def fit_temperature(logits: Matrix, labels: NDArray[np.int64]) -> float:
    """T with the least mean -log p of the labels."""

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits, temperature)[np.arange(len(labels)), labels].clip(1e-12)).mean())

    return float(min(TEMPERATURES, key=loss))


def variant_logits(
    z: dict[str, torch.Tensor], labels: dict[str, torch.Tensor], head: Head, radius: float
) -> dict[str, dict[str, Matrix]]:
    """By variant and part ("calibration", "test"): logits with both calibrators, one, or none."""
    parts = ("calibration", "test")
    plain = {part: head.logits(z[part]) for part in parts}
    dense = {part: DENSITY_SHARE * log_density(z[part], z["train"], labels["train"], radius) for part in parts}

    def add_network(others: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        u, b = train_network(z["calibration"], others["calibration"], labels["calibration"])
        return {part: others[part] + NETWORK_SHARE * torch.tanh(z[part] @ u.T + b) for part in parts}

    with_density = {part: plain[part] + dense[part] for part in parts}
    logits = {
        "plain": plain, "density": with_density, "network": add_network(plain), "both": add_network(with_density)
    }  # fmt: skip
    return {name: {part: own[part].double().numpy() for part in parts} for name, own in logits.items()}


# --- the script --------------------------------------------------------------------------------


def router(config: MocaeConfig) -> None:
    """Trains and calibrates a router on each kind of features, and writes it with its logits of the test fold."""
    prompts = AxisPrompt.read_all(config.prompts)
    texts = [prompt.prompt for prompt in prompts]
    features = {
        "hidden": hidden_states(config.base, texts, config.router.max_tokens),
        "words": torch.from_numpy(embed(texts)),
    }
    for name in FEATURES:
        with replace_file(config.work / f"router-{name}.npz") as file:
            np.savez(file, **train_router(features[name], prompts, config))
    words = np.load(config.work / "router-words.npz")
    served = {"head": (words["route"] @ words["project"]).astype(np.float32), "temperature": words["temperature_plain"]}
    with replace_file(config.output / ROUTER_FILE) as file:
        np.savez(file, **served)


def train_router(features: torch.Tensor, prompts: Sequence[AxisPrompt], config: MocaeConfig) -> dict[str, Any]:
    """Arrays: `project`, `route`; `labels` of the test fold; by variant `logits_*` of it, and `temperature_*`."""
    parts = np.array([prompt.part for prompt in prompts])
    axes = torch.tensor([AXES.index(prompt.axis) for prompt in prompts])
    split = {part: torch.from_numpy(np.flatnonzero(parts == part)) for part in ("train", "calibration", "test")}
    labels = {part: axes[rows] for part, rows in split.items()}
    head = train_head(features[split["train"]], labels["train"], config.router, config.seed)
    z = {part: head.embed(features[rows]) for part, rows in split.items()}
    arrays: dict[str, Any] = {"project": head.project, "route": head.route, "labels": labels["test"]}
    for variant, logits in variant_logits(z, labels, head, config.router.radius).items():
        arrays[f"logits_{variant}"] = logits["test"]
        arrays[f"temperature_{variant}"] = fit_temperature(logits["calibration"], labels["calibration"].numpy())
    return {name: np.asarray(array) for name, array in arrays.items()}


if __name__ == "__main__":
    run_script(MocaeConfig, router)
