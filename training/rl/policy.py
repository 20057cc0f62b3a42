"""TRL's GRPOTrainer with the replies to one prompt kept together, from the order of the rows to the gradient.

TRL repeats a prompt for each of its replies: it generates from it as often, and, because it shuffles the
rows of a rollout, trains on it as often. Here the replies to a prompt stay neighbours, are generated from
one computation of it (speed/generate.py) and trained on in one row (speed/prefix_sharing.py). Losses,
advantages, clipping and logs are TRL's own. The methods follow each other as in a training step; they are
private in TRL, which is why trl==1.16.* is pinned (tests/unit/training/test_private_apis.py).
"""

import hashlib
from typing import Any

import torch
from trl import GRPOTrainer

from training.config import Stage
from training.rl.rows import Grpo, RolloutSampler
from training.speed.generate import Sampling, generate_replies
from training.speed.prefix_sharing import has_full_attention, pack_replies
from training.trainer import StageTrainer


class Trainer(StageTrainer, GRPOTrainer):  # type: ignore[misc]  # trl is untyped here
    def __init__(self, *, config: Stage, settings: Grpo, users: int, **arguments: Any) -> None:
        """`users` make a rollout, over all devices."""
        self._settings = settings
        self._users = users
        self._generator_step = -1
        self._buffered_inputs: list[dict[str, Any]] | None = None  # TRL's name
        super().__init__(config=config, **arguments)
        full_attention = has_full_attention(self.model)
        is_sharded = config.run.deepspeed or config.run.fsdp
        self._generates = settings.vllm == "off" and not is_sharded and full_attention
        self._shares = settings.share_prompts and full_attention and not self.aux_loss_enabled

    # --- 1. the rows of a rollout ----------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return RolloutSampler(
            len(self.train_dataset),
            stages=self._settings.stages,
            users=self._users,
            generations=self.num_generations,
            reads=self.args.steps_per_generation,
            seed=self._config.run.seed,
        )

    # --- 2. its replies --------------------------------------------------------------------------

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *rest: Any, **named: Any
    ) -> tuple[list[list[int]], Any]:
        if not self._generates:
            replies, logprobs = super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *rest, **named
            )
            return replies, logprobs
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        sampling = Sampling(
            new_tokens=self.max_completion_length,
            temperature=self.temperature,
            end_tokens=tuple(self.eos_token_ids),
            pad=self._tokenizer.pad_token_id,
            batch_tokens=self._settings.write_tokens,
        )
        device = self.accelerator.device.type
        is_half = self._config.run.precision == "bf16" and device != "cpu"  # slower for single tokens there
        model.eval()
        with torch.autocast(device, torch.bfloat16, enabled=is_half):
            prompts = prompt_ids[::num_generations]
            replies = generate_replies(model, prompts, num_generations, sampling, self._random_generator())
        model.train(training)
        return replies, None

    def _random_generator(self) -> torch.Generator:
        """One for each rollout, seeded by step and process: a resumed run generates the replies of an
        uninterrupted one."""
        if self._generator_step != self.state.global_step:
            self._generator_step = self.state.global_step
            name = f"{self._config.run.seed}/{self.state.global_step}/{self.accelerator.process_index}"
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
            self._generator = torch.Generator(self.accelerator.device).manual_seed(seed)
        return self._generator

    # --- 3. its micro-batches, once TRL has rewards and advantages -------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """A micro-batch. TRL shuffles the rows of a rollout before it cuts them; here the groups of an
        optimizer step are sorted by length, so that little is padding."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        reads = self.args.steps_per_generation
        if self._step % reads == 0 or self._buffered_inputs is None:
            rollout = self._generate_and_score_completions(generation_batch)
            order = _order_by_length(rollout, self.num_generations, self._settings.updates)
            self._buffered_inputs = [
                {name: value[rows] if value.ndim else value for name, value in rollout.items()}
                for rows in order.split(len(order) // reads)
            ]
        return self._buffered_inputs[self._step % reads]

    # --- 4. the loss of a micro-batch ------------------------------------------------------------

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.count_tokens(inputs["prompt_mask"].sum() + inputs["completion_mask"].sum())
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
        split = input_ids.size(1) - logits_to_keep
        rows = list(zip(input_ids.cpu(), attention_mask.bool().cpu(), strict=True))
        prompts = [ids[:split][mask[:split]].tolist() for ids, mask in rows]
        replies = [ids[split:][mask[split:]].tolist() for ids, mask in rows]
        parts: tuple[list[Any], list[Any]] = ([], [])
        size = batch_size or len(rows)
        for start in range(0, len(rows), size):
            batch = slice(start, start + size)
            packed = pack_replies(prompts[batch], replies[batch], self._tokenizer.pad_token_id).to(input_ids.device)
            with self.accelerator.autocast():
                output = model(**packed.inputs(), shift_labels=packed.labels, fused_lm_head=True)
            for part, values in zip(parts, (output.log_probs, output.entropy), strict=True):
                if values is not None:
                    by_reply = packed.by_reply(values)
                    part.append(torch.nn.functional.pad(by_reply, (0, logits_to_keep - by_reply.size(1))))
        return torch.cat(parts[0]), torch.cat(parts[1]) if compute_entropy else None, None


def _order_by_length(rollout: dict[str, Any], generations: int, updates: int) -> torch.Tensor:
    """The order of the rows: groups by length within the rows of each optimizer step. Where a step holds no whole
    number of groups, the next one goes on with the last of them."""
    replies = rollout["completion_mask"].sum(-1).view(-1, generations)
    groups = rollout["prompt_mask"].sum(-1).view(-1, generations)[:, 0] + replies.sum(-1)  # (groups)
    parts = torch.arange(len(groups), device=groups.device).tensor_split(updates)
    order = [part[groups[part].argsort(stable=True)] for part in parts]
    rows = torch.cat(order)[:, None] * generations + torch.arange(generations, device=groups.device)
    return rows.flatten()
