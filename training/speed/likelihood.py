"""Log-probabilities of several replies to one prompt, as preference pairs have them.

A prompt is computed once for all its replies (training/speed/prefix_sharing.py packs them behind it), and what all
prompts begin with once for all of them. Of a pair with a long prompt that is half the work of two rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch

from training.speed.forward import Ids, beginning, buckets, cached, logprobs, repeated
from training.speed.prefix_sharing import IGNORED, on, pack

PACKED_TOKENS: Final = 4_096
"""Longer prompts with their replies are not packed: the mask of a pack grows with the square."""

Asked = tuple[Ids, Ids]
"""Prompt and reply."""


def packable(asked: Iterable[Asked]) -> dict[Ids, list[Ids]]:
    """The different replies to each prompt that has several, none of them empty."""
    by_prompt: dict[Ids, list[Ids]] = {}
    for prompt, reply in dict.fromkeys(asked):
        if reply:
            by_prompt.setdefault(prompt, []).append(reply)
    return {
        prompt: replies
        for prompt, replies in by_prompt.items()
        if len(replies) > 1 and len(prompt) + sum(map(len, replies)) <= PACKED_TOKENS
    }


def packed_logprobs(
    causal: Any, by_prompt: Mapping[Ids, Sequence[Ids]], *, pad: int, budget: int
) -> dict[Asked, list[float]]:
    """The log-probability of each token of each reply. `budget` bounds the tokens of a forward, padding
    included. All layers of `causal` must see the whole text (`sees_everything`)."""
    if not by_prompt:
        return {}
    found: dict[Asked, list[float]] = {}
    prompts = list(by_prompt)
    # A reply's first token is predicted by its prompt's last, which therefore stays in the pack.
    shared = beginning(prompts, min(map(len, prompts)) - 1)
    lengths = [len(prompt) - shared + sum(map(len, by_prompt[prompt])) for prompt in prompts]
    cache = cached(causal, prompts[0][:shared])
    for bucket in buckets(lengths, budget):
        asked = [(prompts[index], reply) for index in bucket for reply in by_prompt[prompts[index]]]
        found.update(zip(asked, _forward(causal, asked, shared, cache, pad), strict=True))
    return found


def _forward(causal: Any, asked: Sequence[Asked], shared: int, cache: Any, pad: int) -> list[list[float]]:
    """`asked` in groups of one prompt each; `cache` holds the first `shared` tokens of all."""
    replies = [reply for _, reply in asked]
    packed = on(pack([prompt[shared:] for prompt, _ in asked], replies, pad), causal.device)
    decoded = causal.base_model(
        input_ids=packed.ids,
        attention_mask=torch.nn.functional.pad(packed.mask(), (shared, 0), value=True),
        position_ids=packed.positions + shared,
        past_key_values=repeated(cache, len(packed.ids)),
        use_cache=cache is not None,
    )
    counted = packed.labels != IGNORED
    values = logprobs(causal, decoded.last_hidden_state[counted], packed.labels[counted])
    scores = torch.zeros(packed.labels.shape, device=values.device).masked_scatter(counted, values)
    return [row[: len(reply)] for row, reply in zip(packed.by_reply(scores).tolist(), replies, strict=True)]
