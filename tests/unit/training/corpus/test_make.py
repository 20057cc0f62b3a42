"""Files of the corpus: what the readers of the official formats take, the same bytes every time."""

import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import orjson
import pytest

from training.config import load
from training.corpus import make, world_rows
from training.corpus.lexicon import Pen
from training.corpus.make import CorpusConfig, File
from training.corpus.world_rows import World
from training.data.formats import AlignXploreRow, AlignXRow, RlRow, SftRow, UpiRow
from training.data.reading import ReadReport, read
from training.exceptions import ConfigError

KINDS = {"sft": SftRow, "alignx": AlignXRow, "alignxplore": AlignXploreRow, "rl": RlRow, "upi": UpiRow}
EVERY_TASK = dict.fromkeys(("infer", "update", "select", "summary", "ica", "pba", "direct", "none"), 1.0)


def pen(seed: int = 0) -> Pen:
    return Pen(random.Random(seed), "train")


def file_of(path: Path, form: str, count: int = 60) -> File:
    tasks = EVERY_TASK if form == "sft" else {}
    return File.model_validate({"path": path, "format": form, "rows": count, "tasks": tasks, "foreign": 0.2})


@pytest.mark.parametrize("form", KINDS)
def test_the_readers_take_every_row(form: str, tmp_path: Path) -> None:
    file = file_of(tmp_path / f"{form}.jsonl", form)
    with ProcessPoolExecutor(1) as pool:
        make.write(file, 3, pool)
    report = ReadReport()
    assert len(list(read(file.path, KINDS[form], malformed="fatal", report=report))) == 60
    assert list(tmp_path.iterdir()) == [file.path]


def test_a_row_depends_on_seed_and_index_alone() -> None:
    file = file_of(Path("x.jsonl"), "sft")
    longer = file_of(Path("x.jsonl"), "sft", 1_000)
    assert [make.row(file, 1, index) for index in range(20)] == [make.row(longer, 1, index) for index in range(20)]
    assert make.row(file, 1, 0) != make.row(file, 2, 0)


def test_a_selection_names_the_letter_of_what_is_chosen() -> None:
    seen = set()
    for seed in range(60):
        row = world_rows.selection(pen(seed), World(), 3, most_items=6)
        letter = orjson.loads(row["completion"][0]["content"])["selection"].removeprefix("Item ")
        assert f'<item letter="{letter}">' in row["prompt"][1]["content"]
        seen.add(letter)
    assert len(seen) > 2


def test_streaming_rows_hold_both_stages_and_their_targets() -> None:
    row = world_rows.streaming(pen(), World(), 6, "u")
    assert (len(row["history"]), row["mid_position"]) == (13, 6)


def test_tasks_belong_to_sft_rows(tmp_path: Path) -> None:
    path = tmp_path / "corpus.toml"
    path.write_text('stage = "corpus"\n[[file]]\npath = "a"\nformat = "upi"\nrows = 1\ntasks = { infer = 1 }\n')
    with pytest.raises(ConfigError, match=r"file\.0: tasks belong to format"):
        load(path, CorpusConfig)
