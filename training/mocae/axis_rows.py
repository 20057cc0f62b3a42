"""From Alpaca, BeaverTails and TruthfulQA to rows of the three experts and prompts of the router.

    python -m training.mocae.axis_rows training/configs/nano/mocae.toml

Writes `<axis>.jsonl` for training.sft, `harmless_pairs.jsonl` for training.dpo where prompts have answers of both
kinds, and `prompts.jsonl` with all prompts, each in its fold and with right and wrong answers. A question's fold is a
hash of its text: a question never stands on both sides. Nothing of the fold `data.fold` reaches an expert.
"""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict

from services.axes import AXES, Axis
from training.config import run_script
from training.data.reading import ReadReport, raw_rows
from training.data.whole_file import replace_file
from training.exceptions import DatasetError
from training.mocae.stage import FOLDS, AxisData, MocaeConfig

REFUSALS = (
    "I can't help with that, because someone could be harmed by it.",
    "I won't assist with this. If someone is in danger, please call your local emergency number.",
    "That is something I have to decline. I am glad to help with a safe alternative.",
    "No, I can't give advice on that. Please talk to someone you trust instead.",
)
"""Answers of the harmlessness expert to prompts without a published safe one."""
HELD_OUT_REFUSALS = (
    "I'm sorry, but I cannot help you with this request.",
    "I must decline, since this may hurt people.",
)
"""Other words than the expert is trained on."""
COMPLIANCES = ("Sure, here is how you can do that, step by step.", "Of course, the easiest way is the following.")

Part = Literal["train", "calibration", "test"]


class AxisPrompt(BaseModel):
    """A prompt of the router."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: Axis
    part: Part
    prompt: str
    right: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    """Empty for helpful prompts, whose answer has no opposite."""

    @classmethod
    def read_all(cls, path: Path) -> list["AxisPrompt"]:
        """Raises DatasetError."""
        if not path.is_file():
            raise DatasetError(f"{path} does not exist; python -m training.mocae.axis_rows makes it")
        return [cls.model_validate_json(line) for line in path.read_bytes().splitlines()]


def fold_of(question: str) -> int:
    """0 to 4; letter case and spaces make no other question."""
    normal = " ".join(question.casefold().split())
    return int.from_bytes(hashlib.sha256(normal.encode()).digest()[:4], "big") % FOLDS


def part_of(question: str, fold: int) -> Part:
    distance = (fold_of(question) - fold) % FOLDS
    return "test" if distance == 0 else "calibration" if distance == 1 else "train"


# --- the published files -----------------------------------------------------------------------


def read_table(path: Path, *columns: str) -> Iterator[dict[str, Any]]:
    """Rows of JSON, JSON Lines (also .gz) or CSV that have all columns. Raises DatasetError."""
    if not path.is_file():
        raise DatasetError(f"{path} does not exist")
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as lines:
            rows: list[Any] = list(csv.DictReader(lines))
    else:
        rows = [raw.value for raw in raw_rows(path, ReadReport())]
    usable = [
        row for row in rows if isinstance(row, dict) and all(row.get(column) not in (None, "") for column in columns)
    ]
    if not usable:
        raise DatasetError(f"{path} has no rows with {', '.join(columns)}")
    yield from usable


def read_alpaca(data: AxisData) -> list[AxisPrompt]:
    rows = read_table(data.alpaca, "instruction", "output")
    answers = {"\n\n".join(filter(None, (row["instruction"], row.get("input")))): row["output"] for row in rows}
    return [_prompt("helpful", data, prompt, (answer,)) for prompt, answer in answers.items()]


def read_truthfulqa(data: AxisData) -> list[AxisPrompt]:
    """The best answer first among the right ones."""
    prompts = []
    for row in read_table(data.truthfulqa, "Question", "Best Answer", "Correct Answers", "Incorrect Answers"):
        right = dict.fromkeys([row["Best Answer"].strip(), *_split(row["Correct Answers"])])
        prompts.append(_prompt("honest", data, row["Question"], tuple(right), _split(row["Incorrect Answers"])))
    return prompts


def _split(answers: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, answers.split(";"))))


def read_beavertails(data: AxisData) -> list[AxisPrompt]:
    """Safe answers are right, unsafe ones wrong; of rows without a label only the prompt counts."""
    answers: dict[str, tuple[list[str], list[str]]] = {}
    for row in chain.from_iterable(read_table(path, "prompt") for path in data.beavertails):
        safe, unsafe = answers.setdefault(row["prompt"].strip(), ([], []))
        if isinstance(row.get("is_safe"), bool) and row.get("response"):
            (safe if row["is_safe"] else unsafe).append(row["response"])
    return [_prompt("harmless", data, prompt, tuple(safe), tuple(unsafe)) for prompt, (safe, unsafe) in answers.items()]


def _prompt(axis: Axis, data: AxisData, prompt: str, right: Sequence[str], wrong: Sequence[str] = ()) -> AxisPrompt:
    return AxisPrompt(axis=axis, part=part_of(prompt, data.fold), prompt=prompt, right=tuple(right), wrong=tuple(wrong))


# --- rows --------------------------------------------------------------------------------------


def training_answers(prompt: AxisPrompt) -> Sequence[str]:
    """What an expert learns to answer; of a TruthfulQA question the best answer."""
    if prompt.axis == "harmless":
        return prompt.right or (REFUSALS[fold_of(prompt.prompt[::-1]) % len(REFUSALS)],)
    return prompt.right[:1]


def sft_row(prompt: str, answer: str) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": prompt}], "completion": [{"role": "assistant", "content": answer}]}


def for_measuring(prompt: AxisPrompt) -> AxisPrompt:
    """With forced refusals and compliances as a harmless prompt's right and wrong answers."""
    if prompt.axis != "harmless":
        return prompt
    return prompt.model_copy(update={"right": HELD_OUT_REFUSALS, "wrong": COMPLIANCES})


def axis_rows(config: MocaeConfig) -> None:
    """Writes the rows of the experts and the prompts of the router."""
    data = config.data
    by_axis = {"helpful": read_alpaca(data), "harmless": read_beavertails(data), "honest": read_truthfulqa(data)}
    limits = {"helpful": data.helpful_rows, "harmless": data.harmless_rows, "honest": None}
    shown: list[dict[str, Any]] = []
    for axis in AXES:
        prompts = sorted(by_axis[axis], key=lambda prompt: hashlib.sha256(prompt.prompt.encode()).digest())
        trained = [prompt for prompt in prompts if prompt.part != "test"]
        rows = [sft_row(prompt.prompt, answer) for prompt in trained for answer in training_answers(prompt)]
        rows = rows[: limits[axis]] * (data.honest_epochs if axis == "honest" else 1)
        _write(config.work / f"{axis}.jsonl", rows)
        shown += [for_measuring(prompt).model_dump() for prompt in prompts[: data.router_rows]]
        print(f"{axis}: {len(rows):,} rows, {min(len(prompts), data.router_rows):,} of {len(prompts):,} prompts")
    pairs = [
        {"prompt": prompt.prompt, "chosen": safe, "rejected": unsafe}
        for prompt in by_axis["harmless"]
        if prompt.part != "test"
        for safe, unsafe in zip(prompt.right, prompt.wrong, strict=False)
    ]
    if pairs:
        _write(config.work / "harmless_pairs.jsonl", pairs[: data.harmless_rows])
    _write(config.prompts, shown)


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with replace_file(path) as file:
        file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


if __name__ == "__main__":
    run_script(MocaeConfig, axis_rows)
