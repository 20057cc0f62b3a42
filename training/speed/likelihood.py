"""Log-probabilities of several replies to one prompt, as in preference pairs.

A prompt is computed once for all its replies (training/speed/prefix_sharing.py), and the prefix that all
prompts share once for all of them. For a pair with a long prompt that is half the work of two rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch

from training.speed.forward import Ids, buckets, fill_cache, logprobs, repeat_cache, shared_prefix_length
from training.speed.prefix_sharing import IGNORED, pack_replies

PACKED_TOKENS: Final = 4_096
"""Longer prompts with their replies are not packed: the mask of a pack grows with the square."""

PromptReply = tuple[Ids, Ids]


def group_by_prompt(rows: Iterable[PromptReply]) -> dict[Ids, list[Ids]]:
    """The different replies to each prompt that has several, none of them empty."""
    by_prompt: dict[Ids, list[Ids]] = {}
    for prompt, reply in dict.fromkeys(rows):
        if reply:
            by_prompt.setdefault(prompt, []).append(reply)
    return {
        prompt: replies
        for prompt, replies in by_prompt.items()
        if len(replies) > 1 and len(prompt) + sum(map(len, replies)) <= PACKED_TOKENS
    }


def packed_logprobs(
    causal: Any, by_prompt: Mapping[Ids, Sequence[Ids]], *, pad: int, budget: int
) -> dict[PromptReply, list[float]]:
    """The log-probability of each token of each reply. `budget` bounds the tokens of a forward, padding
    included. All layers of `causal` must attend to the whole text (`has_full_attention`)."""
    if not by_prompt:
        return {}
    scores: dict[PromptReply, list[float]] = {}
    prompts = list(by_prompt)
    # A reply's first token is predicted by its prompt's last, which therefore stays in the pack.
    shared = shared_prefix_length(prompts, min(map(len, prompts)) - 1)
    lengths = [len(prompt) - shared + sum(map(len, by_prompt[prompt])) for prompt in prompts]
    cache = fill_cache(causal, prompts[0][:shared])
    for bucket in buckets(lengths, budget):
        rows = [(prompts[index], reply) for index in bucket for reply in by_prompt[prompts[index]]]
        scores.update(zip(rows, _forward(causal, rows, shared, cache, pad), strict=True))
    return scores


def _forward(causal: Any, rows: Sequence[PromptReply], shared: int, cache: Any, pad: int) -> list[list[float]]:
    """Rows of one prompt follow each other; `cache` holds the first `shared` tokens of all."""
    replies = [reply for _, reply in rows]
    packed = pack_replies([prompt[shared:] for prompt, _ in rows], replies, pad).to(causal.device)
    decoded = causal.base_model(
        input_ids=packed.ids,
        attention_mask=torch.nn.functional.pad(packed.mask(), (shared, 0), value=True),
        position_ids=packed.positions + shared,
        past_key_values=repeat_cache(cache, len(packed.ids)),
        use_cache=cache is not None,
    )
    counted = packed.labels != IGNORED
    values = logprobs(causal, decoded.last_hidden_state[counted], packed.labels[counted])
    scores = torch.zeros(packed.labels.shape, device=values.device).masked_scatter(counted, values)
    return [row[: len(reply)] for row, reply in zip(packed.by_reply(scores).tolist(), replies, strict=True)]
