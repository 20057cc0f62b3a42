"""Converts RL rows of AlignXplore+ to the two parquet files that verl reads.

    python -m training.verl.make_parquet training/configs/full/verl_parquet.toml data=rl.jsonl

A row {"uid", "history": [{"query", "chosen", "rejected"}, …], "mid_position": m} gives the prompt of
stage 1 (history[:m]) and, beside it, what the loop needs later: the target history[m], the second
part history[m:-1] and its target history[-1]. Users, not rows, are split into train and val, by a
hash of the uid. Rows are converted one by one, so a file may be larger than the memory. A history that is
too long loses its oldest interactions, by an estimate that overcounts tokens, or exactly with `tokenizer`.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from alignx.schemas.interactions import ComparisonInteraction, Interaction
from alignx.schemas.items import item_text
from services.prompts.build import ChatMessage
from training.config import Fraction, PositiveInt, Section, run_script
from training.data.formats import RlRow
from training.data.reading import ReadReport, read
from training.exceptions import DatasetError
from training.verl.fitting import Count, estimate, fit_prompt

Split = Literal["train", "val"]
SPLITS: Final[tuple[Split, ...]] = ("train", "val")
DATA_SOURCE: Final = "alignxplore-plus"
BATCH: Final = 256
"""Rows of a parquet row group, and the most in memory."""
_TRIPLE = pa.struct([("query", pa.string()), ("chosen", pa.string()), ("rejected", pa.string())])
SCHEMA: Final = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        # verl's validation reads this column; the judge needs none of it.
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("index", pa.int64()),
                    ("split", pa.string()),
                    ("target1", _TRIPLE),
                    ("later", pa.list_(_TRIPLE)),
                    ("target2", _TRIPLE),
                ]
            ),
        ),
    ]
)


class ParquetConfig(Section):
    stage: Literal["verl_parquet"]
    data: Path
    """File or folder of rows: uid, history, mid_position."""
    output: Path
    """Folder of train.parquet and val.parquet."""
    val_share: Fraction = 0.02
    """Share of the users for validation."""
    prompt_tokens: PositiveInt = 8192
    past_tokens: PositiveInt = 1024
    tokenizer: str | None = None
    """Checkpoint whose tokenizer counts the tokens; default: an estimate, which overcounts."""
    malformed: Literal["skip", "fatal"] = "skip"
    """Whether a malformed row is shown and left out, or ends the run."""

    def limits(self) -> "Limits":
        count = tokenizer_count(self.tokenizer) if self.tokenizer else estimate
        return Limits(self.prompt_tokens, self.past_tokens, count)


@dataclass(frozen=True, slots=True)
class Limits:
    prompt_tokens: int = 8192
    past_tokens: int = 1024
    count: Count = estimate


@dataclass(slots=True)
class Counts:
    train: int = 0
    val: int = 0
    shortened: int = 0
    """Rows from which the oldest interactions were left out."""


def verl_row(row: RlRow, index: int, split: Split, limits: Limits) -> tuple[dict[str, Any], bool]:
    """The row as verl reads it, and whether interactions were left out.

    Raises ValueError when the limit holds no interaction.
    """
    past, count, room = limits.past_tokens, limits.count, limits.prompt_tokens
    first = [triple.comparison() for triple in row.first]
    prompt, shown = fit_prompt(None, first, past_tokens=past, limit=room, count=count)
    second = [triple.comparison() for triple in row.second]
    # The loop fits stage 2 again, exactly, once it knows the past summary.
    _, later = fit_prompt(None, second, past_tokens=past, limit=room - past, count=count)
    info = {
        "index": index,
        "split": split,
        "target1": _triple(row.first_target.comparison()),
        "later": [_triple(event) for event in later],
        "target2": _triple(row.target().comparison()),
    }
    columns = {
        "data_source": DATA_SOURCE,
        "prompt": list(prompt),
        "reward_model": {"style": "judge", "ground_truth": ""},
        "extra_info": info,
    }
    return columns, len(shown) + len(later) < len(first) + len(second)


def _triple(event: Interaction) -> dict[str, str]:
    assert isinstance(event, ComparisonInteraction)
    return {"query": event.query or "", "chosen": item_text(event.chosen), "rejected": item_text(event.rejected)}


def split_of(uid: str, val_share: float) -> Split:
    """The same for all rows of a user, in every run."""
    position = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8]) / 2**64
    return "val" if position < val_share else "train"


def write(config: ParquetConfig, report: ReadReport) -> Counts:
    """Writes train.parquet and val.parquet to `output`; both appear at the end or not at all.

    Raises DatasetError: the errors of `training.data.reading.read`, a split without a row, a limit that
    holds no interaction.
    """
    rows, counts, out = read(config.data, RlRow, malformed=config.malformed, report=report), Counts(), config.output
    out.mkdir(parents=True, exist_ok=True)
    unfinished = {split: out / f".{split}.parquet.unfinished" for split in SPLITS}
    try:
        with ExitStack() as stack:
            writers = {split: stack.enter_context(pq.ParquetWriter(unfinished[split], SCHEMA)) for split in SPLITS}
            _fill(writers, _verl_rows(rows, config, counts))
        if empty := [split for split in SPLITS if not getattr(counts, split)]:
            raise DatasetError(f"{config.data}: gives no row for {' and '.join(empty)}; set another val_share")
        for split, path in unfinished.items():
            path.replace(out / f"{split}.parquet")
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)
    return counts


def _verl_rows(rows: Iterable[RlRow], config: ParquetConfig, counts: Counts) -> Iterator[tuple[Split, dict[str, Any]]]:
    limits = config.limits()
    for index, row in enumerate(rows):
        split = split_of(row.uid or f"row {index}", config.val_share)
        try:
            columns, shortened = verl_row(row, index, split, limits)
        except ValueError as error:
            raise DatasetError(f"prompt_tokens: {error}") from error
        setattr(counts, split, getattr(counts, split) + 1)
        counts.shortened += shortened
        yield split, columns


def _fill(writers: dict[Split, Any], rows: Iterable[tuple[Split, dict[str, Any]]]) -> None:
    waiting: dict[Split, list[dict[str, Any]]] = {split: [] for split in writers}
    for split, row in rows:
        waiting[split].append(row)
        if len(waiting[split]) == BATCH:
            writers[split].write_table(pa.Table.from_pylist(waiting[split], SCHEMA))
            waiting[split].clear()
    for split, rest in waiting.items():
        if rest:
            writers[split].write_table(pa.Table.from_pylist(rest, SCHEMA))


def tokenizer_count(path: str) -> Count:
    """Counts with a checkpoint's own tokenizer and chat template."""
    from transformers import AutoTokenizer  # the estimate needs no such package

    tokenizer = AutoTokenizer.from_pretrained(path)

    def count(messages: Sequence[ChatMessage]) -> int:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count


def make_parquet(config: ParquetConfig) -> None:
    """Converts RL rows of AlignXplore+ to verl's parquet files."""
    report = ReadReport()
    counts = write(config, report)
    for bad in report.examples:
        print(f"{config.data}, {bad.location}: left out: {bad.reason}", file=sys.stderr)
    print(
        f"{config.output}: {counts.train} users to train on, {counts.val} to validate on; "
        f"{counts.shortened} lost their oldest interactions, {report.left_out} rows were malformed"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    run_script(ParquetConfig, make_parquet, arguments)


if __name__ == "__main__":
    main()
