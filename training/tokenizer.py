"""Trains a tokenizer on rows of the corpus and writes a fresh model for it: where a run from scratch starts.

    python -m training.tokenizer training/configs/nano/tokenizer.toml

A byte-level BPE, as Qwen's, with one addition that makes a small model on a CPU several times
faster: each fixed instruction of services/prompts/templates.py, hundreds of words that never change, is a
single token, and so are the tags around events and items. The text of a prompt stays the same to the
byte; it has fewer tokens. (A reworded instruction would become ordinary tokens that the model has not
learned.) The counts of the teacher in training/corpus
are single tokens as well: a small model learns early to repeat what followed a name before.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from services.prompts import build, templates
from training.checkpoint import save
from training.config import PositiveInt, Section, run_script

END: Final = "<|im_end|>"
PAD: Final = "<|endoftext|>"
ROLES: Final = tuple(f"<|im_start|>{role}\n" for role in ("system", "user", "assistant"))
CONTROL: Final = (PAD, "<|im_start|>", END, *ROLES)
VISIBLE: Final = ("<think>", "</think>")
"""Single tokens that stay in decoded text, as in Qwen3."""

# As Qwen's (a word with the space before it, runs of punctuation, line ends), but with numbers of two digits:
# the number of an event is one token then.
SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE: Final = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
"""The roles of Qwen3's. The instruction alone says whether to think, so `enable_thinking` changes nothing."""


COUNTS: Final = tuple(f" {count:+d}" for count in range(-9, 10))


class Shape(Section):
    """The model's size, in Qwen3's terms."""

    hidden: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt = 32
    intermediate: PositiveInt
    positions: PositiveInt = 8192
    rope_theta: Annotated[float, Field(gt=1)] = 10_000.0


class TokenizerConfig(Section):
    stage: Literal["tokenizer"]
    data: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Files of AlignXplore+ SFT rows."""
    rows: PositiveInt = 20_000
    """Rows of each that are read."""
    vocabulary: Annotated[int, Field(ge=400)]
    """Tokens in all, the fixed ones included."""
    output: Path
    seed: Annotated[int, Field(ge=0)] = 0
    shape: Shape


def fixed_texts() -> tuple[str, ...]:
    """The texts that services/prompts writes into every prompt of a kind; each becomes one token."""
    instructions = (
        templates.UPDATE_SYSTEM,
        f"\n\n{templates.UPDATE_REQUEST}",
        *templates.CHAT_SYSTEM.values(),
        templates.CHAT_ACKNOWLEDGEMENT,
        templates.SELECTION_SYSTEM,
        templates.SELECTION_PREFILL,
    )
    between = ["</query>\n<chosen>", "</chosen>\n<rejected>", "</rejected>\n</event>\n", "</events>"]
    blocks = ["<events>\n", "<past_summary>\n", "\n</past_summary>\n\n", "<preferences>\n", "\n</preferences>\n\n"]
    kinds = [f'" type="{kind}">\n' for kind in ("comparison", "click", "purchase", "rating", "post", "statement")]
    inner = [
        "<query>",
        "<chosen>",
        "<wrote>",
        "</wrote>\n",
        "</event>\n",
        '<item rating="',
        ' on 1 to 5">',
        "</item>\n",
    ]
    items = [f'<item letter="{letter.strip()}">\n' for letter in build.LETTERS]
    items += ["\n</item>", "\n</item>\n\n"]
    return (*instructions, *between, *blocks, '<event n="', *kinds, *inner, "</query>\n\n", *items)


def texts(files: Iterable[Path], rows: int) -> Iterator[str]:
    """The contents of the messages in files of SFT rows."""
    for path in files:
        with path.open("rb") as lines:
            for row in map(json.loads, islice(lines, rows)):
                for message in (*row["prompt"], *row["completion"]):
                    yield message["content"]


def train(
    corpus: Iterable[str],
    vocabulary: int,
    positions: int,
    *,
    control: Sequence[str] = CONTROL,
    fixed: Sequence[str] = (),
    template: str = CHAT_TEMPLATE,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `vocabulary` tokens, in which any text round-trips, `fixed` texts are
    one token each, and so is each letter of a selection."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # Often enough that every letter of a selection becomes one token.
    letters = [f"Item{letter}\n" for letter in build.LETTERS] * 10_000
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(control) - len(VISIBLE) - len(fixed),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((*letters, *(_without(text, fixed) for text in corpus)), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in (*VISIBLE, *fixed)])
    for letter in build.LETTERS:
        if len(tokenizer.encode(letter).ids) != 1:
            raise SystemExit(f"The tokenizer needs more than one token for {letter!r}")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=positions)
    fast.chat_template = template
    return fast


def _without(text: str, fixed: Sequence[str]) -> str:
    """The text for BPE to learn from."""
    for phrase in fixed:
        text = text.replace(phrase, "\n")
    return text


def fresh_model(
    tokenizer: PreTrainedTokenizerFast, shape: Shape, seed: int, *, is_tied: bool = True
) -> Qwen3ForCausalLM:
    """A Qwen3 with random weights for this tokenizer; `is_tied` makes its input embedding the output layer as well."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.positions,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=is_tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(  # as the family samples summaries
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        top_k=20,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def tokenizer(config: TokenizerConfig) -> None:
    """Trains a tokenizer and writes a model with random weights."""
    fixed = (*fixed_texts(), *COUNTS)
    trained = train(texts(config.data, config.rows), config.vocabulary, config.shape.positions, fixed=fixed)
    model = fresh_model(trained, config.shape, config.seed)
    parameters = sum(weight.numel() for weight in model.parameters())
    card = f"# Random weights\n\n{parameters:,} parameters that have learned nothing (seed {config.seed}).\n"
    save(model, trained, config.output, card=card, dtype="float32")
    print(f"{config.output}: {parameters:,} random parameters, {len(trained):,} tokens")


if __name__ == "__main__":
    run_script(TokenizerConfig, tokenizer)
