"""Axis adapters: a real vLLM loads a small grid of random ones, and chats with different weights are answered by
different adapters, beside a summary and selections by the base."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from services.axes import GRID_FILE, SERVED_FILE, AxisGrid, GridPoint, ServedMerge
from tests.live.conftest import ENGINE_OPTIONS, TINY_MODEL, serve_model
from tests.live.suite import Suite

pytestmark = pytest.mark.live

RANK = 8
GRID = AxisGrid(
    rank=RANK,
    targets=("down_proj",),
    points=(
        GridPoint(name="axes-100-0-0", weights=(1, 0, 0)),
        GridPoint(name="axes-0-100-0", weights=(0, 1, 0)),
        GridPoint(name="axes-0-0-100", weights=(0, 0, 1)),
    ),
)
STATIC = "axes-0-0-100"
EVENT = {"type": "comparison", "query": "news", "chosen": "a short report", "rejected": "a long essay"}


def write_adapter(folder: Path, seed: int) -> None:
    """A LoRA adapter as PEFT writes it: random, and strong enough that another token is the likeliest."""
    config = json.loads((TINY_MODEL / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    draw = np.random.default_rng(seed).normal
    halves = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.mlp.down_proj"
        halves[f"{name}.lora_A.weight"] = draw(size=(RANK, inner)).astype(np.float32)
        halves[f"{name}.lora_B.weight"] = draw(size=(hidden, RANK)).astype(np.float32)
    folder.mkdir()
    save_file(halves, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": ["down_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("axes")
    for seed, point in enumerate(GRID.points):
        write_adapter(folder / point.name, seed)
    (folder / GRID_FILE).write_text(GRID.model_dump_json())
    (folder / SERVED_FILE).write_text(ServedMerge(static=STATIC, routed=False).model_dump_json())
    return folder


@pytest.fixture(scope="module")
def axes_suite(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    home = tmp_path_factory.mktemp("axes-suite")
    options = f"{ENGINE_OPTIONS} {' '.join(GRID.vllm_options(folder))}"
    for url in serve_model(TINY_MODEL, home / "engine.log", options):
        settings = {
            "ALIGNX_ENGINE__URL": url,
            "ALIGNX_AXES__FOLDER": str(folder),
            "ALIGNX_ENGINE__CHOOSE": "likelihood",
            "ALIGNX_SUMMARY__MAX_TOKENS": "96",
            "ALIGNX_ENGINE__FIRST_TOKEN_TIMEOUT_S": "60",
        }
        with Suite(home, settings).running() as suite:
            yield suite


def test_weights_choose_the_adapter_that_writes(axes_suite: Suite) -> None:
    with axes_suite.client() as client:

        def ask(weights: dict[str, float] | None) -> tuple[str, str, str]:
            """The adapter, the engine's own name of what answered, and the text."""
            personalization = {"mode": "none", **({"axes": weights} if weights else {})}
            turns = [{"role": "user", "content": "How do I boil an egg?"}]
            body = {"messages": turns, "max_tokens": 12, "temperature": 0, "personalization": personalization}
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            document = answer.json()
            used = document["personalization"]["axes"]
            return used["adapter"], document["model"], document["choices"][0]["message"]["content"]

        helpful, harmless, static = ask({"helpful": 0.7, "honest": 0.3}), ask({"harmless": 1}), ask(None)
        assert [answer[:2] for answer in (helpful, harmless, static)] == [
            (name, name) for name in ("axes-100-0-0", "axes-0-100-0", STATIC)
        ]
        assert len({helpful[2], harmless[2], static[2]}) == 3
        assert ask({"helpful": 0.7, "honest": 0.3}) == helpful
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [TINY_MODEL.name]

        assert axes_suite.tell("ada", *[EVENT] * 4)["version"] == 1
        assert client.get("/v1/users/ada/preferences").json()["source"] == f"llm:{TINY_MODEL.name}"
    counted = re.findall(
        r'alignx_axes_chats_total\{adapter="([^"]+)",chosen="(\w+)"\} (\d)', axes_suite.metrics("response")
    )
    assert sorted(counted) == [
        ("axes-0-0-100", "static", "1"), ("axes-0-100-0", "requested", "1"), ("axes-100-0-0", "requested", "2")
    ]  # fmt: skip


def test_the_engine_chooses_by_likelihood_and_goes_on(axes_suite: Suite) -> None:
    """A vLLM on a CPU whose head takes adapters ends at the first request for the likelihoods of a prompt."""
    with axes_suite.client() as client:
        assert client.post("/v1/users/ben/events", json={"events": [EVENT]}).is_success
        body = {"query": "dinner", "items": ["a tomato soup", "a green salad"], "method": "engine"}
        chosen = client.post("/v1/users/ben/select", json=body)
        assert (chosen.status_code, chosen.json().get("method")) == (200, "engine"), chosen.text
        chat = {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 2}
        assert client.post("/v1/chat/completions", json=chat).status_code == 200


def test_what_vllm_lists_first_is_the_base(axes_suite: Suite) -> None:
    """Calls that name no adapter ask for the first model of the list."""
    listed = httpx.get(f"{axes_suite.environment['ALIGNX_ENGINE__URL']}/models").json()["data"]
    assert [model["id"] for model in listed] == [TINY_MODEL.name, *(point.name for point in GRID.points)]
