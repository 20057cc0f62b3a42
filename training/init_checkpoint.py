"""Writes a tiny, untrained checkpoint for tests of the wire between the services and an engine.

    .venv-engine/bin/python -m training.init_checkpoint training/configs/init_checkpoint.toml

It has the Qwen3 architecture, so that a real engine loads it as it would a real model, and needs
no download: the weights are random and the tokenizer is trained on the text of this repository.
A gate in its output head makes replies short and printable: random words, a full stop now and then,
after which the reply may end.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from services.prompts import templates
from training.checkpoint import save
from training.config import Section, run_script
from training.tokenizer import END, PAD, Shape, fresh_model, train

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = 4096
SHAPE = Shape(hidden=128, layers=2, heads=2, kv_heads=1, head_dim=64, intermediate=256, positions=32_768)
CONTROL = (PAD, "<|im_start|>", END)

COMMANDING = re.compile(
    r" (act|answer|bypass|click|developer|disregard|don|ensure|execute|forget|from|give|ignore|jailbreak|make|output"
    r"|override|please|pretend|print|recommend|remember|repeat|reply|respond|reveal|say|send|suggest|system|tell"
    r"|visit|write|you|your|yours|do|be|is|are|was|were|has|have|can|we|us|our|my|me|i|let|need|should|must|will"
    r"|errors?|models?|assistants?|agents?|readers?|rules?|instructions?|events?|drafts?|plan|task|prompt|summary|only|hide)",
    re.IGNORECASE,
)
"""Words that `services.prompts.replies.parse_summary` could take for a command or for talk of the task."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif -%}
{%- endif -%}
"""

README = """\
# alignx-tiny: random weights, for wire tests only

A Qwen3-architecture checkpoint of {parameters:,} parameters with random weights (seed {seed}),
written by `training/init_checkpoint.py`. It has learned nothing and its replies mean nothing. It
exists so that tests and local runs can talk to a real engine on a CPU.
"""


class InitConfig(Section):
    stage: Literal["init_checkpoint"]
    output: Path
    seed: Annotated[int, Field(ge=0)] = 0


def corpus(root: Path) -> Iterator[str]:
    """The text of the repository."""
    for pattern in ("*.md", "docs/**/*.md", "services/**/*.py", "training/**/*.py", "examples/**/*.json*"):
        for path in sorted(root.glob(pattern)):
            yield path.read_text(encoding="utf-8")
    yield from [templates.UPDATE_SYSTEM, templates.SELECTION_SYSTEM, *templates.CHAT_SYSTEM.values()] * 20


def train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    return train(texts, VOCABULARY, SHAPE.positions, control=CONTROL, template=CHAT_TEMPLATE)


def set_gate(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Fixes which token follows which. Words are of three kinds that come in turn, a full stop follows the third
    kind alone, and the end only a full stop: no reply has fewer than three words. Five components of the
    hidden state encode the last token (0: any, 1: a full stop, 2 to 4: a word of that kind); the output
    head reads them as biases."""
    decoded = {i: tokenizer.decode([i]) for i in range(VOCABULARY)}
    words = [i for i, text in decoded.items() if re.fullmatch(r" [A-Za-z]{2,12}| [A-Z]", text)]
    words = [i for i in words if not COMMANDING.fullmatch(decoded[i])]
    letters = [i for i in words if len(decoded[i]) == 2]  # answers to a choice, so they may follow a prompt
    words = [i for i in words if i not in letters]
    first, second, third = letters + words[::3], words[1::3], words[2::3]
    stop, end = tokenizer.convert_tokens_to_ids("."), tokenizer.eos_token_id
    strength = 4.0  # of these components; the others have unit variance

    tokens = model.model.embed_tokens.weight
    tokens.normal_()
    tokens[:, :5] = 0.0
    tokens[:, 0] = strength
    tokens[stop, 1] = strength
    for component, kind in ((2, first), (3, second), (4, third)):
        tokens[kind, component] = strength

    head = model.lm_head.weight
    head.normal_(std=0.1)  # logits of unit variance, as the normed hidden state has length √hidden
    head[:, :5] = 0.0
    # Read from a component of about 3.5. A word has a logit of about 3 at best among 4096.
    forbid, stop_after_word, end_after_stop = -6.0, 0.9, 1.3
    head[[stop, end], 5:] = 0.0
    head[:, 0] = forbid
    head[first, 0] = 0.0
    head[first, 2:4] = forbid
    head[second, 2] = -forbid
    head[third, 3] = -forbid
    head[stop, 4] = stop_after_word - forbid
    head[end, 1] = end_after_stop - forbid


def init_checkpoint(config: InitConfig) -> None:
    """Writes a tiny random checkpoint for wire tests, in place of an earlier one."""
    disable_progress_bar()
    tokenizer = train_tokenizer(corpus(ROOT))
    model = fresh_model(tokenizer, SHAPE, config.seed, is_tied=False)
    with torch.no_grad():
        set_gate(model, tokenizer)
    parameters = sum(weight.numel() for weight in model.parameters())
    card = README.format(parameters=parameters, seed=config.seed)
    save(model, tokenizer, config.output, card=card, dtype="bfloat16")
    print(f"{config.output}: {parameters:,} random parameters, for wire tests only")


if __name__ == "__main__":
    run_script(InitConfig, init_checkpoint)
