import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.utils.dataset.rl_dataset import RLHFDataset

from alignx.schemas.interactions import ComparisonInteraction
from services.prompts.build import update_prompt
from tests.unit.training.verl.conftest import rl_row
from training.data.reading import ReadReport
from training.exceptions import DatasetError
from training.verl.fitting import fit_prompt
from training.verl.make_parquet import Counts, ParquetConfig, main, split_of, tokenizer_count, write


def comparison(triple: dict[str, str]) -> ComparisonInteraction:
    return ComparisonInteraction(**triple)


def rows_file(folder: Path, rows: list[Any]) -> Path:
    path = folder / "rl.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def convert(source: Path, out: Path, **settings: Any) -> Counts:
    return write(ParquetConfig(stage="verl_parquet", data=source, output=out, **settings), ReadReport())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "parquet.toml"
    path.write_text(
        f'stage = "verl_parquet"\ndata = "{tmp_path}/rl.jsonl"\noutput = "{tmp_path}/out"\nval_share = 0.3\n'
    )
    return path


def test_a_row_becomes_the_prompt_of_stage_1_and_what_stage_2_needs(tmp_path: Path):
    row = rl_row("u", events=7, middle=3)
    source = rows_file(tmp_path, [row, *(rl_row(str(i)) for i in range(60))])
    counts = convert(source, tmp_path / "out", val_share=0.2)
    split = split_of("u", 0.2)
    [made] = [
        made
        for made in pq.read_table(tmp_path / f"out/{split}.parquet").to_pylist()
        if made["extra_info"]["index"] == 0
    ]
    history = row["history"]
    expected = update_prompt(None, list(map(comparison, history[:3])), past_tokens=1024).messages
    assert made["prompt"] == expected
    assert made["extra_info"]["target1"] == history[3]
    assert made["extra_info"]["later"] == history[3:-1]
    assert made["extra_info"]["target2"] == history[-1]
    assert made["extra_info"]["split"] == split
    assert counts.train + counts.val == 61
    assert 0 < counts.val < 30


def test_verl_reads_the_files(tmp_path: Path, checkpoint: Path):
    convert(rows_file(tmp_path, [rl_row(str(i)) for i in range(40)]), tmp_path / "out", val_share=0.3)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    options = {"max_prompt_length": 8192, "filter_overlong_prompts": True, "cache_dir": str(tmp_path / "cache")}
    data = RLHFDataset(str(tmp_path / "out/train.parquet"), tokenizer, OmegaConf.create(options))
    item = data[0]
    assert [message["role"] for message in item["raw_prompt"]] == ["system", "user"]
    assert item["index"] == item["extra_info"]["index"]
    assert item["extra_info"]["later"][0].keys() == {"query", "chosen", "rejected"}


def test_the_oldest_triples_are_dropped_and_the_instruction_stays(tmp_path: Path, checkpoint: Path):
    row = rl_row("u", events=60, middle=40, words=30)
    count = tokenizer_count(str(checkpoint))
    history = list(map(comparison, row["history"]))
    messages, kept = fit_prompt(None, history[:40], past_tokens=64, limit=1500, count=count)
    assert count(messages) <= 1500
    assert 0 < len(kept) < 40
    assert list(kept) == history[40 - len(kept) : 40]
    assert messages[0] == update_prompt(None, history, past_tokens=64).messages[0]
    source = rows_file(tmp_path, [row, *(rl_row(str(i)) for i in range(30))])
    exact = {"prompt_tokens": 1500, "past_tokens": 64, "tokenizer": str(checkpoint)}
    counts = convert(source, tmp_path / "out", val_share=0.3, **exact)
    assert counts.shortened == 1


def test_a_limit_that_holds_no_event_is_named(checkpoint: Path):
    history = [comparison(rl_row("u")["history"][0])]
    with pytest.raises(ValueError, match="100 tokens"):
        fit_prompt(None, history, past_tokens=64, limit=100, count=tokenizer_count(str(checkpoint)))


BAD = [
    ('{"uid": "x", "history": [', "JSON"),
    ({"uid": "x", "history": rl_row("x")["history"][:2], "mid_position": 1}, "history"),
    (rl_row("x", middle=5), "mid_position"),
]


@pytest.mark.parametrize(("bad", "named"), BAD)
def test_a_malformed_row_is_shown_and_skipped_or_fatal(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str], bad: Any, named: str
):
    source = rows_file(tmp_path, [*(rl_row(str(i)) for i in range(30)), bad])
    main([str(config)])
    said = capsys.readouterr()
    assert "line 31: left out" in said.err
    assert named in said.err
    assert "1 rows were malformed" in said.out
    with pytest.raises(DatasetError, match=f"line 31: .*{named}"):
        convert(source, tmp_path / "fatal", val_share=0.3, malformed="fatal")
    assert not list((tmp_path / "fatal").iterdir()), "nothing is left of a run that failed"


def test_rows_of_another_kind_are_named(tmp_path: Path):
    source = rows_file(tmp_path, [{"prompt": "p", "chosen": "a", "rejected": "b"}] * 20)
    with pytest.raises(DatasetError, match="looks like AlignX rows"):
        convert(source, tmp_path / "out")


def test_a_limit_without_room_is_named(tmp_path: Path):
    with pytest.raises(DatasetError, match="prompt_tokens: a prompt of 100 tokens"):
        convert(rows_file(tmp_path, [rl_row("u")]), tmp_path / "out", prompt_tokens=100, past_tokens=20)


def test_a_file_without_users_for_a_split_is_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match="val"):
        convert(rows_file(tmp_path, [rl_row("only")]), tmp_path / "out", val_share=0.0)


def test_the_command_says_what_it_made(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]):
    rows_file(tmp_path, [rl_row(str(i)) for i in range(20)])
    main([str(config)])
    assert "0 rows were malformed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(config), f"data={tmp_path}/absent.jsonl"])
    assert "absent.jsonl" in capsys.readouterr().err
