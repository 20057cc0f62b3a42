"""What an evaluation is asked to measure: as a record, and as options of the command line."""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from evaluation.cases.perturbations import Drift
from evaluation.conditions import OF_LETTERS, OF_MEANING, PROFILES, SETTINGS, Protocol
from evaluation.model_sources import checkpoint, is_url
from evaluation.models import Placement, Sampling
from evaluation.scoring.minilm import EXTRA
from training.exceptions import ConfigError


@dataclass(frozen=True)
class Evaluation:
    """What to measure, of what, on what."""

    out: Path
    stage: str
    model: str | None = None
    judge: str | None = None
    data: Path | None = None
    limit: int | None = None
    settings: tuple[str, ...] | None = None
    """Default: all that the model and the rows allow."""
    protocol: Protocol = field(default_factory=Protocol)
    placement: Placement = field(default_factory=Placement)
    alignment: Path | None = None
    reference: str | None = None
    summaries: Path | None = None
    """Written by another run: no model writes here, and `judge` chooses by them."""
    keep_summaries: Path | None = None
    answers: Path | None = None
    """The file in which answers are kept; default: beside `out`."""
    variants: bool = False
    """Without `settings`: the fast profile in all ways (evaluation/scoring/profile_scores.py), not in its own alone."""
    embeddings: str | None = None
    """Folder or URL of a sentence model, or the name of the extra that brings one."""

    @property
    def judged(self) -> bool:
        """Whether any model is there to choose."""
        return self.model is not None or self.summaries is not None

    def check(self) -> None:
        """Raises ConfigError for what cannot be, before anything loads."""
        if self.data is None and self.alignment is None:
            raise ConfigError("there is nothing to measure: give --data, --alignment or both")
        if self.alignment and not (self.model and self.reference):
            raise ConfigError("--alignment compares --model with --reference; both are checkpoint folders")
        self._check_settings(set(self.settings or ()))
        self._check_summaries()
        for where in (self.model, self.judge, self.reference):
            if where and not is_url(where):
                checkpoint(Path(where))
        for path in (self.data, self.alignment, self.summaries):
            if path and not path.exists():
                raise ConfigError(f"{path} does not exist")

    def _check_settings(self, wanted: set[str]) -> None:
        if unknown := wanted - set(SETTINGS):
            raise ConfigError(f"--settings {', '.join(sorted(unknown))}: unknown; allowed: {', '.join(SETTINGS)}")
        if not self.judged and wanted - set(PROFILES):
            raise ConfigError(f"--settings other than {', '.join(PROFILES)} need a --model")
        if (of_meaning := wanted & set(OF_MEANING)) and not self.embeddings:
            raise ConfigError(f"--settings {', '.join(sorted(of_meaning))} needs --embeddings")
        if self.protocol.choice == "sampled" and (of_letters := wanted & set(OF_LETTERS)):
            raise ConfigError(f"--settings {', '.join(sorted(of_letters))}: needs --protocol forced")

    def _check_summaries(self) -> None:
        if self.summaries and (self.model or not self.judge):
            raise ConfigError("--summaries takes the place of --model; say with --judge who chooses by them")
        if self.summaries and self.keep_summaries:
            raise ConfigError("--keep-summaries: with --summaries none are written")
        if self.keep_summaries and not (self.model and self.data):
            raise ConfigError("--keep-summaries needs a --model that writes them and --data")


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation",
        description="Measure a checkpoint or an engine on held-out users.",
        epilog="example: python -m evaluation --stage profile --data var/benchmarks/movielens.jsonl --out var/out.json",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the result, a JSON file")
    add("--stage", required=True, help="what the report calls it: base, sft, rl, dpo-ica, dpo-pba, …")
    add("--model", help="checkpoint folder or URL; default: the fast profile alone")
    add("--judge", help="checkpoint folder or URL that chooses; default: the model itself")
    add("--data", type=Path, help="UPI or benchmark rows of held-out users")
    add("--limit", type=positive, help="at most this many users, and pairs")
    add("--settings", help=f"some of {','.join(SETTINGS)}; default: all that model and rows allow")
    add("--variants", action="store_true", help="without --settings: the fast profile in all the ways it is measured")
    add(
        "--embeddings",
        help=f"of {', '.join(OF_MEANING)}: folder or URL of a sentence model, or {EXTRA} for that extra's",
    )
    add("--summaries", type=Path, metavar="FILE", help="summaries that another run kept, or its result; needs --judge")
    add("--keep-summaries", type=Path, metavar="FILE", help="write the summaries there, as JSON Lines")
    add("--alignment", type=Path, metavar="PAIRS", help="preference pairs of messages")
    add("--reference", help="checkpoint folder that --alignment compares with")
    sampling, protocol, placement = Sampling(), Protocol(), Placement()
    add(
        "--protocol",
        choices=("forced", "sampled"),
        default=protocol.choice,
        help="how the judge chooses: the probabilities of letters in all orders, or one reply of 16 sampled tokens",
    )
    add("--fuse-engine", type=_share, default=protocol.fuse_engine, help="weight of the letters in setting fused")
    add("--seed", type=int, default=protocol.seed)
    add("--updates", type=positive, default=protocol.updates, help="of setting streaming")
    add("--flip", type=_share, default=protocol.flip, help="share of choices turned round in setting flipped")
    add("--drift", choices=get_args(Drift), default=protocol.drift, help="the older half of histories in drifted")
    add("--mix", type=_share, default=protocol.mix, help="another user's events in mixed, as a share of the own")
    add("--history-tokens", type=positive, default=protocol.history_tokens)
    add("--past-tokens", type=positive, default=protocol.past_tokens)
    add("--max-chars", type=positive, default=protocol.max_chars, help="longest summary kept")
    add("--max-tokens", type=positive, default=sampling.max_tokens, help="of a reply, reasoning included")
    add("--answer-tokens", type=positive, default=protocol.answering.max_tokens, help="of an answer to a question")
    add("--temperature", type=float, default=sampling.temperature, help="0 takes the likeliest tokens")
    add("--top-p", type=float, default=sampling.top_p)
    add("--top-k", type=int, default=sampling.top_k, help="0 for no limit")
    add("--device", default=placement.device)
    add("--dtype", choices=("float32", "bfloat16"), default=placement.dtype)
    add("--autocast", action="store_true", help="compute in bfloat16, keep weights as they are")
    add("--batch", type=positive, default=placement.batch, help="users in one group")
    add("--batch-tokens", type=positive, help="of one forward; default: what suits the device")
    add("--model-name", help="which model of a URL; default: the first it lists")
    add("--api-key-env", help="environment variable with the key of a URL")
    add("--concurrency", type=positive, default=placement.concurrency, help="calls of a URL under way at once")
    add("--opened", action="store_true", help="the chat template behind the URL writes <think> itself")
    return parser


