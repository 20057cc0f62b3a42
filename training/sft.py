"""Supervised fine-tuning: a model learns to write the replies of its rows.

    python -m training.sft training/configs/nano/sft.toml [section.field=value …]
    torchrun --nproc-per-node 8 -m training.sft training/configs/full/alignxplus_sft.toml

For AlignXplore's cold start and AlignXplore+'s SFT: rows of prompt and completion messages. TRL's
SFTTrainer, with what made it faster around it: rows are tokenised once and in batches, batches hold
rows of like length, and on a CPU only the tokens that count for the loss pass the output layer.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from torch.nn.functional import pad
from transformers import PrinterCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig as Arguments
from trl import SFTTrainer

from training.checkpoint import WholeCheckpoints, resume_point
from training.config import PositiveInt, Section, Stage, devices, run_script
from training.data.tokens import IGNORED, LENGTH, SftEncoder, tokenised
from training.finish import end
from training.progress import Progress
from training.speed.batches import Bucketed, Collator
from training.speed.next_token_scores import scorable, score_next
from training.trl_arguments import adapter, base_tokenizer, on_cpu, shared


class Sft(Section):
    max_length: PositiveInt = 16_384
    """Tokens of prompt and reply together; longer rows are left out, because a cut reply teaches not to end."""
    completion_only: bool = True
    """Whether only the reply counts for the loss; else the prompt does as well."""
    bucket: bool = True
    """Whether a micro-batch holds rows of like length."""
    packing: bool = False
    """Joins rows up to max_length into one; `batch` then counts such joined rows. For GPUs with flash attention."""
    attention: Literal["sdpa", "flash_attention_2"] = "sdpa"
    cache: Path = Path("var/tokens")
    """Where tokenised rows are kept."""


class SftConfig(Stage):
    stage: Literal["sft"]
    sft: Sft = Sft()


class Trainer(WholeCheckpoints, SFTTrainer):  # type: ignore[misc]  # trl is untyped here
    """TRL's, with our order of rows and, on a CPU, an output layer for the tokens that count."""

    def __init__(self, *args: Any, config: SftConfig, progress: Progress, **kwargs: Any) -> None:
        self._config = config
        self._progress = progress
        super().__init__(*args, callbacks=[progress], **kwargs)
        self.remove_callback(PrinterCallback)  # prints what `progress` tells in short
        self._lean = on_cpu() and scorable(self.model.config)
        if self._lean:
            score_next(self.model.get_base_model() if config.model.lora else self.model)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self._config.sft.bucket or self._config.sft.packing:
            return super()._get_train_sampler(train_dataset)
        return Bucketed(
            self.train_dataset.with_format("numpy")[LENGTH][:],
            micro_batch=self._config.optim.micro_batch,
            devices=devices(),
            seed=self._config.run.seed,
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over the counted tokens of a whole optimizer step, as TRL's."""
        real = inputs["input_ids"] != self.processing_class.pad_token_id
        self._progress.tokens += int(real.sum()) * self.accelerator.num_processes
        if not self._lean or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        next_tokens = pad(inputs.pop("labels")[:, 1:], (0, 1), value=IGNORED)
        total = -model(**inputs, next_tokens=next_tokens).sum()
        count = (next_tokens != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss = total / torch.as_tensor(count).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # the gradients' mean over processes divides by it
        return loss


def sft(config: SftConfig) -> dict[str, Any]:
    """Runs a supervised fine-tuning and writes its checkpoint; returns its metrics."""
    disable_progress_bar()
    arguments = Arguments(
        **shared(config),
        max_length=config.sft.max_length,
        packing=config.sft.packing,
        dataset_kwargs=None if config.sft.packing else {"skip_prepare_dataset": True},
    )
    arguments.model_init_kwargs["attn_implementation"] = config.sft.attention
    tokenizer = base_tokenizer(config)
    encoder = SftEncoder(tokenizer, max_length=config.sft.max_length, completion_only=config.sft.completion_only)
    data = config.data
    with PartialState().main_process_first():  # the others find the rows tokenised
        newest = resume_point(config)
        rows = tokenised(data.train, encoder, config.sft.cache, limit=data.limit, malformed=data.malformed)
    progress = Progress()
    ours = {} if config.sft.packing else {"data_collator": Collator(tokenizer.pad_token_id, masked=not on_cpu())}
    trainer = Trainer(
        config.model.path,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapter(config),
        config=config,
        progress=progress,
        **ours,
    )
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    return end(trainer, config, progress, len(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    run_script(SftConfig, sft, arguments)


if __name__ == "__main__":
    main()
