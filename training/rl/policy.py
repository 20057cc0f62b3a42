"""TRL's GRPOTrainer with groups that stay together, from the order of the rows to the gradient.

TRL repeats a prompt for each of its replies: it reads it as often, and, because it shuffles the rows
of a rollout, trains on it as often. Here the replies to a prompt stay neighbours, are written from one
reading of it (speed/generate.py) and trained on in one row (speed/prefix_sharing.py). Losses, advantages,
clipping and logs are TRL's own. The overridden methods are private; that is why trl==1.16.* is pinned.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PrinterCallback
from trl import GRPOTrainer

from training.checkpoint import WholeCheckpoints
from training.progress import Progress
from training.rl.rollouts import Rollouts
from training.speed.generate import Sampling, write
from training.speed.prefix_sharing import on, pack, sees_everything


@dataclass(frozen=True, slots=True)
class Plan:
    """What the trainer must know beyond TRL's arguments."""

    seed: int
    together: int
    """Neighbouring rows of the dataset that belong to one user."""
    users: int
    """Users of a rollout, over all devices."""
    updates: int
    """Optimizer steps made of a rollout."""
    share_prompts: bool
    writes: bool
    """Whether replies are written here and not by TRL: not for vLLM or a model that is sharded."""
    write_tokens: int
    autocast_writing: bool
    """Whether it computes in bfloat16 while writing; on a CPU that is slower for single tokens."""


class Trainer(WholeCheckpoints, GRPOTrainer):  # type: ignore[misc]  # trl is untyped here
    def __init__(self, *args: Any, plan: Plan, progress: Progress, **kwargs: Any) -> None:
        self._plan = plan
        self._progress = progress
        self._drawn_at = -1
        self._buffered_inputs: list[dict[str, Any]] | None = None  # as TRL names it
        super().__init__(*args, callbacks=[progress], **kwargs)
        self.remove_callback(PrinterCallback)  # prints what `progress` tells in short
        plain = sees_everything(self.model)
        self._writes = plan.writes and plain
        self._shares = plan.share_prompts and plain and not self.aux_loss_enabled

    # --- rows ------------------------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return Rollouts(
            len(self.train_dataset),
            together=self._plan.together,
            units=self._plan.users,
            generations=self.num_generations,
            reads=self.args.steps_per_generation,
            seed=self._plan.seed,
        )

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """A micro-batch. TRL cuts a rollout into them after a shuffle of its rows; here the groups of
        an optimizer step are sorted by length, so that little is padding."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        reads = self.args.steps_per_generation
        if self._step % reads == 0 or self._buffered_inputs is None:
            made = self._generate_and_score_completions(generation_batch)
            order = _by_length(made, self.num_generations, self._plan.updates)
            made = {name: value[order] if value.ndim else value for name, value in made.items()}
            size = len(order) // reads
            self._buffered_inputs = [
                {name: value[start : start + size] if value.ndim else value for name, value in made.items()}
                for start in range(0, len(order), size)
            ]
        return self._buffered_inputs[self._step % reads]

    # --- replies ---------------------------------------------------------------------------------

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *rest: Any, **named: Any
    ) -> tuple[list[list[int]], None]:
        if not self._writes:
            replies, logprobs = super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *rest, **named
            )
            return replies, logprobs
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        sampling = Sampling(
            new_tokens=self.max_completion_length,
            temperature=self.temperature,
            ends=tuple(self.eos_token_ids),
            pad=self._tokenizer.pad_token_id,
            room=self._plan.write_tokens,
        )
        model.eval()
        enabled = self._plan.autocast_writing
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=enabled):
            replies = write(model, prompt_ids[::num_generations], num_generations, sampling, self._draws())
        model.train(training)
        return replies, None

    def _draws(self) -> torch.Generator:
        """One source of chance for each rollout, by seed, step and process: a resumed run writes the
        replies that an undisturbed one does."""
        if self._drawn_at != self.state.global_step:
            self._drawn_at = self.state.global_step
            name = f"{self._plan.seed}/{self.state.global_step}/{self.accelerator.process_index}"
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
            self._generator = torch.Generator(self.accelerator.device).manual_seed(seed)
        return self._generator

    # --- loss ------------------------------------------------------------------------------------

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        tokens = int(inputs["prompt_mask"].sum()) + int(inputs["completion_mask"].sum())
        self._progress.tokens += tokens * self.accelerator.num_processes
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **rest: Any,
    ) -> Any:
        """(rows, reply) log-probabilities and entropies of the replies, from rows of whole groups."""
        if not self._shares:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **rest
            )
        split, real = input_ids.size(1) - logits_to_keep, attention_mask.bool()
        rows = list(zip(input_ids.cpu(), real.cpu(), strict=True))
        prompts = [ids[:split][mask[:split]].tolist() for ids, mask in rows]
        replies = [ids[split:][mask[split:]].tolist() for ids, mask in rows]
        parts: tuple[list[Any], list[Any]] = ([], [])
        size = batch_size or len(rows)
        for start in range(0, len(rows), size):
            there = slice(start, start + size)
            packed = on(pack(prompts[there], replies[there], self._tokenizer.pad_token_id), input_ids.device)
            with self.accelerator.autocast():
                found = model(
                    input_ids=packed.ids,
                    attention_mask=packed.mask(),
                    position_ids=packed.positions,
                    shift_labels=packed.labels,
                    fused_lm_head=True,
                )
            for part, values in zip(parts, (found.log_probs, found.entropy), strict=True):
                if values is not None:
                    by_reply = packed.by_reply(values)
                    part.append(torch.nn.functional.pad(by_reply, (0, logits_to_keep - by_reply.size(1))))
        return torch.cat(parts[0]), torch.cat(parts[1]) if compute_entropy else None, None


def _by_length(made: dict[str, Any], generations: int, updates: int) -> torch.Tensor:
    """The order of the rows: groups by length within the rows of each optimizer step."""
    replies = made["completion_mask"].sum(-1).view(-1, generations)
    groups = made["prompt_mask"].sum(-1).view(-1, generations)[:, 0] + replies.sum(-1)  # (groups)
    order = [step * len(part) + part.argsort(stable=True) for step, part in enumerate(groups.tensor_split(updates))]
    rows = torch.cat(order)[:, None] * generations + torch.arange(generations, device=groups.device)
    return rows.flatten()
