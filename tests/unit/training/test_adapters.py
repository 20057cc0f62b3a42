"""Adapters that runs start from, runs in parts, and the adapter that is cut from a finished checkpoint."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tests.unit.training.small_runs import SFT, losses, write_config
from training.checkpoint import load_adapter
from training.config import PART_ENDED, load, run_script
from training.exceptions import CheckpointError, PartEnded
from training.runs.extract_adapter import AdapterConfig, extract
from training.sft import SftConfig, sft

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and transformers about their own futures

ADAPTER = """
stage = "adapter"
base = "{base}"
model = "{model}"
name = "base"
rank = 4
output = "{output}"
"""
LORA = ["model.lora.rank=4", "optim.learning_rate=0.05"]


@pytest.fixture
def adapter(tmp_path: Path, base: Path, sft_rows: Path) -> Path:
    config = load(write_config(tmp_path / "first", SFT, model=base, data=sft_rows), SftConfig, LORA)
    sft(config)
    return config.run.output.with_name("out.adapter")


def test_a_run_goes_on_from_an_adapter(sft_config: Path, adapter: Path) -> None:
    fresh = load(sft_config, SftConfig, LORA)
    sft(fresh)
    started = load(
        sft_config, SftConfig, [*LORA, f"model.lora.start={adapter}", f"run.output={sft_config.parent}/second"]
    )
    sft(started)
    assert losses(started.run.output)[0] < losses(fresh.run.output)[0] - 0.02


@pytest.mark.parametrize(
    ("override", "told"), [("model.lora.rank=8", "has rank 4"), ("model.lora.targets=['q_proj']", "other layers")]
)
def test_an_adapter_of_another_shape_is_refused(sft_config: Path, adapter: Path, override: str, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        sft(load(sft_config, SftConfig, [*LORA, override, f"model.lora.start={adapter}"]))


def test_a_part_ends_at_a_checkpoint_and_the_same_command_ends_the_run(
    sft_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PartEnded, match="step 3 of 6"):
        sft(load(sft_config, SftConfig, ["run.hours=1e-9"]))
    with pytest.raises(SystemExit) as ended:
        run_script(SftConfig, sft, [str(sft_config), "run.hours=1e-9", f"run.output={sft_config.parent}/other"])
    assert ended.value.code == PART_ENDED
    assert "the same command goes on" in capsys.readouterr().out
    loaded = load(sft_config, SftConfig)
    assert sft(loaded)["steps"] == 6
    assert len(losses(loaded.run.output)) == 6


def test_the_extracted_adapter_on_its_base_is_the_checkpoint(sft_config: Path, base: Path) -> None:
    loaded = load(sft_config, SftConfig, [*LORA, "run.final_weights='float32'"])
    sft(loaded)
    output = sft_config.parent / "extracted"
    path = sft_config.parent / "adapter.toml"
    path.write_text(ADAPTER.format(base=base, model=loaded.run.output, output=output), encoding="utf-8")
    extract(load(path, AdapterConfig))
    ids = torch.arange(30)[None]
    merged = AutoModelForCausalLM.from_pretrained(loaded.run.output)(ids).logits
    for shard in output.glob("*.safetensors"):
        assert shard.stat().st_size < 1e6
    assert json.loads((output / "adapter_config.json").read_text())["r"] == 4
    assert torch.allclose(rebuild(base, output)(ids).logits, merged, atol=0.05)


def rebuild(base: Path, adapter: Path) -> torch.nn.Module:
    """Base and adapter as serving merges them."""

    settings = json.loads((adapter / "adapter_config.json").read_text())
    shape = LoraConfig(r=settings["r"], lora_alpha=settings["lora_alpha"], target_modules=settings["target_modules"])
    model: PeftModel = get_peft_model(AutoModelForCausalLM.from_pretrained(base), shape)
    load_adapter(model, adapter)
    return model


def test_a_checkpoint_that_differs_elsewhere_is_no_adapter(sft_config: Path, base: Path) -> None:
    loaded = load(sft_config, SftConfig)
    sft(loaded)
    path = sft_config.parent / "adapter.toml"
    path.write_text(ADAPTER.format(base=base, model=loaded.run.output, output="-"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="is no projection"):
        extract(load(path, AdapterConfig))
