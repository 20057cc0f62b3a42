"""Log-probabilities of the labelled tokens alone, for training on a CPU.

Without Triton, TRL computes the logits of every position of a batch, and entropy and accuracy as well,
each a pass over all logits. For a row with a long prompt and a short reply that is most of the work.
On GPUs its fused kernels score only labelled tokens, and nothing here is used.
"""

from types import MethodType
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from training.speed.forward import adjusted_logits
from training.speed.prefix_sharing import IGNORED


def has_plain_logits(config: Any) -> bool:
    """Whether a model's logits are the output layer's product and nothing else."""
    return adjusted_logits(config) is None and not getattr(config, "output_router_logits", None)


def add_next_token_scores(model: Any) -> None:
    """Makes `model(input_ids=…, next_tokens=…)` return the log-probabilities of those tokens: shaped as
    `next_tokens`, which holds for each position the token that follows it, or IGNORED; 0 there.

    It replaces the model's own forward, because DeepSpeed and FSDP shard that.
    """
    forward = model.forward

    def score(self: Any, *args: Any, next_tokens: Any = None, **kwargs: Any) -> Any:
        if next_tokens is None:
            return forward(*args, **kwargs)
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state
        counted = next_tokens != IGNORED
        scores = -cross_entropy(self.lm_head(hidden[counted]).float(), next_tokens[counted], reduction="none")
        return torch.zeros_like(next_tokens, dtype=scores.dtype).masked_scatter(counted, scores)

    model.forward = MethodType(score, model)
