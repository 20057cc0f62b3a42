"""Log-probabilities of the labelled tokens alone, for training.

The logits of every position of a batch are most of the memory of a small model and, for a row with a long
prompt and a short reply, most of the work: 32 rows of 2,048 tokens over a vocabulary of 49,152 are 13 GB in
float32. Only labelled tokens pass the output layer here, some at a time, and the backward computes their logits
anew. On GPUs TRL's fused kernels do that, without the entropy and the accuracy that its trainers add to it;
elsewhere `training.speed.forward.logprobs` does.
"""

from types import MethodType
from typing import Any

import torch
from transformers.utils import is_triton_available
from trl.trainer.utils import add_fused_lm_head

from training.speed.forward import adjusted_logits, logprobs, unwrap_adapter
from training.speed.prefix_sharing import IGNORED


def has_plain_logits(config: Any) -> bool:
    """Whether a model's logits are the output layer's product and nothing else."""
    return adjusted_logits(config) is None and not getattr(config, "output_router_logits", None)


def has_fused_kernels() -> bool:
    """Whether TRL's kernels run on this machine."""
    return torch.cuda.is_available() and bool(is_triton_available())


def add_next_token_scores(model: Any) -> None:
    """Makes `model(input_ids=…, next_tokens=…)` return the log-probabilities of those tokens: shaped as
    `next_tokens`, which holds for each position the token that follows it, or IGNORED; 0 there. In float32.

    It replaces the model's own forward, because DeepSpeed and FSDP shard that.
    """
    model, fused = unwrap_adapter(model), has_fused_kernels()
    if fused:
        add_fused_lm_head(model)
    forward = model.forward

    def score(self: Any, *args: Any, next_tokens: Any = None, **kwargs: Any) -> Any:
        if next_tokens is None:
            return forward(*args, **kwargs)
        if fused:
            return forward(*args, shift_labels=next_tokens, fused_lm_head=True, **kwargs).log_probs
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state
        counted = next_tokens != IGNORED
        scores = logprobs(self, hidden[counted], next_tokens[counted])
        return torch.zeros_like(next_tokens, dtype=scores.dtype).masked_scatter(counted, scores)

    model.forward = MethodType(score, model)
