"""One setting measured: summaries, what the judge makes of them, and the figures over all users."""

import time
from collections.abc import Sequence

from services.core.schemas import item_text
from training.evaluation.bar import Bar
from training.evaluation.cases import Case
from training.evaluation.intervals import estimate, hits
from training.evaluation.models import Model
from training.evaluation.results import Scores, Writing
from training.evaluation.settings import UNWRITTEN, WRITTEN, Inference, Protocol, answers_of, foreseen, judged


async def measure(
    setting: str, cases: Sequence[Case], model: Model, judge: Model, protocol: Protocol, bar: Bar
) -> tuple[Scores, Inference]:
    """Summaries of a setting and what the judge makes of them."""
    tick = bar.line(setting, answers_of(setting, len(cases), protocol.updates))
    started, calls = time.monotonic(), _calls(model, judge)
    inference = Inference(model, protocol, tick)
    if setting in WRITTEN:
        summaries = await WRITTEN[setting](inference, cases)
    else:
        summaries = await UNWRITTEN[setting](cases)
    judgements = await judged(judge, cases, summaries, batch=protocol.batch, tick=tick)
    texts = [text for text in summaries if text]
    writing = None
    if setting != "none":
        replies = inference.replies
        writing = Writing(
            replies=replies,
            well_formed=inference.well_formed / replies if replies else None,
            usable=inference.usable / replies if replies else None,
            summary_tokens=sum(map(model.tokens, texts)) / len(texts) if texts else 0.0,
        )
    found = scored([judgement.probabilities[0] for judgement in judgements], cases, protocol.seed).model_copy(
        update={
            "position_bias": sum(judgement.position_bias for judgement in judgements) / len(judgements),
            "writing": writing,
            "calls": _calls(model, judge) - calls,
            "seconds": round(time.monotonic() - started, 3),
        }
    )
    return found, inference


def measure_profile(cases: Sequence[Case], protocol: Protocol) -> Scores:
    """The fast profile, without any model."""
    started = time.monotonic()
    found = scored([foreseen(case) for case in cases], cases, protocol.seed)
    return found.model_copy(update={"seconds": round(time.monotonic() - started, 3)})


def _calls(model: Model, judge: Model) -> int:
    return model.calls if judge is model else model.calls + judge.calls


def scored(probabilities: Sequence[float], cases: Sequence[Case], seed: int) -> Scores:
    right = hits(probabilities)
    kinds = sorted({case.kind for case in cases if case.kind})
    by_kind = {kind: [hit for hit, case in zip(right, cases, strict=True) if case.kind == kind] for kind in kinds}
    return Scores(
        accuracy=estimate(right, seed=seed),
        probability=estimate(probabilities, seed=seed),
        by_kind={kind: estimate(values, seed=seed) for kind, values in by_kind.items()},
        values=tuple(probabilities),
    )


def longer_wins(cases: Sequence[Case]) -> list[float]:
    """What choosing the longer text would score: the baseline that a judge of length is."""
    sizes = [(len(item_text(case.target.chosen)), len(item_text(case.target.rejected))) for case in cases]
    return [0.5 if chosen == rejected else float(chosen > rejected) for chosen, rejected in sizes]
