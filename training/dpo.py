"""Direct preference optimization: a model learns to answer as the user it is shown would have it.

    python -m training.dpo training/configs/nano/dpo_ica.toml [section.field=value …]
    torchrun --nproc-per-node 8 -m training.dpo training/configs/full/alignxpert_ica.toml

For AlignXpert's in-context and preference-bridged alignment (ICA, PBA), from AlignX rows. TRL's
DPOTrainer with the sigmoid loss, and what made it faster: pairs are tokenised once and in batches,
batches hold pairs of like length, the chosen and the rejected reply share the computation of their
prompt, and the reference model is asked once, before training, and then let go.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from accelerate import PartialState
from datasets import Dataset
from pydantic import Field, model_validator
from torch.nn.functional import logsigmoid
from transformers import PrinterCallback
from transformers.utils.logging import disable_progress_bar
from trl import DPOConfig as Arguments
from trl import DPOTrainer

from training.checkpoint import WholeCheckpoints, resume_point
from training.config import PositiveInt, Section, Stage, devices, run_script
from training.data.preference_pairs import AlignXEncoder, PairEncoder
from training.data.tokens import LENGTH, Encoder, tokenised
from training.finish import end
from training.progress import Progress
from training.speed.batches import Bucketed, SharedPairs
from training.speed.next_token_scores import scorable, score_next
from training.speed.prefix_sharing import Packed
from training.trl_arguments import adapter, base_tokenizer, on_cpu, shared


class Dpo(Section):
    mode: Literal["ica", "pba", "pairs"]
    """What the prompt shows of the user: choices; the directions they have in common; or, with
    "pairs", whatever the messages of ready-made pairs say."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """How closely the model is held to the reference."""
    max_length: PositiveInt = 8192
    """Tokens of prompt and reply; pairs with a longer one are left out."""
    max_history: PositiveInt = 16
    """The latest events of a user that are read."""
    history_tokens: PositiveInt = 6144
    """Estimated tokens of those in mode ica; the oldest that do not fit are dropped."""
    shown: Literal["comparisons", "all"] = "comparisons"
    """Whether mode ica shows the user's description and posts as well."""
    precompute_reference: bool = True
    """Asks the reference model once, before training; else at every step, with two models in memory."""
    share_prompts: bool = True
    """Whether both replies share the computation of their prompt. Their mask takes the square of the
    tokens: not for prompts of many thousand tokens."""
    bucket: bool = True
    """Whether a micro-batch holds pairs of like length."""
    cache: Path = Path("var/tokens")
    """Where tokenised pairs are kept."""


class DpoConfig(Stage):
    stage: Literal["dpo"]
    dpo: Dpo

    @model_validator(mode="after")
    def _full_precision(self) -> Self:
        if self.model.dtype == "bfloat16" and self.model.lora is None and self.optim.learning_rate < 1e-5:
            raise ValueError("model.dtype must be float32: in bfloat16 a learning rate below 1e-5 changes no weight")
        return self

    def encoder(self, tokenizer: Any) -> Encoder[Any]:
        dpo = self.dpo
        if dpo.mode == "pairs":
            return PairEncoder(tokenizer, max_length=dpo.max_length)
        return AlignXEncoder(
            tokenizer,
            max_length=dpo.max_length,
            mode=dpo.mode,
            shown=dpo.shown,
            max_history=dpo.max_history,
            history_tokens=dpo.history_tokens,
        )


