"""Writes files of rows from the world, as a TOML file asks.

    python -m training.corpus.make training/configs/nano/corpus.toml

Row `i` of a file depends on the file's seed and `i` alone: files can be made longer without changing
what they held, and any number of processes writes the same bytes.
"""

import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import orjson
from pydantic import Field, model_validator

from training.config import Fraction, PositiveInt, Section, run_script
from training.corpus import world_rows
from training.corpus.lexicon import Pen, Split
from training.corpus.world_rows import Row, World
from training.data.whole_file import replace_file

Format = Literal["sft", "alignx", "alignxplore", "rl", "upi"]
Task = Literal["infer", "update", "select", "summary", "ica", "pba", "direct", "none"]
"""What a row of format sft teaches: the two kinds of inference, selection, or an answer in a mode."""
CHUNK = 2_000


class File(Section):
    path: Path
    format: Format
    rows: PositiveInt
    split: Split = "train"
    length: tuple[PositiveInt, PositiveInt] = (6, 6)
    """Fewest and most events of a history."""
    tasks: dict[Task, Annotated[float, Field(gt=0)]] = Field(default={})
    """Format sft: tasks and their shares, which need not add up to 1."""
    most_items: Annotated[int, Field(ge=2, le=26)] = 2
    """Task select: most items to choose from."""
    noise: Fraction = 0.05
    recall: Fraction = 1.0
    drift: Fraction = 0.0
    foreign: Fraction = 0.0

    @model_validator(mode="after")
    def _check_tasks(self) -> Self:
        if (self.format == "sft") != bool(self.tasks):
            raise ValueError(f'tasks belong to format "sft" and nowhere else; allowed: {", ".join(get_args(Task))}')
        if self.length[0] > self.length[1]:
            raise ValueError("length is [fewest, most]")
        return self

    @property
    def world(self) -> World:
        return World(self.noise, self.recall, self.drift, self.foreign)


class CorpusConfig(Section):
    stage: Literal["corpus"]
    seed: Annotated[int, Field(ge=0)] = 0
    file: Annotated[tuple[File, ...], Field(min_length=1)]


def row(file: File, seed: int, index: int) -> Row:
    """Row `index` of a file."""
    name = f"{file.split}-{seed}-{file.path.stem}-{index}"
    pen = Pen(random.Random(name), file.split)
    length = pen.rng.randint(*file.length)
    match file.format:
        case "sft":
            return _sft_row(file, pen, length)
        case "alignx":
            return world_rows.alignx(pen, file.world, length)
        case "alignxplore":
            return world_rows.alignxplore(pen, file.world, length)
        case "rl":
            return world_rows.streaming(pen, file.world, length, name)
        case "upi":
            return world_rows.upi(pen, file.world, length, name)


def _sft_row(file: File, pen: Pen, length: int) -> Row:
    task = pen.rng.choices(list(file.tasks), list(file.tasks.values()))[0]
    match task:
        case "select":  # large sets are rare, as in use
            most = file.most_items if pen.rng.random() < 0.25 else 2
            return world_rows.selection(pen, file.world, length, most_items=most)
        case "infer" | "update":
            return world_rows.inference(pen, file.world, length, past=task == "update")
        case mode:
            return world_rows.reply(pen, file.world, length, mode=mode)


def _lines(file: File, seed: int, indices: range) -> bytes:
    return b"".join(orjson.dumps(row(file, seed, index), option=orjson.OPT_APPEND_NEWLINE) for index in indices)


def write(file: File, seed: int, pool: ProcessPoolExecutor) -> None:
    """Writes one file, whole or not at all."""
    started = time.monotonic()
    chunks = [range(first, min(first + CHUNK, file.rows)) for first in range(0, file.rows, CHUNK)]
    with replace_file(file.path) as out:
        for chunk, lines in zip(chunks, pool.map(partial(_lines, file, seed), chunks), strict=True):
            out.write(lines)
            if sys.stderr.isatty():
                print(f"\r{file.path}: {chunk.stop:,} of {file.rows:,} rows", end="", file=sys.stderr)
    print(f"{file.path}: {file.rows:,} rows in {time.monotonic() - started:.0f} s")


def corpus(config: CorpusConfig) -> None:
    """Writes the files of a corpus."""
    with ProcessPoolExecutor() as pool:
        for file in config.file:
            write(file, config.seed, pool)


if __name__ == "__main__":
    run_script(CorpusConfig, corpus)
