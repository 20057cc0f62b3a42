"""The AlignX family's own files: each is read as a row of a known kind, trains a step, or is refused with its reason.

The samples here are our own, of the published structure; ../shared/cases/family has one of every file.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import AutoTokenizer

from services.prompts.profiles import load_profile
from tests.unit.training.data.published_rows import TRUTH, cold_start, parquet_row, part
from tests.unit.training.data.rows import alignx, triple
from tests.unit.training.small_runs import DPO, SFT, write_config
from tests.unit.training.test_grpo import CONFIG
from training.config import load
from training.data.formats import KINDS, AlignXploreRow, BehavioursRow, PairRow, RlRow, Row
from training.data.inspect import inspect
from training.data.preference_pairs import PairEncoder
from training.data.published import RefusedRow, kind_of, to_known
from training.data.reading import read, sample
from training.dpo import DpoConfig, dpo
from training.exceptions import DatasetError
from training.grpo import GrpoConfig, grpo
from training.rl.rows import Grpo, paired_rows, single_rows
from training.sft import SftConfig, sft
from training.synthesis.source_users import Users

FORMATS = Path(__file__).resolve().parents[5] / "shared" / "cases" / "family" / "formats"
KIND_OF_FILE = {
    "alignx/alignx_test.json": "alignx",
    "alignx/psoups.json": "alignx",
    "alignx/train.json": "pairs",
    "alignxplore/eval_data.json": "alignx",
    "alignxplore/cold_start.json": "sft",
    "alignxplore/rl_train.json": "alignxplore",
    "alignxplore/rl_train_gen_reward.json": "alignxplore",
    "alignxplore/streaming_rl_train.json": "rl",
    "alignxploreplus/AlignX.train.jsonl": "behaviours",
    "alignxploreplus/Amazon.train.jsonl": "behaviours",
    "alignxploreplus/MIND.train.jsonl": "behaviours",
    "alignxploreplus/MovieLens.train.jsonl": "behaviours",
    "alignxploreplus/MIND_with_signal.jsonl": "behaviours",
    "alignxploreplus/rl_train.parquet": "rl",
    "alignxploreplus/rl_train_parquet_rows.json": "rl",
    "alignxploreplus/sample_once_test_easy.jsonl": "rl",
    "alignxploreplus/sft.jsonl": "sft",
}
REASON_OF_FILE = {
    "alignx/eval_data_gen.jsonl": "a result of the public evaluation",
    "alignx/eval_data_loss.jsonl": "a result of the public evaluation",
    "alignxplore/ans.json": "a result of the public evaluation",
    "alignxplore/pref_saved.json": "a result of the public evaluation",
    "alignxploreplus/LaMP-QA.train.jsonl": "behaviors without a rejected item",
    "alignxploreplus/LongLaMP.train.jsonl": "behaviors without a rejected item",
    "alignxploreplus/sample_once.jsonl": "one choice and its scores",
    "alignxploreplus/signal_sft.jsonl": "token positions of one tokenizer",
    "alignxploreplus/stage1_MIND_stage_1_1.jsonl": "a step of the public synthesis",
    "alignxploreplus/stage2_MIND_stage_2_1.jsonl": "a step of the public synthesis",
    "alignxploreplus/results/direct_v2_mind_upi.json": "a result of the public evaluation",
    "alignxploreplus/results/mind_upi_result_Qwen3_8B.json": "a result of the public evaluation",
    "alignxploreplus/results/student_phd_upi_result_Qwen3_8B.json": "a result of the public evaluation",
    "alignxploreplus/results/performance_Qwen3-8B.txt": "looks like no known kind",
}

# --- our own samples ---------------------------------------------------------------------------


def llama(system: str, user: str) -> str:
    turns = "".join(
        f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}\n<|eot_id|>"
        for role, text in (("system", system), ("user", user))
    )
    return f"{turns}<|start_header_id|>assistant<|end_header_id|>"


PROMPTS = {"ica_prompt": llama("By history.", "Post\n\n1. a"), "pba_prompt": llama("By preferences.", "Likes law")}
TWO_PROMPTS = {**PROMPTS, "chosen": "good", "rejected": "bad"}


def behaviours(topic: str, *, rejected: bool = True) -> dict[str, Any]:
    chosen = [triple(number) | {"query": None} for number in range(9)]
    if not rejected:
        chosen = [choice | {"rejected": None} for choice in chosen]
    return {"uid": 7, "task": "which\n\n", "prompt": "items", "topic": topic, "behaviors": chosen}


def typed(value: object) -> Row:
    row = to_known(value)
    return KINDS[kind_of([row])].model_validate(row)


def write(folder: Path, *rows: object) -> Path:
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder / "rows.json"


# --- each of them ------------------------------------------------------------------------------


def test_a_pair_of_objects_is_an_alignxplore_row_with_its_history_read_from_the_text():
    row = typed([part(1, 2, 3), TRUTH])
    assert isinstance(row, AlignXploreRow)
    assert [choice.texts() for choice in row.history] == [
        (f"query {number}", f"chosen\n\n{number}", f"rejected {number}") for number in (1, 2, 3)
    ]
    assert row.target().texts() == ("task", "right", "wrong")
    (made,) = single_rows([row], 4_000, load_profile("alignxplore-plus"))
    assert made["prompt"][1]["content"].count("=====Triple ") == 3
    assert "right" not in made["prompt"][1]["content"]


def test_a_streamed_history_is_an_rl_row_whose_stages_never_see_the_last_choice():
    row = typed([{"history": [part(1, 2), part(3, 4, 5)]}, TRUTH])
    assert isinstance(row, RlRow)
    assert [choice.query for choice in row.history] == [*(f"query {number}" for number in range(1, 6)), "task"]
    assert (row.mid_position, row.first_target.query) == (2, "query 3")
    first, second = paired_rows([row], Grpo(reward="streaming"))
    assert "right" not in json.dumps([first["prompt"], second["prompt"]])


@pytest.mark.parametrize("value", ["no history", "Q\n\n1. *Post:*\na\n\n*Comment:*\nb\n\n"])
def test_a_text_without_choices_is_refused(value: str):
    with pytest.raises(RefusedRow, match="value: a history of posts"):
        to_known([{**part(1), "value": value}, TRUTH])


def test_behaviours_are_users_and_their_topic_asks_for_what_no_query_asks(tmp_path: Path):
    prompts = load_profile("alignxplore-plus")
    asked = {}
    for topic in ("news", "book", "movie"):
        path = write(tmp_path, behaviours(topic))
        (user,) = Users(path)
        assert (user.uid, len(user.history)) == ("7", 9), "no choice is kept back as a target"
        prompt = prompts.update_prompt(None, user.history, past_tokens=1).messages[1]["content"]
        assert "None" not in prompt
        asked[topic] = prompt.partition("*QUERY:*\n")[2].partition("\n*****")[0].strip()
    assert len(set(asked.values())) == 3
    assert "news" in asked["news"]
    assert "book" in asked["book"]
    assert "film" in asked["movie"]


def test_scored_behaviours_are_users_without_their_scores():
    scored = {"uid": "u", "history": [{"item": triple(1), "logprob1": -0.1, "pref_idx": 9, "hid": 0}]}
    row = typed(scored)
    assert isinstance(row, BehavioursRow)
    assert [choice.texts() for choice in row.history] == [tuple(triple(1).values())]


def test_a_row_of_verls_parquet_is_an_rl_row():
    row = typed(parquet_row())
    assert isinstance(row, RlRow)
    assert (row.uid, row.mid_position, row.first_target.query, row.target().query) == ("u1", 1, "query 1", "query 3")


def test_one_file_holds_the_prompts_of_both_modes(base: Path):
    row = typed(TWO_PROMPTS)
    assert isinstance(row, PairRow)
    tokenizer = AutoTokenizer.from_pretrained(base)
    shown = [
        tokenizer.decode(PairEncoder(tokenizer, max_length=900, bridged=bridged).encode([row])[0]["prompt_ids"])
        for bridged in (False, True)
    ]
    assert "Post\n\n1. a" in shown[0]
    assert "Likes law" not in shown[0]
    assert "Likes law" in shown[1]
    assert "start_header_id" not in "".join(shown)
    without = row.model_copy(update={"bridged": None})
    assert PairEncoder(tokenizer, max_length=900, bridged=True).encode([without]) == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (behaviours("product_review", rejected=False), "texts to write, not choices"),
        ({"uid": "u", "original_history_item": triple(1), "logprob1": -0.1}, "one choice and its scores"),
        ({"text": "<preference> A", "indices": [3]}, "token positions"),
        (
            {"uid": "u", "history": [], "stage1": [], "reasoning_preference_list_1": []},
            "a step of the public synthesis",
        ),
        ({**alignx(), "format": "text", "idx": 0, "response": "text"}, "a result of the public evaluation"),
        ({"idx": 0, "instruction": "text", "selection": "Item A"}, "a result of the public evaluation"),
    ],
)
def test_what_no_stage_can_use_is_refused_with_its_reason(tmp_path: Path, row: dict[str, Any], reason: str):
    path = write(tmp_path, row)
    with pytest.raises(DatasetError, match=reason):
        sample(path)
    with pytest.raises(DatasetError, match=reason):
        list(read(path, BehavioursRow))
    mixed = write(tmp_path, behaviours("news"), row)
    (counted,) = inspect(mixed, BehavioursRow, Console(stderr=True)).malformed
    assert reason in counted


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["pairs", "pairs-pba"])
def test_train_json_trains(tmp_path: Path, base: Path, mode: str):
    data = write(tmp_path, *[TWO_PROMPTS] * 4)
    config = write_config(tmp_path, DPO, model=base, data=data)
    steps = ["optim.max_steps=1", "optim.batch=4", "run.save_every=1"]
    assert dpo(load(config, DpoConfig, [f"dpo.mode={mode}", *steps]))["steps"] == 1


@pytest.mark.filterwarnings("ignore")
def test_a_cold_start_trains_as_raw_text(tmp_path: Path, base: Path):
    config = write_config(tmp_path, SFT, model=base, data=write(tmp_path, *[cold_start()] * 4))
    steps = ["optim.max_steps=1", "optim.batch=4", "run.save_every=1"]
    assert sft(load(config, SftConfig, steps))["steps"] == 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("reward", "row"),
    [
        ("jud", [part(1, 2), TRUTH]),
        ("gen", [part(1, 2) | {"chosen_log": -2.0, "rejected_log": -3.0}, TRUTH]),
        ("streaming", [{"history": [part(1, 2), part(3, 4)]}, TRUTH]),
        ("streaming", parquet_row()),
    ],
)
def test_rl_files_train(tmp_path: Path, base: Path, reward: str, row: Any):
    config = tmp_path / "run.toml"
    data = write(tmp_path, *[row] * 4)
    config.write_text(CONFIG.format(model=base, data=data, reward=reward, output=tmp_path / "out"), encoding="utf-8")
    assert grpo(load(config, GrpoConfig, ["optim.max_steps=1", "run.save_every=1"]))["steps"] == 1


# --- one of every published file ---------------------------------------------------------------


@pytest.fixture
def formats() -> Path:
    if not FORMATS.is_dir():
        pytest.skip("../shared/cases/family is absent: this test reads a sample of every published file")
    return FORMATS


def test_every_published_file_is_read_or_refused(formats: Path):
    files = {str(file.relative_to(formats)) for file in formats.rglob("*.*") if file.name != "README.md"}
    upi = {name for name in files if "/benchmark/" in name or "/preferences/" in name}
    kinds = KIND_OF_FILE | dict.fromkeys(upi, "upi")
    assert files == kinds.keys() | REASON_OF_FILE.keys()
    for name, kind in kinds.items():
        figures = inspect(formats / name, KINDS[kind_of(sample(formats / name))], Console(stderr=True))
        assert (name, figures.kind, figures.malformed) == (name, kind, {})
    for name, reason in REASON_OF_FILE.items():
        with pytest.raises(DatasetError, match=reason):
            list(read(formats / name, KINDS["upi"]))
