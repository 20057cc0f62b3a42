"""Supervised fine-tuning: a model learns to write the replies of its rows.

    python -m training.sft training/configs/nano/sft.toml [section.field=value …]
    torchrun --nproc-per-node 8 -m training.sft training/configs/full/alignxplus_sft.toml

For AlignXplore's cold start and AlignXplore+'s SFT: rows of prompt and completion messages. TRL's
SFTTrainer, made faster: rows are tokenized once, batches hold rows of like length, and only the labelled
tokens pass the output layer.
"""

from pathlib import Path
from typing import Any, Literal, Self

import training.libraries  # noqa: F401  # checks the versions of TRL and transformers before their import

# isort: split
import torch
from pydantic import model_validator
from torch.nn.functional import pad
from trl import SFTConfig as Arguments
from trl import SFTTrainer

from training.checkpoint import resume_point
from training.config import PositiveInt, Section, Stage, run_script
from training.data.tokens import SftEncoder, longest_row, tokenize
from training.finish import finish
from training.speed.batches import Collator
from training.speed.memory_estimate import MicroBatch, check_memory
from training.speed.next_token_scores import add_next_token_scores, has_plain_logits
from training.speed.prefix_sharing import IGNORED
from training.trainer import StageTrainer
from training.trl_arguments import load_tokenizer, on_cpu, shared_arguments


class Sft(Section):
    max_length: PositiveInt = 16_384
    """Tokens of prompt and reply together; longer rows are left out: a truncated reply teaches not to end."""
    completion_only: bool = True
    """Whether the loss is on the reply alone, or on the prompt as well."""
    bucket: bool = True
    """Whether a micro-batch holds rows of like length."""
    packing: bool = False
    """Joins rows up to max_length into one, in which none sees another; `batch` then counts such joined rows."""
    attention: Literal["sdpa", "flex_attention", "flash_attention_2"] = "sdpa"
    """Sdpa computes packed rows with a mask that grows with the square of the tokens of a micro-batch; the other
    two, which need a GPU, skip what no row sees."""
    cache: Path = Path("var/tokens")
    """Folder of tokenized rows."""


class SftConfig(Stage):
    stage: Literal["sft"]
    sft: Sft = Sft()

    @model_validator(mode="after")
    def _check_attention(self) -> Self:
        if self.sft.attention != "sdpa" and on_cpu():
            raise ValueError(f"sft.attention {self.sft.attention} needs a GPU; on a CPU set sdpa")
        return self

    def largest_batch(self, longest: int) -> MicroBatch:
        """Of rows up to `longest` tokens."""
        rows, sft = self.optim.micro_batch, self.sft
        if sft.packing:  # the rows of a micro-batch become one
            longest, rows = rows * sft.max_length, 1
        return MicroBatch(rows, longest, "sft.max_length", is_masked=sft.packing and sft.attention == "sdpa")


class Trainer(StageTrainer, SFTTrainer):  # type: ignore[misc]  # trl is untyped here
    """Only the labelled tokens pass the output layer."""

    def __init__(self, *, config: SftConfig, **arguments: Any) -> None:
        super().__init__(config=config, bucket=config.sft.bucket and not config.sft.packing, **arguments)
        self._scores_labels_only = has_plain_logits(self.model.config)
        if self._scores_labels_only:
            add_next_token_scores(self.model)
        elif not config.sft.packing:
            self.data_collator.masked = True  # TRL's loss counts the tokens of the mask

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over the labelled tokens of a whole optimizer step, as TRL's."""
        tokens = (inputs["input_ids"] != self.processing_class.pad_token_id).sum()
        self.count_tokens(tokens, computed=tokens)
        if not self._scores_labels_only or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        next_tokens = pad(inputs.pop("labels")[:, 1:], (0, 1), value=IGNORED)
        total = -model(**inputs, next_tokens=next_tokens).sum()
        count = (next_tokens != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss = total / torch.as_tensor(count).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # averaging the gradients divides by it
        return loss


def sft(config: SftConfig) -> dict[str, Any]:
    """Runs a supervised fine-tuning and writes its checkpoint; returns its metrics."""
    settings = config.sft
    arguments = Arguments(
        **shared_arguments(config),
        max_length=settings.max_length,
        packing=settings.packing,
        dataset_kwargs=None if settings.packing else {"skip_prepare_dataset": True},
    )
    arguments.model_init_kwargs["attn_implementation"] = settings.attention
    tokenizer = load_tokenizer(config)
    checkpoint = resume_point(config)
    encoder = SftEncoder(tokenizer, max_length=settings.max_length, completion_only=settings.completion_only)
    rows = tokenize(config.data, encoder, settings.cache)
    check_memory(config, config.largest_batch(longest_row(rows)))
    trainer = Trainer(
        config=config,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=None if settings.packing else Collator(tokenizer.pad_token_id),
    )
    trainer.train(checkpoint)
    return finish(trainer, config, len(rows))


if __name__ == "__main__":
    run_script(SftConfig, sft)
