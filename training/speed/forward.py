"""Parts of a forward of a causal language model: buckets of rows, a cache of the shared prefix, the head.

`causal` is a transformers model with its output layer, `base_model` what is below that layer.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

Ids = tuple[int, ...]

HEAD_ROWS: Final = 1_024
"""Tokens of one pass of the output layer: at a vocabulary of 150 000, .6 GB of logits."""
SHARED_TOKENS: Final = 32
"""A shorter prefix is not worth a forward of its own."""
ADJUSTED_LOGITS: Final = ("final_logit_softcapping", "logits_scaling", "logit_scale")


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


def adjusted_logits(config: Any) -> str | None:
    """The setting by which a model changes its logits after the output layer, or None."""
    return next((name for name in ADJUSTED_LOGITS if getattr(config, name, None) not in (None, 1.0)), None)


def shared_prefix_length(texts: Sequence[Ids], most: int) -> int:
    """How many tokens, up to `most`, all texts begin with; 0 where sharing them would not pay."""
    if len(texts) < 2:
        return 0
    lowest, highest = min(texts), max(texts)  # in lexical order, so all others share their prefix
    differs = (index for index, (a, b) in enumerate(zip(lowest, highest, strict=False)) if a != b)
    shared = min(next(differs, len(lowest)), most)
    return shared if shared >= SHARED_TOKENS else 0


def unwrap_adapter(model: Any) -> Any:
    """The model with its output layer, also inside a PEFT wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def fill_cache(causal: Any, ids: Ids) -> Any:
    """The cache of keys and values after `ids`; None for no ids."""
    if not ids:
        return None
    return causal.base_model(input_ids=torch.tensor([ids], device=causal.device), use_cache=True).past_key_values


def repeat_cache(cache: Any, rows: int) -> Any:
    """A copy of a cache, or of None, for so many rows: a forward changes the cache it gets."""
    past = copy.deepcopy(cache)
    if past is not None:
        past.batch_repeat_interleave(rows)
    return past


def logprobs(causal: Any, hidden: Any, tokens: Any) -> Any:
    """(positions) of float32: the log-probability of each token after (positions, hidden).

    The logits of at most `HEAD_ROWS` positions exist at once: with more, the backward computes them anew."""
    head, values = causal.get_output_embeddings(), []
    anew = torch.is_grad_enabled() and len(tokens) > HEAD_ROWS
    for part, targets in zip(hidden.split(HEAD_ROWS), tokens.split(HEAD_ROWS), strict=True):
        if anew:
            scores = checkpoint(_score, head, part, targets, use_reentrant=False, preserve_rng_state=False)
        else:
            scores = _score(head, part, targets)
        values.append(scores)
    return torch.cat(values)


def _score(head: Any, hidden: Any, tokens: Any) -> Any:
    return -cross_entropy(head(hidden).float(), tokens, reduction="none")
