"""What forwards of a causal language model have in common: groups of rows, shared beginnings, the head.

`causal` is a transformers model with its output layer, `base_model` what is below that layer.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch

Ids = tuple[int, ...]

HEAD_ROWS: Final = 1_024
"""Tokens that the output layer scores at once: at a vocabulary of 150 000, .6 GB of logits."""
SHARED_TOKENS: Final = 32
"""A shorter beginning is not worth a forward of its own."""


def buckets(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of `lengths` in groups of similar length, longest first: rows times longest is at most
    `budget`, or the group is one row."""
    bucket: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if bucket and (len(bucket) + 1) * lengths[bucket[0]] > budget:
            yield bucket
            bucket = []
        bucket.append(index)
    if bucket:
        yield bucket


def beginning(texts: Sequence[Ids], most: int) -> int:
    """How many tokens, up to `most`, all texts begin with; 0 where sharing them would not pay."""
    if len(texts) < 2:
        return 0
    lowest, highest = min(texts), max(texts)  # all others lie between, so they share what these two do
    differs = (index for index, (one, other) in enumerate(zip(lowest, highest, strict=False)) if one != other)
    shared = min(next(differs, len(lowest)), most)
    return shared if shared >= SHARED_TOKENS else 0


def cached(causal: Any, ids: Ids) -> Any:
    """The cache of keys and values after `ids`; none without any."""
    if not ids:
        return None
    return causal.base_model(input_ids=torch.tensor([ids], device=causal.device), use_cache=True).past_key_values


def repeated(cache: Any, rows: int) -> Any:
    """A copy of a cache, or of none, for so many rows: a forward adds to what it is given."""
    past = copy.deepcopy(cache)
    if past is not None:
        past.batch_repeat_interleave(rows)
    return past


def logprobs(causal: Any, hidden: Any, tokens: Any) -> Any:
    """(spots) of float32: the log-probability of each token after (spots, hidden)."""
    head, values = causal.get_output_embeddings(), []
    for part, wanted in zip(hidden.split(HEAD_ROWS), tokens.split(HEAD_ROWS), strict=True):
        logits = head(part).float()  # (spots, vocabulary)
        values.append(logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(values)
