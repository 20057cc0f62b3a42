"""Alignment accuracy (AlignXpert): does preference training prefer what users chose, more than its base did?

A pair counts when β·[(log π/π_ref)(chosen) - (log π/π_ref)(rejected)] > 0. That is relative: the
reference itself scores one half, every pair being a tie. So the plain shares, how often π and π_ref
themselves find the chosen reply likelier, stand beside it, also by token.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from evaluation.model_sources import file_sha256, named
from evaluation.models import Likelihood, LocalModel, Messages, Tick
from evaluation.results import AlignmentScores, Source
from evaluation.scoring.intervals import difference, estimate
from training.data.formats import PairRow
from training.data.reading import read

BETA: Final = 0.1
"""As in training. Its sign alone matters to the accuracy."""

Pairs = Sequence[tuple[Likelihood, Likelihood]]
"""Of chosen and rejected."""


def pair_rows(path: Path, limit: int | None) -> list[tuple[Messages, str]]:
    """Prompt and reply of chosen and rejected in turn. Raises DatasetError."""
    rows: list[tuple[Messages, str]] = []
    for row in read(path, PairRow):
        if limit is not None and len(rows) >= 2 * limit:
            break
        prompt: Messages = [{"role": turn.role, "content": turn.content} for turn in row.prompt]
        rows += [(prompt, row.chosen[0].content), (prompt, row.rejected[0].content)]
    return rows


def likelihoods(model: LocalModel, rows: Sequence[tuple[Messages, str]], tick: Tick) -> Pairs:
    found = model.likelihoods(rows, tick=tick)
    return list(zip(found[::2], found[1::2], strict=True))


def scores(
    policy: Pairs, reference: Pairs, *, data: Path, compared_with: Source, seed: int, started: float
) -> AlignmentScores:
    margins = [BETA * (_margin(ours) - _margin(theirs)) for ours, theirs in zip(policy, reference, strict=True)]
    ours, theirs = ([_won(_margin(pair)) for pair in pairs] for pairs in (policy, reference))
    by_token = [[_won(_margin_by_token(pair)) for pair in pairs] for pairs in (policy, reference)]
    return AlignmentScores(
        data=Source(name=named(data), sha256=file_sha256(data) if data.is_file() else None),
        reference=compared_with,
        beta=BETA,
        alignment=estimate([_won(margin) for margin in margins], seed=seed),
        policy_prefers=estimate(ours, seed=seed),
        reference_prefers=estimate(theirs, seed=seed),
        gain=difference(ours, theirs, seed=seed),
        policy_prefers_by_token=estimate(by_token[0], seed=seed),
        reference_prefers_by_token=estimate(by_token[1], seed=seed),
        gain_by_token=difference(*by_token, seed=seed),
        seconds=round(time.monotonic() - started, 3),
    )


def _margin(pair: tuple[Likelihood, Likelihood]) -> float:
    chosen, rejected = pair
    return chosen.logprob - rejected.logprob


def _margin_by_token(pair: tuple[Likelihood, Likelihood]) -> float:
    chosen, rejected = pair
    return chosen.logprob / max(chosen.tokens, 1) - rejected.logprob / max(rejected.tokens, 1)


def _won(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)
