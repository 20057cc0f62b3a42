"""Direct preference optimization: a model learns to answer as the user in its prompt prefers.

    python -m training.dpo training/configs/nano/dpo_ica.toml [section.field=value …]
    torchrun --nproc-per-node 8 -m training.dpo training/configs/full/alignxpert_ica.toml

For AlignXpert's in-context and preference-bridged alignment (ICA, PBA), from AlignX rows. TRL's
DPOTrainer with the sigmoid loss, made faster: pairs are tokenized once, batches hold pairs of like
length, the chosen and the rejected reply share the computation of their prompt, and the reference
model computes its log-probabilities once, before training, and is freed.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import training.libraries  # noqa: F401  # checks the versions of TRL and transformers before their import

# isort: split
import torch
from pydantic import Field
from torch.nn.functional import logsigmoid
from trl import DPOConfig as Arguments
from trl import DPOTrainer

from training.checkpoint import resume_point
from training.config import PositiveInt, Section, Stage, run_script
from training.data.preference_pairs import AlignXEncoder, PairEncoder, Shown
from training.data.tokens import LENGTH, Encoder, longest_row, tokenize
from training.finish import finish
from training.speed.batches import SharedPairs
from training.speed.memory_estimate import MicroBatch, check_memory
from training.speed.next_token_scores import add_next_token_scores, has_plain_logits
from training.speed.prefix_sharing import Packed
from training.trainer import StageTrainer
from training.trl_arguments import load_tokenizer, shared_arguments


class Dpo(Section):
    mode: Literal["ica", "pba", "pairs", "pairs-pba"]
    """What the prompt shows of the user: choices ("ica"), their common directions ("pba"), or the messages of
    ready-made pairs, with "pairs-pba" those of AlignX's pba_prompt."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Weight of the reference: higher keeps the model closer to it."""
    max_length: PositiveInt = 8192
    """Tokens of prompt and reply; pairs with a longer one are left out."""
    max_history: PositiveInt = 16
    """At most so many of the latest events of a user."""
    history_tokens: PositiveInt = 6144
    """Estimated tokens of those in mode ica; the oldest that do not fit are dropped."""
    shown: Shown = "comparisons"
    """What mode ica shows: the choices, these with the description and the posts ("all"), or, in both modes, a few
    posts and choices drawn for each row, as AlignX did ("drawn")."""
    precompute_reference: bool = True
    """Runs the reference model once, before training; else at every step, with two models in memory."""
    share_prompts: bool = True
    """Whether both replies share the computation of their prompt. Their mask grows with the
    square of the tokens: not for prompts of many thousand tokens."""
    bucket: bool = True
    """Whether a micro-batch holds pairs of like length."""
    cache: Path = Path("var/tokens")
    """Folder of tokenized pairs."""


class DpoConfig(Stage):
    stage: Literal["dpo"]
    dpo: Dpo

    def largest_batch(self, longest: int) -> MicroBatch:
        """Of pairs up to `longest` tokens, prompt and both replies together."""
        pairs, reference = self.optim.micro_batch, 0
        if self.model.lora is None and not self.dpo.precompute_reference:
            reference = 1
        if self.dpo.share_prompts:
            return MicroBatch(pairs, longest, "dpo.max_length", is_masked=True, frozen_copies=reference)
        return MicroBatch(2 * pairs, min(longest, self.dpo.max_length), "dpo.max_length", frozen_copies=reference)

    def encoder(self, tokenizer: Any) -> Encoder[Any]:
        dpo = self.dpo
        if dpo.mode == "pairs" or dpo.mode == "pairs-pba":  # mypy narrows by it
            return PairEncoder(tokenizer, max_length=dpo.max_length, bridged=dpo.mode == "pairs-pba")
        return AlignXEncoder(
            tokenizer,
            max_length=dpo.max_length,
            mode=dpo.mode,
            shown=dpo.shown,
            max_history=dpo.max_history,
            history_tokens=dpo.history_tokens,
        )


