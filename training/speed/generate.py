"""Writes several replies to each of a few prompts with the model that is being trained.

What `transformers.generate` does for a rollout, with less work: a prompt is read once for all its
replies, keys and values go into room that was made before, and a reply that has ended is computed no
further. Sampling is plain: a temperature, the whole vocabulary.

    replies = write(model, prompts, 4, sampling, generator)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers.cache_utils import Cache, DynamicLayer

from training.speed.forward import buckets

_KEPT: Final = 0.75
"""Rows that have ended leave the computation when no more than this share still goes on."""


@dataclass(frozen=True, slots=True)
class Sampling:
    new_tokens: int
    """A reply is cut off here."""
    temperature: float
    ends: tuple[int, ...]
    """Tokens that end a reply; they stay at its end."""
    pad: int
    room: int
    """Tokens of prompts and replies that are held at once; a group is never split."""


class _Roomy(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """Keys and values of a layer, with room for those to come: joining tensors at every token would
    copy all of them every time."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.length = 0

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            rows, heads, _, size = key_states.shape
            self.keys = key_states.new_empty(rows, heads, self.room, size)
            self.values = value_states.new_empty(rows, heads, self.room, value_states.shape[-1])
        start, self.length = self.length, self.length + key_states.shape[-2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length


def write(
    model: Any, prompts: Sequence[Sequence[int]], count: int, sampling: Sampling, generator: torch.Generator
) -> list[list[int]]:
    """`count` replies to each prompt, as token ids, those to the first prompt first. The same
    prompts, sampling and state of the generator give the same replies."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model  # inside a PEFT wrapper
    replies: list[list[int]] = [[] for _ in range(len(prompts) * count)]
    sizes = [count * (len(prompt) + sampling.new_tokens) for prompt in prompts]
    with torch.no_grad():
        for bucket in buckets(sizes, sampling.room):
            written = _written(model, [prompts[index] for index in bucket], count, sampling, generator)
            for index in bucket:
                replies[index * count : (index + 1) * count] = [next(written) for _ in range(count)]
    return replies


def _written(
    model: Any, prompts: Sequence[Sequence[int]], count: int, sampling: Sampling, generator: torch.Generator
) -> Iterator[list[int]]:
    device, width = model.device, max(map(len, prompts))
    cache = Cache(layers=[_Roomy(width + sampling.new_tokens) for _ in range(model.config.num_hidden_layers)])
    seen = torch.zeros(len(prompts) * count, width + sampling.new_tokens, dtype=torch.bool, device=device)
    seen[:, width:] = True
    for index, prompt in enumerate(prompts):
        seen[index * count : (index + 1) * count, width - len(prompt) : width] = True
    ids = torch.tensor([[sampling.pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    hidden = _read(model, ids, seen[::count, :width], cache)
    cache.batch_repeat_interleave(count)
    positions = seen[:, :width].sum(-1, keepdim=True)  # (rows, 1)
    written = torch.full((len(seen), sampling.new_tokens), sampling.pad, device=device)
    lengths = torch.full((len(seen),), sampling.new_tokens, device=device)
    ends = torch.tensor(sampling.ends, device=device)
    rows, hidden = torch.arange(len(seen), device=device), hidden.repeat_interleave(count, 0)
    going = torch.ones_like(rows, dtype=torch.bool)
    for step in range(sampling.new_tokens):
        token = _sampled(model.get_output_embeddings()(hidden), sampling.temperature, generator)  # (rows,)
        written[rows[going], step] = token[going]
        ended = going & torch.isin(token, ends)
        lengths[rows[ended]] = step + 1
        going = going & ~ended
        left = int(going.sum())
        if not left or step + 1 == sampling.new_tokens:
            break
        if left <= _KEPT * len(rows):
            cache.batch_select_indices(going.nonzero()[:, 0])
            rows, token, positions, seen, going = (each[going] for each in (rows, token, positions, seen, going))
        hidden = _next(model, token[:, None], positions + step, seen[:, : width + step + 1], cache)
    return (row[:length].tolist() for row, length in zip(written.cpu(), lengths.tolist(), strict=True))


def _read(model: Any, ids: Any, mask: Any, cache: Any) -> Any:
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    decoded = model.base_model(
        input_ids=ids, attention_mask=mask.long(), position_ids=positions, past_key_values=cache, use_cache=True
    )
    return decoded.last_hidden_state[:, -1]


def _next(model: Any, token: Any, position: Any, mask: Any, cache: Any) -> Any:
    decoded = model.base_model(
        input_ids=token,
        attention_mask=mask[:, None, None],
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
    )
    return decoded.last_hidden_state[:, 0]


def _sampled(logits: Any, temperature: float, generator: torch.Generator) -> Any:
    """One token a row: the largest of probability over exponential noise, which is a draw from the
    probabilities."""
    odds = (logits.float() / temperature).softmax(-1)
    noise = torch.empty_like(odds).exponential_(generator=generator)
    return (odds / noise).argmax(-1)
