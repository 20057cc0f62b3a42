"""What the trainers of all stages add to TRL's: atomic checkpoints, progress lines, batches of like length.

class Trainer(StageTrainer, SFTTrainer): ...
trainer = Trainer(config=config, args=arguments, train_dataset=rows, processing_class=tokenizer)
trainer.train(resume_from_checkpoint=resume_point(config))
"""

import math
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import PrinterCallback, TrainerCallback

from training.checkpoint import (
    SAVING,
    commit,
    is_lora,
    list_checkpoints,
    load_adapter,
    remove,
    report_disk_errors,
    save,
)
from training.config import Stage, devices
from training.data.tokens import LENGTH
from training.exceptions import CheckpointError, PartEnded, warn_on_failure
from training.progress import Progress
from training.speed.batches import Bucketed
from training.speed.forward import unwrap_adapter
from training.speed.utilization import device_peak, flops_per_token, mfu
from training.trl_arguments import lora_config


class StageTrainer:
    """Stands before a trainer of TRL among the bases of a class."""

    args: Any
    accelerator: Any
    state: Any
    model: Any
    processing_class: Any
    train_dataset: Any
    _is_saving = False

    def __init__(self, *, config: Stage, bucket: bool = False, **arguments: Any) -> None:
        """`bucket` makes batches of rows of like length; the rows then have a column "length"."""
        self._config = config
        self._bucket = bucket
        self.progress = Progress()
        callbacks = [self.progress, EpochOrder(), SaveCheck(), PartLimit(config.run.hours)]
        super().__init__(model=config.model.path, peft_config=lora_config(config), callbacks=callbacks, **arguments)  # type: ignore[call-arg]
        if config.model.lora and config.model.lora.start:
            load_adapter(self.model, config.model.lora.start)
        if peak := device_peak():
            self.progress.mfu = partial(mfu, flops_per_token(self.model), devices=devices(), peak=peak)
        self.remove_callback(PrinterCallback)  # type: ignore[attr-defined]  # repeats what Progress prints

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self._bucket:
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        return Bucketed(
            self.train_dataset.with_format("numpy")[LENGTH][:],
            micro_batch=self._config.optim.micro_batch,
            devices=devices(),
            seed=self._config.run.seed,
        )

    def count_tokens(self, tokens: Any, *, computed: Any = 0) -> None:
        """Adds a micro-batch of this device to the tokens of the run; all devices take about as many. `computed` are
        the tokens that its forward reads; without them the run has no MFU."""
        self.progress.count(tokens * self.accelerator.num_processes, computed * self.accelerator.num_processes)

    def train(self, resume_from_checkpoint: Path | None = None) -> Any:
        """Trains to the last step. A later failure, such as TensorBoard's, is a warning.

        Raises PartEnded where `run.hours` end it before.
        """
        if is_lora(self.model):
            self.model.create_or_update_model_card = self.create_model_card  # PEFT writes it before the weights
        safe = f"all steps are done, and the weights go to {self._config.run.output}"
        checkpoint = str(resume_from_checkpoint) if resume_from_checkpoint else None
        result = None
        with warn_on_failure("ending the training", safe, when=self._has_trained):
            result = super().train(resume_from_checkpoint=checkpoint)  # type: ignore[misc]
        if not self._has_trained():
            raise PartEnded(self.state.global_step, self.state.max_steps)
        return result

    def _has_trained(self) -> bool:
        return bool(0 < self.state.max_steps <= self.state.global_step)

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(self.args.output_dir)
        return str(folder / SAVING if self._is_saving else folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            return  # the finished checkpoint follows; resumed from here, transformers would train one step too many
        folder, name = Path(self.args.output_dir), f"checkpoint-{self.state.global_step}"
        self._is_saving = True
        try:
            with report_disk_errors(folder / name):
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
                self.accelerator.wait_for_everyone()
                if self.accelerator.is_main_process:
                    commit(folder / SAVING / name, folder / name)
                    self._remove_checkpoints(folder / name, keep=self.args.save_total_limit)
                self.accelerator.wait_for_everyone()
        except CheckpointError:
            shutil.rmtree(folder / SAVING, ignore_errors=True)
            raise
        finally:
            self._is_saving = False

    def save_finished(self) -> None:
        """Writes the finished checkpoint and removes those to resume from; every process calls it."""
        run, state = self._config.run, None
        if self.accelerator.num_processes > 1:
            state = self.accelerator.get_state_dict(self.model_wrapped)  # type: ignore[attr-defined]
        if self.accelerator.is_main_process:
            model = self.accelerator.unwrap_model(self.model)
            save(model, self.processing_class, run.output, dtype=run.final_weights, state=state)
            self._remove_checkpoints(run.output, keep=0)

    def _remove_checkpoints(self, newest: Path, *, keep: int) -> None:
        """Removes all but the `keep` latest; `newest` holds the weights."""
        checkpoints = list_checkpoints(Path(self.args.output_dir))
        for path in checkpoints[: max(len(checkpoints) - keep, 0)]:
            with warn_on_failure(f"removing {path}", f"the weights are in {newest}"):
                remove(path)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Writes none during the training; the card follows the finished checkpoint (training/finish.py)."""


class EpochOrder(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Tells the sampler its epoch: after a resumption, transformers and accelerate do not reach that of several
    processes, which lies below a SkipBatchSampler and a BatchSamplerShard."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, *, train_dataloader: Any, **kwargs: Any) -> None:
        batches = train_dataloader.batch_sampler
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        batches.sampler.set_epoch(int(state.epoch or 0))


class PartLimit(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Stops at the first checkpoint after so many hours, counted from its making in the first process."""

    def __init__(self, hours: float | None) -> None:
        self._ends = math.inf if hours is None else time.monotonic() + 3600 * hours

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        [is_over] = broadcast_object_list([time.monotonic() > self._ends])
        if is_over and state.global_step < state.max_steps:
            control.should_training_stop = True


class SaveCheck(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Before the first step: saves configurations and tokenizer to a temporary folder of the run.

    transformers loads some models that it refuses to save, such as one whose generation_config.json sets a
    temperature without sampling. At the first checkpoint, that error would cost every step before it.
    """

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **kwargs: Any
    ) -> None:
        """Raises CheckpointError."""
        if not state.is_world_process_zero:
            return
        base = unwrap_adapter(model)
        try:
            with tempfile.TemporaryDirectory(dir=args.output_dir, prefix=".save-check-") as folder:
                base.save_pretrained(folder, state_dict={})
                processing_class.save_pretrained(folder)
        except (OSError, ValueError) as error:
            cause = " ".join(str(error).split())
            raise CheckpointError(f"a checkpoint of {base.name_or_path} cannot be written: {cause}") from error
