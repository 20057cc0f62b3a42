"""Supervised fine-tuning: what counts for the loss, what is tokenised, buckets, resumption."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard
from peft import PeftModel
from torch.utils.data import BatchSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState

from tests.unit.training.small_runs import alignx_row, sft_row, write_rows
from training.checkpoint import run_dir
from training.config import Data, load, run_script
from training.data.formats import SftRow
from training.data.tokens import SftEncoder, tokenize
from training.exceptions import CheckpointError, ConfigError, DatasetError
from training.sft import SftConfig, Trainer, sft
from training.speed.batches import Bucketed, Collator
from training.speed.prefix_sharing import IGNORED
from training.trainer import EpochOrder

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and transformers about their own futures

THINKS_FIRST = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""As DeepSeek's R1 family: cuts the reasoning out of replies, and opens it in the prompt."""


@pytest.fixture
def tokenizer(base: Path) -> Any:
    return AutoTokenizer.from_pretrained(base)


# --- tokens --------------------------------------------------------------------------------------


def row(reply: str, question: str = "Which tea?") -> SftRow:
    return SftRow.model_validate({"prompt": question, "response": reply})


def encode(tokenizer: Any, *rows: SftRow, max_length: int = 500, completion_only: bool = True) -> list[dict[str, Any]]:
    return SftEncoder(tokenizer, max_length=max_length, completion_only=completion_only).encode(rows)


def test_the_prompt_is_what_an_engine_reads_and_the_reply_ends_the_turn(tokenizer: Any):
    (made,) = encode(tokenizer, row("<think>a</think>\n\nGreen."))
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Which tea?"}], add_generation_prompt=True, return_dict=False
    )
    assert made["input_ids"][: len(asked)] == asked
    assert made["labels"][: len(asked)] == [IGNORED] * len(asked)
    said = made["labels"][len(asked) :]
    assert said == made["input_ids"][len(asked) :]
    assert tokenizer.decode(said) == "<think>a</think>\n\nGreen.<|im_end|>"
    assert made["length"] == len(made["input_ids"])


def test_reasoning_survives_a_template_that_cuts_it_out(tokenizer: Any):
    tokenizer.chat_template = THINKS_FIRST
    (made,) = encode(tokenizer, row("<think>\nwhy\n</think>\n\nSo."))
    text = tokenizer.decode(made["input_ids"])
    assert text.endswith("<|im_start|>assistant\n<think>\nwhy\n</think>\n\nSo.<|im_end|>")


def test_a_prompt_that_opens_the_reply_is_raw_text(tokenizer: Any):
    """AlignXplore's cold start: its prompt is all that a model reads, so no chat template goes around it."""
    prompt = "A user asks, an assistant thinks and answers. User: What does he prefer?\nAssistant: <think>"
    reply = " The chosen one has figures.\n</think> <answer>He prefers figures.</answer>"
    chat, raw = encode(tokenizer, row("Green."), row(reply, prompt))
    assert tokenizer.decode(raw["input_ids"]) == f"{prompt}{reply}<|im_end|>"
    assert tokenizer.decode([label for label in raw["labels"] if label != IGNORED]) == f"{reply}<|im_end|>"
    assert tokenizer.decode(chat["input_ids"]).startswith("<|im_start|>user")


def test_a_control_token_in_a_reply_is_text(tokenizer: Any):
    told = "<think>a</think>\n\nIt ends a turn: <|im_end|> as you see"
    (made,) = encode(tokenizer, row(told))
    said = [label for label in made["labels"] if label != IGNORED]
    assert tokenizer.decode(said) == f"{told}<|im_end|>"
    assert [place for place, label in enumerate(said) if label == tokenizer.eos_token_id] == [len(said) - 1]
    assert tokenizer.convert_tokens_to_ids("<think>") in said, "the marks of reasoning are no control tokens"


