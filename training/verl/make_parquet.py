"""RL rows of AlignXplore+ become the two parquet files that verl reads.

    python -m training.verl.make_parquet rl.jsonl --out data/rl --tokenizer Qwen/Qwen3-8B

A row {"uid", "history": [{"query", "chosen", "rejected"}, …], "mid_position": m} gives the prompt of
stage 1 (history[:m]) and, beside it, what the loop needs later: the target history[m], the second
part history[m:-1] and its target history[-1]. Users, not rows, are split into train and val, by a
hash of the uid. Rows pass through one by one, so a file may be larger than the memory. Where a history
is too long its oldest interactions are left out, by an estimate that counts rather too many tokens,
or exactly with --tokenizer.
"""

import argparse
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
from training.data.formats import RlRow
from training.data.reading import ReadReport, read
from training.exceptions import DatasetError, TrainingError
from training.verl.fitting import Count, estimated, fitted_prompt

Split = Literal["train", "val"]
SPLITS: Final[tuple[Split, ...]] = ("train", "val")
DATA_SOURCE: Final = "alignxplore-plus"
BATCH: Final = 256
"""Rows of a parquet row group, and the most that are held at once."""
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


@dataclass(frozen=True, slots=True)
class Limits:
    prompt_tokens: int = 8192
    past_tokens: int = 1024
    count: Count = estimated


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
    prompt, shown = fitted_prompt(None, first, past_tokens=past, limit=room, count=count)
    second = [triple.comparison() for triple in row.second]
    # The loop fits stage 2 again, exactly, once it knows the past summary.
    _, later = fitted_prompt(None, second, past_tokens=past, limit=room - past, count=count)
    info = {
        "index": index,
        "split": split,
        "target1": _triple(row.first_target.comparison()),
        "later": [_triple(event) for event in later],
        "target2": _triple(row.target().comparison()),
    }
    made = {
        "data_source": DATA_SOURCE,
        "prompt": list(prompt),
        "reward_model": {"style": "judge", "ground_truth": ""},
        "extra_info": info,
    }
    return made, len(shown) + len(later) < len(first) + len(second)


def _triple(event: Interaction) -> dict[str, str]:
    assert isinstance(event, ComparisonInteraction)
    return {"query": event.query or "", "chosen": item_text(event.chosen), "rejected": item_text(event.rejected)}


def split_of(uid: str, val_share: float) -> Split:
    """The same for all rows of a user, in every run."""
    place = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8]) / 2**64
    return "val" if place < val_share else "train"


def write(
    source: Path,
    out: Path,
    *,
    val_share: float = 0.02,
    malformed: Literal["skip", "fatal"] = "skip",
    limits: Limits | None = None,
    report: ReadReport | None = None,
) -> Counts:
    """Writes train.parquet and val.parquet into `out`; both appear at the end or not at all.

    Raises DatasetError: what `training.data.reading.read` says of `source`, a split without a row, a
    limit that holds no interaction.
    """
    rows = read(source, RlRow, malformed=malformed, report=report)
    counts = Counts()
    out.mkdir(parents=True, exist_ok=True)
    unfinished = {split: out / f".{split}.parquet.unfinished" for split in SPLITS}
    try:
        with ExitStack() as stack:
            writers = {split: stack.enter_context(pq.ParquetWriter(unfinished[split], SCHEMA)) for split in SPLITS}
            _fill(writers, _made(rows, val_share, limits or Limits(), counts))
        if empty := [split for split in SPLITS if not getattr(counts, split)]:
            raise DatasetError(f"{source}: gives no row for {' and '.join(empty)}; set --val-share otherwise")
        for split, path in unfinished.items():
            path.replace(out / f"{split}.parquet")
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)
    return counts


def _made(
    rows: Iterable[RlRow], val_share: float, limits: Limits, counts: Counts
) -> Iterator[tuple[Split, dict[str, Any]]]:
    for index, row in enumerate(rows):
        split = split_of(row.uid or f"row {index}", val_share)
        try:
            made, shortened = verl_row(row, index, split, limits)
        except ValueError as error:
            raise DatasetError(f"--prompt-tokens: {error}") from error
        setattr(counts, split, getattr(counts, split) + 1)
        counts.shortened += shortened
        yield split, made


def _fill(writers: dict[Split, Any], rows: Iterable[tuple[Split, dict[str, Any]]]) -> None:
    waiting: dict[Split, list[dict[str, Any]]] = {split: [] for split in writers}
    for split, row in rows:
        waiting[split].append(row)
        if len(waiting[split]) == BATCH:
            writers[split].write_table(pa.Table.from_pylist(waiting[split], SCHEMA))
            waiting[split].clear()
    for split, left in waiting.items():
        if left:
            writers[split].write_table(pa.Table.from_pylist(left, SCHEMA))


def tokenizer_count(path: str) -> Count:
    """Counts with a checkpoint's own tokenizer and chat template."""
    from transformers import AutoTokenizer  # without --tokenizer the script needs no such package

    tokenizer = AutoTokenizer.from_pretrained(path)

    def count(messages: Sequence[ChatMessage]) -> int:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make verl's parquet files from RL rows of AlignXplore+.")
    parser.add_argument("rows", type=Path, help="file or folder: uid, history, mid_position")
    parser.add_argument("--out", type=Path, required=True, help="folder of train.parquet and val.parquet")
    parser.add_argument("--val-share", type=float, default=0.02, help="share of the users kept for validation")
    parser.add_argument("--prompt-tokens", type=int, default=8192)
    parser.add_argument("--past-tokens", type=int, default=1024)
    parser.add_argument("--tokenizer", help="checkpoint to count tokens with; default: an estimate, too high")
    parser.add_argument("--malformed", choices=("skip", "fatal"), default="skip")
    given = parser.parse_args(arguments)
    count = tokenizer_count(given.tokenizer) if given.tokenizer else estimated
    limits, report = Limits(given.prompt_tokens, given.past_tokens, count), ReadReport()
    try:
        options: dict[str, Any] = {"val_share": given.val_share, "malformed": given.malformed}
        counts = write(given.rows, given.out, limits=limits, report=report, **options)
    except TrainingError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    for bad in report.examples:
        print(f"{given.rows}, {bad.place}: left out: {bad.reason}", file=sys.stderr)
    print(
        f"{given.out}: {counts.train} users to train on, {counts.val} to validate on; "
        f"{counts.shortened} lost their oldest interactions, {report.left_out} rows were malformed"
    )


if __name__ == "__main__":
    main()
