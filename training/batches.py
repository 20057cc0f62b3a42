"""Tokenised rows on disk, and the order in which they become batches.

Rows are tokenised once and kept as an Arrow file, named by what they depend on, that a training
process maps into its memory. Each batch holds rows of like length, because what is padded is
computed in vain: rows are shuffled, sorted by length within windows of many batches, cut into
micro-batches, and those are shuffled again.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset

from training.data.formats import SftRow
from training.data.reading import ReadReport, read
from training.errors import DatasetError

AT_ONCE: Final = 1024
"""Rows given to the tokenizer together."""
WINDOW: Final = 64
"""Micro-batches in which rows are sorted by length."""
IGNORED: Final = -100
FORMAT: Final = 1
"""To be raised when the file's content changes."""


# --- tokens --------------------------------------------------------------------------------------


class Encoder:
    """Turns messages into tokens: exactly those of the prompt as an engine sees it, then the reply's.

    The reply is not rendered by the chat template, which in some models (DeepSeek's R1 family) cuts
    the reasoning out of it; it is closed by the token that ends a turn.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, completion_only: bool) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.completion_only = completion_only
        self.end: str = tokenizer.eos_token

    def __call__(self, rows: Sequence[SftRow]) -> list[tuple[list[int], list[int]]]:
        """(tokens, labels) of each row that is not longer than `max_length`."""
        prompts = self.render([[turn.model_dump() for turn in row.prompt] for row in rows])
        replies = [
            self._reply(prompt, row.completion[0].content) for prompt, row in zip(prompts, rows, strict=True)
        ]
        ids = self._ids([*prompts, *replies])
        pairs = zip(ids[: len(rows)], ids[len(rows) :], strict=True)
        return [self._labelled(asked, said) for asked, said in pairs if len(asked) + len(said) <= self.max_length]

    def render(self, conversations: Sequence[list[dict[str, str]]]) -> list[str]:
        """The text that asks for a reply."""
        rendered: list[str] = self.tokenizer.apply_chat_template(
            list(conversations), tokenize=False, add_generation_prompt=True
        )
        return rendered

    def _reply(self, prompt: str, reply: str) -> str:
        opened = "<think>\n"
        if prompt.endswith(opened) and reply.lstrip().startswith("<think>"):
            reply = reply.lstrip().removeprefix("<think>").lstrip("\n")  # the template has opened it
        return f"{reply}{self.end}"

    def _ids(self, texts: list[str]) -> list[list[int]]:
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)[
            "input_ids"
        ]
        return encoded

    def _labelled(self, asked: list[int], said: list[int]) -> tuple[list[int], list[int]]:
        return asked + said, ([IGNORED] * len(asked) if self.completion_only else asked) + said


def tokenised(
    files: Sequence[Path],
    encoder: Encoder,
    cache: Path,
    *,
    limit: int | None = None,
    malformed: Any = "skip",
) -> Dataset:
    """Rows with "input_ids", "labels" and "length", from `cache` where they were made before.

    Raises DatasetError for files of another kind, and when no row is short enough.
    """
    path = cache / f"{_name(files, encoder, limit)}.arrow"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        report, fresh = ReadReport(), path.with_suffix(".fresh")
        rows = (row for file in files for row in read(file, SftRow, malformed=malformed, report=report))
        kept = _write(fresh, islice(rows, limit), encoder)
        if not kept:
            raise DatasetError(f"{files[0]}: all rows are longer than max_length, {encoder.max_length} tokens")
        fresh.replace(path)
        print(f"{kept:,} rows tokenised, {report.left_out:,} malformed, {report.rows - kept:,} too long or over the limit")
    return Dataset.from_file(str(path))


def _write(path: Path, rows: Iterator[SftRow], encoder: Encoder) -> int:
    tokens = pa.list_(pa.int32())
    schema = pa.schema({"input_ids": tokens, "labels": tokens, "length": pa.int32()})
    kept = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        while batch := list(islice(rows, AT_ONCE)):
            encoded = encoder(batch)
            kept += len(encoded)
            columns = [[ids for ids, _ in encoded], [labels for _, labels in encoded], [len(ids) for ids, _ in encoded]]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            stream.write_batch(pa.record_batch(arrays, schema=schema))
    return kept


def _name(files: Sequence[Path], encoder: Encoder, limit: int | None) -> str:
    """Depends on the files' content (by size and time), the tokenizer and all that shapes the rows."""
    stats = [each.stat() for file in files for each in ([file] if file.is_file() else sorted(file.glob("*")))]
    parts = [
        FORMAT,
        [str(file) for file in files],
        [(stat.st_size, stat.st_mtime_ns) for stat in stats],
        encoder.tokenizer.backend_tokenizer.to_str(),
        encoder.tokenizer.chat_template,
        (encoder.end, encoder.max_length, encoder.completion_only, limit),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


# --- batches -------------------------------------------------------------------------------------


class Bucketed(torch.utils.data.Sampler[int]):
    """Rows in an order of which each `micro_batch` following ones are of like length, and so are the
    micro-batches that `devices` take in the same step. The order depends on seed and epoch alone."""

    def __init__(self, lengths: Sequence[int], *, micro_batch: int, devices: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.together = micro_batch * devices
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        whole = len(order) - len(order) % self.together
        rest, order = order[whole:], order[:whole]  # what fills no batch comes last
        window = WINDOW * self.together
        for start in range(0, whole, window):
            part = order[start : start + window]
            order[start : start + window] = part[np.argsort(self.lengths[part], kind="stable")]
        batches = order.reshape(-1, self.together)
        random.shuffle(batches)
        return iter([*batches.ravel().tolist(), *rest.tolist()])


class Collator:
    """Rows → tensors padded on the right. A causal model cannot see that padding, so that no mask is
    needed where the loss ignores it, and attention takes its faster path."""

    def __init__(self, pad: int, *, masked: bool) -> None:
        self.pad = pad
        self.masked = masked

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        lengths = [len(row["input_ids"]) for row in rows]
        ids = np.full((len(rows), max(lengths)), self.pad, dtype=np.int64)
        labels = np.full_like(ids, IGNORED)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            ids[place, :length] = row["input_ids"]
            labels[place, :length] = row["labels"]
        batch: dict[str, Any] = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
        if self.masked:
            mask = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
            batch["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        return batch
