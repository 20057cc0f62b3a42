"""The order of tokenized rows, and collators that make batches of them.

Each batch holds rows of like length, so that little of it is padding: rows are shuffled, sorted by
length within windows of many batches, cut into micro-batches, and those are shuffled again.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch

from training.speed.prefix_sharing import IGNORED, pack_replies

WINDOW: Final = 64
"""Micro-batches in which rows are sorted by length."""


class Bucketed(torch.utils.data.Sampler[int]):  # type: ignore[misc]  # torch is untyped here
    """Rows in an order in which the rows of a micro-batch are of like length, and so are the micro-batches
    that all devices take in the same step. The order depends on seed, epoch and the number of these rows."""

    def __init__(self, lengths: Sequence[int], *, micro_batch: int, devices: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.rows_per_step = micro_batch * devices
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        whole = len(order) - len(order) % self.rows_per_step
        rest, order = order[whole:], order[:whole]  # an incomplete batch comes last
        window = WINDOW * self.rows_per_step
        for start in range(0, whole, window):
            part = order[start : start + window]
            order[start : start + window] = part[np.argsort(self.lengths[part], kind="stable")]
        batches = order.reshape(-1, self.rows_per_step)
        random.shuffle(batches)
        return iter([*batches.ravel().tolist(), *rest.tolist()])


class Collator:
    """Rows → tensors padded on the right. No token of a causal model attends to that padding, so without a
    mask the loss is the same, and attention takes its faster path."""

    def __init__(self, pad: int) -> None:
        self.pad = pad
        self.masked = False

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        lengths = [len(row["input_ids"]) for row in rows]
        ids = np.full((len(rows), max(lengths)), self.pad, dtype=np.int64)
        labels = np.full_like(ids, IGNORED)
        for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            ids[index, :length] = row["input_ids"]
            labels[index, :length] = row["labels"]
        batch: dict[str, Any] = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
        if self.masked:
            mask = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
            batch["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        return batch


class SharedPairs:
    """Preference pairs → rows in which the chosen and the rejected reply follow one prompt, so that
    it is computed once (training/speed/prefix_sharing.py)."""

    REFERENCE: Final = ("ref_chosen_logps", "ref_rejected_logps")

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        prompts = [row["prompt_ids"] for row in rows for _ in range(2)]
        replies = [row[name] for row in rows for name in ("chosen_ids", "rejected_ids")]
        packed = pack_replies(prompts, replies, self.pad)
        batch: dict[str, Any] = {name: getattr(packed, name) for name in packed.__slots__}
        for name in self.REFERENCE:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])
        return batch
