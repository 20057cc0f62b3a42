"""Generates several replies to each of a few prompts with the model in training.

It does for a rollout what `transformers.generate` does, with less work: a prompt is computed once for all
its replies, the cache of keys and values is allocated once, and a reply that has ended leaves the
computation. It samples with a temperature from the whole vocabulary.

    replies = generate_replies(model, prompts, 4, sampling, generator)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers.cache_utils import Cache, DynamicLayer

from training.speed.forward import buckets, unwrap_adapter

_COMPACT_SHARE: Final = 0.75
"""Rows that have ended leave the computation once no more than this share is unfinished."""


@dataclass(frozen=True, slots=True)
class Sampling:
    new_tokens: int
    """Longest reply."""
    temperature: float
    end_tokens: tuple[int, ...]
    """Tokens that end a reply; they stay at its end."""
    pad: int
    batch_tokens: int
    """Most tokens of prompts and replies in the cache; the replies to one prompt are never split."""


class _PreallocatedLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """Keys and values of a layer, allocated once: concatenating tensors at every token would copy all of
    them every time."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            rows, heads, _, size = key_states.shape
            self.keys = key_states.new_empty(rows, heads, self.capacity, size)
            self.values = value_states.new_empty(rows, heads, self.capacity, value_states.shape[-1])
        start, self.length = self.length, self.length + key_states.shape[-2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length


def generate_replies(
    model: Any, prompts: Sequence[Sequence[int]], count: int, sampling: Sampling, generator: torch.Generator
) -> list[list[int]]:
    """`count` replies to each prompt, as token ids, those to the first prompt first. The same
    prompts, sampling and state of the generator give the same replies."""
    model = unwrap_adapter(model)
    replies: list[list[int]] = [[] for _ in range(len(prompts) * count)]
    sizes = [count * (len(prompt) + sampling.new_tokens) for prompt in prompts]
    with torch.no_grad():
        for bucket in buckets(sizes, sampling.batch_tokens):
            rows = _generate_bucket(model, [prompts[index] for index in bucket], count, sampling, generator)
            for index in bucket:
                replies[index * count : (index + 1) * count] = [next(rows) for _ in range(count)]
    return replies


def _generate_bucket(
    model: Any, prompts: Sequence[Sequence[int]], count: int, sampling: Sampling, generator: torch.Generator
) -> Iterator[list[int]]:
    device, width = model.device, max(map(len, prompts))
    cache = Cache(
        layers=[_PreallocatedLayer(width + sampling.new_tokens) for _ in range(model.config.num_hidden_layers)]
    )
    mask = torch.zeros(len(prompts) * count, width + sampling.new_tokens, dtype=torch.bool, device=device)
    mask[:, width:] = True
    for index, prompt in enumerate(prompts):
        mask[index * count : (index + 1) * count, width - len(prompt) : width] = True
    ids = torch.tensor([[sampling.pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    shown = mask[::count, :width]
    hidden = _forward(model, ids, shown.long(), (shown.cumsum(-1) - 1).clamp(min=0), cache)
    cache.batch_repeat_interleave(count)
    positions = mask[:, :width].sum(-1, keepdim=True)  # (rows, 1)
    tokens = torch.full((len(mask), sampling.new_tokens), sampling.pad, device=device)
    lengths = torch.full((len(mask),), sampling.new_tokens, device=device)
    end_tokens = torch.tensor(sampling.end_tokens, device=device)
    rows, hidden = torch.arange(len(mask), device=device), hidden.repeat_interleave(count, 0)
    unfinished = torch.ones_like(rows, dtype=torch.bool)
    for step in range(sampling.new_tokens):
        token = _sample(model.get_output_embeddings()(hidden), sampling.temperature, generator)  # (rows,)
        tokens[rows[unfinished], step] = token[unfinished]
        ended = unfinished & torch.isin(token, end_tokens)
        lengths[rows[ended]] = step + 1
        unfinished = unfinished & ~ended
        count_left = int(unfinished.sum())
        if not count_left or step + 1 == sampling.new_tokens:
            break
        if count_left <= _COMPACT_SHARE * len(rows):
            cache.batch_select_indices(unfinished.nonzero()[:, 0])
            state = (rows, token, positions, mask, unfinished)
            rows, token, positions, mask, unfinished = (tensor[unfinished] for tensor in state)
        hidden = _forward(model, token[:, None], mask[:, None, None, : width + step + 1], positions + step, cache)
    return (row[:length].tolist() for row, length in zip(tokens.cpu(), lengths.tolist(), strict=True))


def _forward(model: Any, ids: Any, mask: Any, positions: Any, cache: Any) -> Any:
    """(rows, hidden) of the last token; `cache` grows by `ids`."""
    decoded = model.base_model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    )
    return decoded.last_hidden_state[:, -1]


def _sample(logits: Any, temperature: float, generator: torch.Generator) -> Any:
    """One token a row: the argmax of probability over exponential noise is a draw from the probabilities."""
    odds = (logits.float() / temperature).softmax(-1)
    noise = torch.empty_like(odds).exponential_(generator=generator)
    return (odds / noise).argmax(-1)
