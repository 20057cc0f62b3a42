"""An output layer for the tokens that count, for training on a CPU.

TRL scores every position of a batch where it has no Triton, and takes entropy and accuracy besides,
each a pass over all logits. Of a row with a long prompt and a short reply that is most of the work.
On GPUs its fused kernels score only what counts, and nothing here is used.
"""

from types import MethodType
from typing import Any, Final

import torch
from torch.nn.functional import cross_entropy

from training.data.tokens import IGNORED

ALTERED: Final = ("final_logit_softcapping", "logits_scaling", "logit_scale", "output_router_logits")


def scorable(config: Any) -> bool:
    """Whether a model's logits are the output layer's product and nothing else."""
    return not any(getattr(config, name, None) for name in ALTERED)


def score_next(model: Any) -> None:
    """Lets `model(input_ids=…, next_tokens=…)` return the log-probabilities of those tokens: shaped as
    `next_tokens`, which holds for each position the token that follows it, or IGNORED; 0 there.

    It is the model's own forward that does so, because what shards a model works on that.
    """
    forward = model.forward

    def scored(self: Any, *args: Any, next_tokens: Any = None, **kwargs: Any) -> Any:
        if next_tokens is None:
            return forward(*args, **kwargs)
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state
        counted = next_tokens != IGNORED
        found = -cross_entropy(self.lm_head(hidden[counted]).float(), next_tokens[counted], reduction="none")
        return torch.zeros_like(next_tokens, dtype=found.dtype).masked_scatter(counted, found)

    model.forward = MethodType(scored, model)