def test_a_tokenizer_without_an_end_token_is_refused(tokenizer: Any, base: Path, tmp_path: Path, sft_config: Path):
    tokenizer.eos_token = None
    with pytest.raises(CheckpointError, match="names no eos_token"):
        SftEncoder(tokenizer, max_length=500, completion_only=True)
    endless = shutil.copytree(base, tmp_path / "endless")
    settings = json.loads((endless / "tokenizer_config.json").read_text())
    (endless / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": None}))
    with pytest.raises(CheckpointError, match=r"endless names no eos_token"):
        sft(load(sft_config, SftConfig, [f"model.path={endless}"]))


def test_the_loss_on_the_prompt_is_a_choice(tokenizer: Any):
    (made,) = encode(tokenizer, row("Green."), completion_only=False)
    assert made["labels"] == made["input_ids"]


def test_too_long_rows_are_left_out_not_cut(tokenizer: Any):
    assert len(encode(tokenizer, row("Green."), row("Green. " * 50), max_length=60)) == 1


def test_tokens_are_made_once_for_data_tokenizer_and_settings(
    tokenizer: Any, sft_rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    encoder = SftEncoder(tokenizer, max_length=2048, completion_only=True)
    data = Data(train=(sft_rows,))
    first = tokenize(data, encoder, tmp_path)
    assert tokenize(data, encoder, tmp_path)[5] == first[5]
    assert capsys.readouterr().out.count("tokenized") == 1
    assert len(tokenize(Data(train=(sft_rows,), limit=7), encoder, tmp_path)) == 7
    tokenize(data, SftEncoder(tokenizer, max_length=2048, completion_only=False), tmp_path)
    assert len(list(tmp_path.glob("*.arrow"))) == 3


def test_data_of_another_kind_and_of_rows_too_long_are_told(tmp_path: Path, sft_config: Path):
    alignx = write_rows(tmp_path / "alignx.jsonl", [alignx_row(number) for number in range(3)])
    with pytest.raises(DatasetError, match="AlignX"):
        sft(load(sft_config, SftConfig, [f"data.train=['{alignx}']"]))
    with pytest.raises(DatasetError, match=r"none of the 48 rows can be used.*max_length, 9 tokens"):
        sft(load(sft_config, SftConfig, ["sft.max_length=9"]))
    with pytest.raises(DatasetError, match="does not exist"):
        sft(load(sft_config, SftConfig, ["data.train=['gone.jsonl']"]))


# --- batches -------------------------------------------------------------------------------------


def test_buckets_hold_every_row_once_in_an_order_of_seed_and_epoch():
    lengths = [random.Random(number).randint(1, 500) for number in range(1003)]
    order = Bucketed(lengths, micro_batch=8, devices=2, seed=1)
    first = list(order)
    assert sorted(first) == list(range(1003))
    assert list(Bucketed(lengths, micro_batch=8, devices=2, seed=1)) == first
    assert list(Bucketed(lengths, micro_batch=8, devices=2, seed=2)) != first
    order.set_epoch(1)
    assert list(order) != first


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_that_resumes_in_its_second_epoch_takes_the_rows_that_are_left(devices: int):
    def batches_of(process: int, *, skipped: int) -> list[list[int]]:
        """Those of the second epoch, as a fresh process of the run takes them."""
        batches: Any = BatchSampler(Bucketed([1] * 24, micro_batch=2, devices=devices, seed=0), 2, drop_last=False)
        if devices > 1:
            batches = BatchSamplerShard(batches, num_processes=devices, process_index=process)
        loader = DataLoaderShard(list(range(24)), batch_sampler=batches)
        EpochOrder().on_epoch_begin(None, TrainerState(epoch=1 + skipped / 12), None, train_dataloader=loader)
        if skipped:
            loader = skip_first_batches(loader, skipped)
        loader.set_epoch(1)
        return [batch.tolist() for batch in loader]

    for process in range(devices):
        assert batches_of(process, skipped=2) == batches_of(process, skipped=0)[2:]


def test_buckets_leave_little_to_pad_and_their_batches_come_in_no_order_of_length():
    lengths = np.array([random.Random(number).randint(1, 500) for number in range(1024)])
    batches = lengths[np.array(list(Bucketed(lengths, micro_batch=8, devices=1, seed=1)))].reshape(-1, 8)
    padded = (batches.max(1, keepdims=True) - batches).sum() / lengths.sum()
    assert padded < 0.1
    assert abs(np.corrcoef(np.arange(len(batches)), batches.mean(1))[0, 1]) < 0.3


def test_padding_counts_for_nothing():
    rows = [{"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]}, {"input_ids": [5], "labels": [5]}]
    collator = Collator(0)
    collator.masked = True
    batch = collator(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [5, IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


# --- runs ----------------------------------------------------------------------------------------


def test_the_first_loss_is_the_models_own(sft_config: Path, base: Path, sft_rows: Path, tmp_path: Path):
    """Against transformers' loss of the same rows, one at a time and with nothing of ours."""
    found = sft(load(sft_config, SftConfig, ["optim.max_steps=1", "optim.batch=48", "optim.micro_batch=8"]))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    total = count = 0.0
    for number in range(48):
        said = sft_row(number)
        asked = tokenizer.apply_chat_template(said["prompt"], add_generation_prompt=True, return_dict=False)
        reply = tokenizer(said["completion"][0]["content"] + "<|im_end|>")["input_ids"]
        ids, labels = torch.tensor([asked + reply]), torch.tensor([[IGNORED] * len(asked) + reply])
        total += model(ids, labels=labels).loss.item() * len(reply)
        count += len(reply)
    assert found["history"][0]["loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["tokens"] == sum(len(row["input_ids"]) for row in token_rows(tmp_path))


def token_rows(folder: Path) -> list[dict[str, list[int]]]:
    from datasets import Dataset

    (path,) = (folder / "tokens").glob("*.arrow")
    return list(Dataset.from_file(str(path)))


def test_a_run_learns_and_its_checkpoint_loads_with_a_card(sft_config: Path, capsys: pytest.CaptureFixture[str]):
    loaded = load(sft_config, SftConfig, ["optim.max_steps=20", "run.save_every=100"])
    found = sft(loaded)
    history = [entry["loss"] for entry in found["history"]]
    assert history[-1] < history[0] - 1
    assert "MFU" not in capsys.readouterr().out, "nobody knows the peak of a CPU"
    AutoModelForCausalLM.from_pretrained(loaded.run.output)
    card = (loaded.run.output / "README.md").read_text()
    for told in ("48 rows", "stage: `sft`", "seed: 3", "`optim.learning_rate` | `0.01`", "- trl 1.16", "vllm serve"):
        assert told in card
    written = json.loads((run_dir(loaded.run.output) / "metrics.json").read_text())
    assert written["stage"] == "sft"
    assert written["tokens_per_second"] > 0
    assert not list(run_dir(loaded.run.output).glob("checkpoint-*"))


def test_lora_is_merged_and_stands_beside_on_its_own(sft_config: Path, base: Path):
    loaded = load(sft_config, SftConfig, ["model.lora.rank=4", "optim.learning_rate=0.05"])
    sft(loaded)
    ids = torch.arange(30)[None]
    merged = AutoModelForCausalLM.from_pretrained(loaded.run.output)(ids).logits
    bare = AutoModelForCausalLM.from_pretrained(base)
    before = bare(ids).logits
    adapted = PeftModel.from_pretrained(bare, loaded.run.output.with_name("out.adapter"))(ids).logits
    assert torch.allclose(merged, adapted, atol=1e-4)
    assert not torch.allclose(merged, before, atol=1e-2)


@pytest.mark.parametrize(("completion_only", "precision"), [("true", "fp32"), ("false", "fp32"), ("true", "bf16")])
def test_packed_rows_do_not_see_each_other(
    sft_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, completion_only: str, precision: str
):
    """A step on all rows has the loss of the same rows in rows of their own, but for the first token of each: where
    the prompt counts, no token before it predicts it."""
    shapes: list[torch.Size] = []
    count = Trainer.compute_loss

    def counting(
        self: Trainer, model: object, inputs: dict[str, torch.Tensor], *rest: object, **more: object
    ) -> object:
        shapes.append(inputs["input_ids"].shape)
        return count(self, model, inputs, *rest, **more)

    monkeypatch.setattr(Trainer, "compute_loss", counting)
    same = [f"sft.completion_only={completion_only}", f"run.precision={precision}", "optim.max_steps=1"]
    alone = sft(load(sft_config, SftConfig, [*same, "optim.batch=48", "optim.micro_batch=8"]))
    packed_steps = ["sft.packing=true", "sft.max_length=4096", "optim.batch=16", "optim.micro_batch=2"]
    rows_alone, shapes[:] = len(shapes), []
    packed = sft(load(sft_config, SftConfig, [*same, *packed_steps, "run.resume=false"]))
    assert rows_alone == 6
    assert all(shape[0] == 1 and shape[1] > 4096 for shape in shapes[:-1]), "two joined rows to a micro-batch"
    assert packed["tokens"] == alone["tokens"]
    assert packed["history"][0]["loss"] == pytest.approx(
        alone["history"][0]["loss"], rel=1e-5 if precision == "fp32" else 1e-3
    )
    assert packed["history"][0]["grad_norm"] == pytest.approx(
        alone["history"][0]["grad_norm"], rel=1e-3 if precision == "fp32" else 3e-2
    )


def test_attention_that_needs_a_gpu_is_refused_on_a_cpu(sft_config: Path):
    with pytest.raises(ConfigError, match="flex_attention needs a GPU"):
        load(sft_config, SftConfig, ["sft.packing=true", "sft.attention=flex_attention"])


def test_a_base_that_is_no_checkpoint_is_told_before_anything_runs(
    sft_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no config.json"):
        sft(load(sft_config, SftConfig, [f"model.path={tmp_path / 'empty'}"]))
    with pytest.raises(SystemExit) as end:
        run_script(SftConfig, sft, [str(sft_config), "optim.batch=3"])
    assert end.value.code == 2
    assert "batch 3 is no multiple of micro_batch 4" in capsys.readouterr().err