class Trainer(WholeCheckpoints, DPOTrainer):  # type: ignore[misc]  # trl is untyped here
    """TRL's, with our order of rows and prompts that both replies share."""

    def __init__(self, *args: Any, config: DpoConfig, progress: Progress, **kwargs: Any) -> None:
        self._config = config
        self._progress = progress
        self._shares = config.dpo.share_prompts
        self._lean = False
        super().__init__(*args, callbacks=[progress], **kwargs)
        self.remove_callback(PrinterCallback)  # prints what `progress` tells in short

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The rows are tokens already."""
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self._config.dpo.bucket:
            return super()._get_train_sampler(train_dataset)
        return Bucketed(
            self.train_dataset.with_format("numpy")[LENGTH][:],
            micro_batch=self._config.optim.micro_batch,
            devices=devices(),
            seed=self._config.run.seed,
        )

    # --- log-probabilities -----------------------------------------------------------------------

    def _make_lean(self) -> None:
        """On a CPU, once; not earlier, because TRL asks the reference while it is made."""
        if self._shares and not self._lean and on_cpu() and scorable(self.model.config):
            for model in (self.model, self.ref_model):
                if model is not None:
                    score_next(model.get_base_model() if hasattr(model, "get_base_model") else model)
            self._lean = True

    def _logps(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """(pairs) each: summed log-probabilities of the chosen and of the rejected replies."""
        packed = Packed(**{name: inputs[name] for name in Packed.__slots__})
        seen = {"input_ids": packed.ids, "attention_mask": packed.mask(), "position_ids": packed.positions}
        if self._lean:
            values = model(**seen, next_tokens=packed.labels)
        else:
            values = model(**seen, shift_labels=packed.labels, fused_lm_head=True).log_probs
        both = packed.by_reply(values).sum(-1).view(-1, 2)
        return both[:, 0], both[:, 1]

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        if not self._shares:
            return super().compute_ref_log_probs(model, inputs)
        self._make_lean()
        with torch.no_grad(), self.accelerator.autocast():
            return self._logps(model, inputs)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """In one process, in batches of like length; else TRL's way."""
        if not self._shares or self.accelerator.num_processes > 1:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        model = self.accelerator.prepare_model(self.ref_model or self.model, evaluation_mode=True)
        model.eval()
        order = torch.as_tensor(dataset.with_format("numpy")[LENGTH][:]).argsort(descending=True, stable=True)
        found = torch.zeros(len(dataset), 2)
        for places in order.split(batch_size):
            rows = [dataset[place] for place in places.tolist()]
            batch = {key: value.to(self.accelerator.device) for key, value in self.data_collator(rows).items()}
            found[places] = torch.stack(self.compute_ref_log_probs(model, batch), -1).float().cpu()
        for column, values in zip(SharedPairs.REFERENCE, found.T, strict=True):
            dataset = dataset.add_column(column, values.tolist())
        return dataset

    # --- loss ------------------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """-log σ(β · (log-ratio of chosen - log-ratio of rejected)), the mean over the pairs."""
        if not self._shares:
            self._progress.tokens += int(inputs["attention_mask"].sum()) * self.accelerator.num_processes
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._make_lean()
        # Both texts of a pair in full, so that tokens/s compare with a run that shares nothing.
        replies = int(inputs["counted"].sum())
        prompts = int((inputs["segments"] == 0).sum()) + len(inputs["segments"])
        self._progress.tokens += (replies + 2 * prompts) * self.accelerator.num_processes
        chosen, rejected = self._logps(model, inputs)
        if self.precompute_ref_logps:
            reference = [inputs[name] for name in SharedPairs.REFERENCE]
        else:
            reference = list(self._reference(model, inputs))
        rewards = self.beta * torch.stack([chosen - reference[0], rejected - reference[1]])  # (2, pairs)
        self._keep(rewards.detach())
        return -logsigmoid(rewards[0] - rewards[1]).mean()

    def _reference(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        if self.ref_model is not None:
            with torch.no_grad():
                return self._logps(self.ref_model, inputs)
        with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
            return self._logps(model, inputs)

    def _keep(self, rewards: torch.Tensor) -> None:
        """The figures of a step, under TRL's names."""
        chosen, rejected = self.accelerator.gather(rewards.T).T
        kept = self._metrics["train" if self.model.training else "eval"]
        kept["rewards/chosen"].append(chosen.mean().item())
        kept["rewards/rejected"].append(rejected.mean().item())
        kept["rewards/margins"].append((chosen - rejected).mean().item())
        kept["rewards/accuracies"].append((chosen > rejected).float().mean().item())


def dpo(config: DpoConfig) -> dict[str, Any]:
    """Runs a preference optimization and writes its checkpoint; returns its metrics."""
    disable_progress_bar()
    arguments = Arguments(
        **shared(config),
        beta=config.dpo.beta,
        loss_type=["sigmoid"],
        max_length=config.dpo.max_length,
        precompute_ref_log_probs=config.dpo.precompute_reference,
    )
    tokenizer = base_tokenizer(config)
    data = config.data
    with PartialState().main_process_first():  # the others find the pairs tokenised
        newest = resume_point(config)
        pairs: Dataset = tokenised(
            data.train, config.encoder(tokenizer), config.dpo.cache, limit=data.limit, malformed=data.malformed
        )
    progress = Progress()
    trainer = Trainer(
        config.model.path,
        args=arguments,
        train_dataset=pairs,
        processing_class=tokenizer,
        peft_config=adapter(config),
        data_collator=SharedPairs(tokenizer.pad_token_id) if config.dpo.share_prompts else None,
        config=config,
        progress=progress,
    )
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    return end(trainer, config, progress, len(pairs))


def main(arguments: Sequence[str] | None = None) -> None:
    run_script(DpoConfig, dpo, arguments)


if __name__ == "__main__":
    main()
