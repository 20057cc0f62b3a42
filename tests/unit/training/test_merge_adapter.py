"""What `make up` serves of an adapter is what PEFT would make of it; it is made once, and never served half made."""

import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from docker.merge_adapter import MergeError, merged_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft reads a name that transformers renamed
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """A LoRA adapter with random weights, of rank 4 and scale 2."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_it_is_what_peft_makes(base: Path, adapter: Path, tmp_path: Path) -> None:
    merged = merged_checkpoint(adapter, tmp_path / "models")
    wanted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained(merged).state_dict(), wanted.state_dict())
    for name in ("config.json", "tokenizer.json"):
        assert (merged / name).read_bytes() == (base / name).read_bytes()


def test_it_is_made_once_and_anew_from_changed_weights(adapter: Path, tmp_path: Path) -> None:
    merged = merged_checkpoint(adapter, tmp_path / "models")
    assert merged == tmp_path / "models" / "adapter"
    (merged / "kept").touch()
    assert (merged_checkpoint(adapter, tmp_path / "models") / "kept").exists()
    doubled = {name: 2 * tensor for name, tensor in load_file(adapter / WEIGHTS).items()}
    save_file(doubled, adapter / WEIGHTS)
    assert not (merged_checkpoint(adapter, tmp_path / "models") / "kept").exists()


def test_nothing_half_made_is_taken(adapter: Path, tmp_path: Path) -> None:
    merged = merged_checkpoint(adapter, tmp_path / "models")
    whole = (merged / "model.safetensors").read_bytes()
    (merged / "model.safetensors").write_bytes(b"half")
    shutil.copytree(merged, merged.with_name("adapter.part"))  # as after a kill while it is written
    merged.rename(merged.with_name("adapter.old"))  # as after a kill while it is put into place
    assert merged_checkpoint(adapter, tmp_path / "models") == merged
    assert (merged / "model.safetensors").read_bytes() == whole
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["adapter"]


def test_a_folder_that_was_not_made_here_stays(adapter: Path) -> None:
    with pytest.raises(MergeError, match="was not made here"):
        merged_checkpoint(adapter, adapter.parent)
    assert (adapter / WEIGHTS).is_file()


def test_what_cannot_be_merged_is_refused(adapter: Path, tmp_path: Path) -> None:
    config = adapter / "adapter_config.json"
    values = json.loads(config.read_text())
    for change, message in (
        ({"use_dora": True}, "Only plain LoRA"),
        ({"base_model_name_or_path": "some/other"}, "an adapter for some/other, and there is no such folder"),
    ):
        config.write_text(json.dumps(values | change))
        with pytest.raises(MergeError, match=message):
            merged_checkpoint(adapter, tmp_path / "models")
    config.write_text(json.dumps(values))
    weights = {name: tensor.clone() for name, tensor in load_file(adapter / WEIGHTS).items()}
    save_file(weights | {"base_model.model.head.lora_A.weight": torch.ones(1)}, adapter / WEIGHTS)
    with pytest.raises(MergeError, match=r"no weight for base_model\.model\.head\.lora_A\.weight"):
        merged_checkpoint(adapter, tmp_path / "models")
    assert not (tmp_path / "models" / "adapter").exists()