class Trainer(StageTrainer, DPOTrainer):  # type: ignore[misc]  # trl is untyped here
    """The chosen and the rejected reply share their prompt, and only replies pass the output layer."""

    def __init__(self, *, config: DpoConfig, **arguments: Any) -> None:
        self._shares = config.dpo.share_prompts
        self._scores_labels_only = False
        super().__init__(config=config, bucket=config.dpo.bucket, **arguments)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The rows are tokenized already."""
        return dataset

    # --- log-probabilities -----------------------------------------------------------------------

    def _score_labels_only(self) -> None:
        """Once; not in the constructor, because TRL's runs the reference already."""
        if self._shares and not self._scores_labels_only and has_plain_logits(self.model.config):
            for model in (self.model, self.ref_model):
                if model is not None:
                    add_next_token_scores(model)
            self._scores_labels_only = True

    def _logps(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """(pairs) each: summed log-probabilities of the chosen and of the rejected replies."""
        packed = Packed(**{name: inputs[name] for name in Packed.__slots__})
        if self._scores_labels_only:
            values = model(**packed.inputs(), next_tokens=packed.labels)
        else:
            values = model(**packed.inputs(), shift_labels=packed.labels, fused_lm_head=True).log_probs
        logps = packed.by_reply(values).sum(-1).view(-1, 2)
        return logps[:, 0], logps[:, 1]

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        if not self._shares:
            return super().compute_ref_log_probs(model, inputs)
        self._score_labels_only()
        with torch.no_grad(), self.accelerator.autocast():
            return self._logps(model, inputs)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """In one process, in batches of like length; else as TRL does."""
        if not self._shares or self.accelerator.num_processes > 1:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        model = self.accelerator.prepare_model(self.ref_model or self.model, evaluation_mode=True)
        model.eval()
        order = torch.as_tensor(dataset.with_format("numpy")[LENGTH][:]).argsort(descending=True, stable=True)
        logps = torch.zeros(len(dataset), 2)
        for indices in order.split(batch_size):
            batch = self.data_collator([dataset[index] for index in indices.tolist()])
            batch = {key: value.to(self.accelerator.device) for key, value in batch.items()}
            logps[indices] = torch.stack(self.compute_ref_log_probs(model, batch), -1).float().cpu()
        for column, values in zip(SharedPairs.REFERENCE, logps.T, strict=True):
            dataset = dataset.add_column(column, values.tolist())
        return dataset

    # --- loss ------------------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """-log σ(β · (log-ratio of chosen - log-ratio of rejected)), the mean over the pairs."""
        if not self._shares:
            self.count_tokens(inputs["attention_mask"].sum())
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._score_labels_only()
        # Counts both texts of a pair in full, so that tokens/s compare with a run that shares nothing.
        prompts = (inputs["segments"] == 0).sum() + len(inputs["segments"])
        computed = (inputs["segments"] >= 0).sum()
        self.count_tokens(inputs["counted"].sum() + 2 * prompts, computed=computed)
        chosen, rejected = self._logps(model, inputs)
        if self.precompute_ref_logps:
            reference = [inputs[name] for name in SharedPairs.REFERENCE]
        else:
            reference = list(self._reference_logps(model, inputs))
        rewards = self.beta * torch.stack([chosen - reference[0], rejected - reference[1]])  # (2, pairs)
        self._log_rewards(rewards.detach())
        return -logsigmoid(rewards[0] - rewards[1]).mean()

    def _reference_logps(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            if self.ref_model is not None:
                return self._logps(self.ref_model, inputs)
            with self.accelerator.unwrap_model(model).disable_adapter():
                return self._logps(model, inputs)

    def _log_rewards(self, rewards: torch.Tensor) -> None:
        """Metrics of a step, under TRL's names."""
        chosen, rejected = self.accelerator.gather(rewards.T).T
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["rewards/chosen"].append(chosen.mean().item())
        metrics["rewards/rejected"].append(rejected.mean().item())
        metrics["rewards/margins"].append((chosen - rejected).mean().item())
        metrics["rewards/accuracies"].append((chosen > rejected).float().mean().item())


def dpo(config: DpoConfig) -> dict[str, Any]:
    """Runs a preference optimization and writes its checkpoint; returns its metrics."""
    settings = config.dpo
    arguments = Arguments(
        **shared_arguments(config),
        beta=settings.beta,
        loss_type=["sigmoid"],
        max_length=settings.max_length,
        precompute_ref_log_probs=settings.precompute_reference,
    )
    tokenizer = load_tokenizer(config)
    checkpoint = resume_point(config)
    pairs = tokenize(config.data, config.encoder(tokenizer), settings.cache)
    check_memory(config, config.largest_batch(longest_row(pairs)))
    trainer = Trainer(
        config=config,
        args=arguments,
        train_dataset=pairs,
        processing_class=tokenizer,
        data_collator=SharedPairs(tokenizer.pad_token_id) if settings.share_prompts else None,
    )
    trainer.train(checkpoint)
    return finish(trainer, config, len(pairs))


if __name__ == "__main__":
    run_script(DpoConfig, dpo)