def positive(text: str) -> int:
    """An option's type: a whole number of 1 or more."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return value


def _share(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, not {text}")
    return value


def plan_of(given: argparse.Namespace) -> Evaluation:
    sampling = Sampling(given.max_tokens, given.temperature, given.top_p, given.top_k)
    return Evaluation(
        out=given.out,
        stage=given.stage,
        model=given.model,
        judge=given.judge,
        data=given.data,
        limit=given.limit,
        settings=tuple(given.settings.split(",")) if given.settings else None,
        alignment=given.alignment,
        reference=given.reference,
        summaries=given.summaries,
        keep_summaries=given.keep_summaries,
        variants=given.variants,
        embeddings=given.embeddings,
        protocol=Protocol(
            sampling=sampling,
            answering=replace(sampling, max_tokens=given.answer_tokens, thinking=False),
            choice=given.protocol,
            fuse_engine=given.fuse_engine,
            seed=given.seed,
            updates=given.updates,
            flip=given.flip,
            drift=given.drift,
            mix=given.mix,
            history_tokens=given.history_tokens,
            past_tokens=given.past_tokens,
            max_chars=given.max_chars,
            batch=given.batch,
        ),
        placement=Placement(
            device=given.device,
            dtype=given.dtype,
            autocast=given.autocast,
            batch=given.batch,
            batch_tokens=given.batch_tokens,
            model_name=given.model_name,
            api_key_env=given.api_key_env,
            opened=given.opened,
            concurrency=given.concurrency,
        ),
    )
