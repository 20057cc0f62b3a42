"""Response generation: the model answers a user's question, and a judge compares with a reference answer.

The judge sees the question, the model's answer, an answer written for this user, and the user's history; letter
probabilities in both orders say which answer the user would choose. A judge that prefers a position or is unsure
makes a tie. No persona and no profile of a benchmark is read.
"""

import time
from collections.abc import Sequence
from statistics import fmean
from typing import Final, NamedTuple

from alignx.schemas.interactions import Interaction
from alignx.schemas.requests import ChatMode
from evaluation.cases.cases import Question
from evaluation.cases.selections import drop_thinking
from evaluation.conditions import Inference, count_answers
from evaluation.models import Model, in_batches
from evaluation.results import AnswerScores
from evaluation.scoring.choice_scores import Context
from evaluation.scoring.intervals import estimate_over
from evaluation.scoring.measure import Judging, estimate_by_kind, prepare_contexts, writing_stats
from services.engine.judge import Judgement, judge
from services.prompts.build import ChatMessage, chat_prompt
from services.prompts.profiles import OWN, PromptProfile, load_profile
from training.rl.rewards import TENANT

WIN: Final = 1.0
TIE: Final = 0.5
LOSS: Final = 0.0
TIE_MARGIN: Final = 0.1
"""Largest distance from one half at which the answer's probability is a tie."""
_ROUNDING: Final = 1e-9


class Comparison(NamedTuple):
    """One answer against its reference."""

    value: float
    """`WIN`, `TIE` or `LOSS`."""
    position_bias: float | None
    """None where the judge was not asked."""


def score_judgement(judgement: Judgement) -> float:
    """Of a comparison whose first item is the answer and whose second is the reference.

    A tie where the mean probability of the answer lies within `TIE_MARGIN` of one half, the margin
    included, or where the two orders disagree about which is likelier. With p the mean and b the
    position bias, the orders gave p - b and p + b: they disagree where |p - .5| < b.
    """
    first, second = judgement.probabilities
    lead = (first - second) / 2  # exactly turned round where the two change places
    if abs(lead) <= TIE_MARGIN + _ROUNDING or abs(lead) < judgement.position_bias:
        return TIE
    return WIN if lead > 0 else LOSS


def compare_unjudged(first: str, second: str) -> Comparison | None:
    """Equal replies tie and an empty one loses; None for others, which need a judge."""
    if first.strip() == second.strip():
        return Comparison(TIE, None)
    if not (first.strip() and second.strip()):
        return Comparison(WIN if first.strip() else LOSS, None)
    return None


async def compare_replies(
    model: Model,
    question: str,
    first: str,
    second: str,
    history: Sequence[Interaction] = (),
    prompts: PromptProfile = OWN,
) -> Comparison:
    """The first reply against the second; equal ones tie and an empty one loses without a judge."""
    if unjudged := compare_unjudged(first, second):
        return unjudged
    judgement = await judge(model, question, (first, second), None, tenant=TENANT, history=history, prompts=prompts)
    return Comparison(score_judgement(judgement), judgement.position_bias)


def answer_messages(question: str, context: Context) -> list[ChatMessage]:
    """The prompt of serving: with the summary, with the history in its place, or with neither."""
    mode: ChatMode = "direct" if context.history else "summary" if context.summary else "none"
    messages = [ChatMessage(role="user", content=question)]
    return chat_prompt(messages, mode=mode, summary=context.summary, history=context.history).messages


async def measure_answers(
    setting: str, questions: Sequence[Question], judging: Judging
) -> tuple[AnswerScores, Inference]:
    """Summaries of a setting, the model's answers by them, and the judge's comparison. Raises TrainingError."""
    protocol = judging.protocol
    total = count_answers(setting, len(questions), protocol.updates) + len(questions)
    tick = judging.progress.add(setting, total)
    started, calls = time.monotonic(), judging.answers
    inference = Inference(judging.model, protocol, tick)
    contexts = await prepare_contexts(setting, questions, inference, judging.saved)
    prompts = [answer_messages(row.question, context) for row, context in zip(questions, contexts, strict=True)]
    replies = await judging.model.write(prompts, protocol.answering, seed=protocol.seed, tick=tick)
    answers = [drop_thinking(reply) or "" for reply in replies]
    comparisons = await compare_with_references(judging.judge, questions, answers, inference)
    values = [comparison.value for comparison in comparisons]
    biases = [comparison.position_bias for comparison in comparisons if comparison.position_bias is not None]
    texts = [answer for answer in answers if answer]
    scores = AnswerScores(
        score=estimate_over(values, questions, seed=protocol.seed),
        wins=values.count(WIN),
        ties=values.count(TIE),
        losses=values.count(LOSS),
        empty=len(answers) - len(texts),
        position_bias=fmean(biases) if biases else None,
        answer_tokens=fmean(map(judging.model.tokens, texts)) if texts else 0.0,
        by_kind=estimate_by_kind(values, questions, protocol.seed),
        writing=writing_stats(setting, inference, contexts),
        calls=judging.answers - calls,
        seconds=round(time.monotonic() - started, 3),
        values=tuple(values),
    )
    return scores, inference


async def compare_with_references(
    model: Model, questions: Sequence[Question], answers: Sequence[str], inference: Inference
) -> list[Comparison]:
    """`model` judges; `inference` fits the histories that it reads."""

    async def compare(index: int) -> Comparison:
        row, answer = questions[index], answers[index]
        if unjudged := compare_unjudged(answer, row.reference):
            return unjudged
        history = inference.fit_history(index, row.history)
        return await compare_replies(model, row.question, answer, row.reference, history, prompts)

    prompts = load_profile(inference.protocol.selection_prompts)
    return await in_batches(compare, range(len(questions)), inference.protocol.batch, inference.tick)
