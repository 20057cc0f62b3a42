"""Alignment accuracy (AlignXpert): does a policy prefer the replies that users chose, more than its reference?

A pair counts when β·[(log π/π_ref)(chosen) - (log π/π_ref)(rejected)] > 0. The measure is relative: the reference
itself scores one half, since every pair is a tie. The plain shares, how often π and π_ref find the chosen reply
likelier, stand beside it, also by token.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from evaluation.model_sources import file_source
from evaluation.models import LocalModel, Messages, Tick
from evaluation.results import AlignmentScores, Source
from evaluation.scoring.intervals import difference, estimate
from services.engine.judge import Likelihood
from training.data.formats import PairRow

BETA: Final = 0.1
"""As in training; the accuracy depends only on its sign."""

Likelihoods = Sequence[tuple[Likelihood, Likelihood]]
"""Of chosen and rejected."""


def flatten_pairs(pairs: Sequence[PairRow]) -> list[tuple[Messages, str]]:
    """Prompt and reply of chosen and rejected in turn."""
    rows: list[tuple[Messages, str]] = []
    for pair in pairs:
        prompt: Messages = [{"role": turn.role, "content": turn.content} for turn in pair.prompt]
        rows += [(prompt, pair.chosen[0].content), (prompt, pair.rejected[0].content)]
    return rows


def compute_likelihoods(model: LocalModel, pairs: Sequence[PairRow], tick: Tick) -> Likelihoods:
    results = model.likelihoods(flatten_pairs(pairs), tick=tick)
    return list(zip(results[::2], results[1::2], strict=True))


def score_alignment(
    policy: Likelihoods, reference: Likelihoods, *, data: Path, reference_source: Source, seed: int, started: float
) -> AlignmentScores:
    margins = [BETA * (_margin(own) - _margin(base)) for own, base in zip(policy, reference, strict=True)]
    policy_wins, reference_wins = ([_win(_margin(pair)) for pair in pairs] for pairs in (policy, reference))
    by_token = [[_win(_margin_by_token(pair)) for pair in pairs] for pairs in (policy, reference)]
    return AlignmentScores(
        data=file_source(data),
        reference=reference_source,
        beta=BETA,
        alignment=estimate([_win(margin) for margin in margins], seed=seed),
        policy_prefers=estimate(policy_wins, seed=seed),
        reference_prefers=estimate(reference_wins, seed=seed),
        gain=difference(policy_wins, reference_wins, seed=seed),
        gain_by_token=difference(*by_token, seed=seed),
        seconds=round(time.monotonic() - started, 3),
    )


def _margin(pair: tuple[Likelihood, Likelihood]) -> float:
    chosen, rejected = pair
    return chosen.logprob - rejected.logprob


def _margin_by_token(pair: tuple[Likelihood, Likelihood]) -> float:
    chosen, rejected = pair
    return chosen.logprob / max(chosen.tokens, 1) - rejected.logprob / max(rejected.tokens, 1)


def _win(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)
