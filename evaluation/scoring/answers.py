"""Response generation: the model answers by what it knows of the user, and a judge compares.

The judge is shown the question, the model's answer, an answer written for this user, and the user's
history; it is asked which one the user would choose, by forced letters in both orders. So a judge that
favours a place or is unsure makes a tie. No persona and no profile of a benchmark is read.
"""

import asyncio
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Final, NamedTuple

from alignx.schemas.requests import ChatMode
from evaluation.cases.cases import Question
from evaluation.cases.selections import without_thinking
from evaluation.conditions import Inference, Protocol, answers_of
from evaluation.models import Messages, Model, Tick
from evaluation.results import AnswerScores
from evaluation.saved_summaries import KeptSummaries
from evaluation.scoring.choice_scores import Known
from evaluation.scoring.intervals import estimate
from evaluation.scoring.measure import belonging, by_kind, calls_of, known_of, writing_of
from evaluation.scoring.progress_bar import Bar
from services.engine.judge import Judgement, judge
from services.prompts.build import ChatMessage, chat_prompt
from training.rl.rewards import TENANT

WIN: Final = 1.0
TIE: Final = 0.5
LOSS: Final = 0.0
TIE_MARGIN: Final = 0.1
"""Distance from one half up to which the answer's probability is a tie."""
_ROUNDING: Final = 1e-9


class Compared(NamedTuple):
    """One answer against its reference."""

    value: float
    """`WIN`, `TIE` or `LOSS`."""
    position_bias: float | None
    """None where nothing was compared: an empty answer is a loss."""


def outcome(judgement: Judgement) -> float:
    """Of a comparison whose first item is the answer and whose second is the reference.

    A tie where the mean probability of the answer lies within `TIE_MARGIN` of one half, the margin
    included, or where the two orders disagree about which is likelier. With p the mean and b the
    position bias, the orders gave p - b and p + b: they disagree where |p - .5| < b.
    """
    ahead = judgement.probabilities[0] - 0.5
    if abs(ahead) <= TIE_MARGIN + _ROUNDING or abs(ahead) < judgement.position_bias:
        return TIE
    return WIN if ahead > 0 else LOSS


def answer_messages(question: str, known: Known) -> list[ChatMessage]:
    """The prompt of serving: with the summary, with the history in its place, or with neither."""
    mode: ChatMode = "direct" if known.history else "summary" if known.summary else "none"
    asked = [ChatMessage(role="user", content=question)]
    return chat_prompt(asked, mode=mode, summary=known.summary, history=known.history).messages


async def measure_answers(
    setting: str,
    questions: Sequence[Question],
    model: Model,
    judge: Model,
    protocol: Protocol,
    bar: Bar,
    kept: KeptSummaries | None = None,
) -> tuple[AnswerScores, Inference]:
    """Summaries of a setting, the model's answers by them, and what the judge makes of these."""
    tick = bar.line(setting, answers_of(setting, len(questions), protocol.updates) + len(questions))
    started, before = time.monotonic(), calls_of(model, judge)
    inference = Inference(model, protocol, tick)
    known = await known_of(setting, questions, inference, kept)
    asked = [answer_messages(each.question, told) for each, told in zip(questions, known, strict=True)]
    answers = await written(model, asked, protocol, tick)
    compared = await against_references(judge, questions, answers, inference, tick)
    values = [each.value for each in compared]
    biases = [each.position_bias for each in compared if each.position_bias is not None]
    texts = [answer for answer in answers if answer]
    found = AnswerScores(
        score=estimate(values, seed=protocol.seed, clusters=belonging(questions)),
        wins=values.count(WIN),
        ties=values.count(TIE),
        losses=values.count(LOSS),
        empty=len(answers) - len(texts),
        position_bias=fmean(biases) if biases else None,
        answer_tokens=fmean(map(model.tokens, texts)) if texts else 0.0,
        by_kind=by_kind(values, questions, protocol.seed),
        writing=writing_of(setting, inference, known),
        calls=calls_of(model, judge) - before,
        seconds=round(time.monotonic() - started, 3),
        values=tuple(values),
    )
    return found, inference


async def written(model: Model, asked: Sequence[Messages], protocol: Protocol, tick: Tick) -> list[str]:
    """Answers without their thinking, for which the chat template is asked for none."""
    sampling = protocol.answering
    replies = await model.write(asked, sampling, seed=protocol.seed, tick=tick)
    return [without_thinking(reply) or "" for reply in replies]


async def against_references(
    judging: Model, questions: Sequence[Question], answers: Sequence[str], inference: Inference, tick: Tick
) -> list[Compared]:
    async def one(place: int) -> Compared:
        row, answer = questions[place], answers[place]
        if not answer:
            return Compared(LOSS, None)
        if answer == row.reference.strip():
            return Compared(TIE, None)
        history = inference.fitted(place, row.history)
        items = (answer, row.reference)
        found = await judge(judging, row.question, items, None, tenant=TENANT, history=history)
        return Compared(outcome(found), found.position_bias)

    found: list[Compared] = []
    batch = inference.protocol.batch
    for start in range(0, len(questions), batch):
        places = range(start, min(start + batch, len(questions)))
        found += await asyncio.gather(*map(one, places))
        tick(len(places))
    return found
