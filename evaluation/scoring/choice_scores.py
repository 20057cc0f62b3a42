"""Which option would the user take? By the judge, by a sampled reply, by the fast profile, or fused.

`choose_by_judge` is the judge of serving, by the protocol of its model: letter probabilities, averaged over the orders
in which the options are shown, or likelihoods. `choose_by_sampling` is the protocol of the AlignX family: one order,
drawn with seed 42 (for two items a coin), 16 tokens at temperature .6, parsed by evaluation/cases/selections.py.
"""

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from alignx.schemas.interactions import Interaction, Pair
from evaluation.cases.cases import Case
from evaluation.cases.selections import parse_selection
from evaluation.models import Model, Sampling, Tick, in_batches
from services.engine.choice.fusion import Comparison, add, additions, compare, fuse, kind_of, learned_weights
from services.engine.judge import RecentChoices, judge
from services.profile.scoring import probabilities, softmax
from services.prompts.build import LETTERS
from services.prompts.profiles import OWN, PromptProfile
from training.rl.rewards import TENANT

ORDER_SEED: Final = 42
FOLDS: Final = 10
"""Parts of the cases; the weights of each are learned on the others."""
UNPARSED: Final = -1
SAMPLING: Final = Sampling(max_tokens=16, temperature=0.6, top_p=0.95, top_k=20, thinking=False)


class Context(NamedTuple):
    """What the judge reads about one user: a summary, or the history in its place."""

    summary: str | None = None
    history: Sequence[Interaction] = ()
    recent: Sequence[Pair] = ()
    """Earlier choices for the contrast, beside the summary."""


class Choice(NamedTuple):
    """Probabilities of one user's options."""

    probabilities: tuple[float, ...]
    """In the order of `Case.options`. A sampled reply gives 1 to the option it selects, else 0 to all."""
    position_bias: float | None = None
    contrast: tuple[float, ...] | None = None
    place: int | None = None
    """Of a sampled reply: the position at which the selected option was shown, or `UNPARSED`."""


async def choose_by_judge(
    model: Model,
    cases: Sequence[Case],
    contexts: Sequence[Context],
    *,
    batch: int,
    tick: Tick,
    prompts: PromptProfile = OWN,
) -> list[Choice]:
    """By letters each option stands once at each position: with two options that is both orders."""

    async def choose(asked: tuple[Case, Context]) -> Choice:
        case, context = asked
        judgement = await judge(
            model,
            case.target.query,
            case.options,
            context.summary,
            tenant=TENANT,
            history=context.history,
            recent=RecentChoices(context.recent),
            orders=len(case.options),
            prompts=prompts,
        )
        return Choice(judgement.probabilities, judgement.position_bias, judgement.contrast)

    return await in_batches(choose, list(zip(cases, contexts, strict=True)), batch, tick)


async def choose_by_sampling(
    model: Model,
    cases: Sequence[Case],
    contexts: Sequence[Context],
    *,
    seed: int,
    tick: Tick,
    prompts: PromptProfile = OWN,
) -> list[Choice]:
    """One sampled reply for each user. The orders are the same for all settings and models."""
    rng = random.Random(ORDER_SEED)
    orders = [rng.sample(range(len(case.options)), len(case.options)) for case in cases]
    shown = []
    for case, context, order in zip(cases, contexts, orders, strict=True):
        options = [case.options[option] for option in order]
        prompt = prompts.selection_prompt(case.target.query, options, context.summary, context.history)
        shown.append(prompt.messages[:-1])  # without the start of the answer
    replies = await model.write(shown, SAMPLING, seed=seed, tick=tick)
    return [parse_choice(reply, order) for reply, order in zip(replies, orders, strict=True)]


def parse_choice(reply: str, order: Sequence[int]) -> Choice:
    """`order` holds the option shown at each position."""
    place = parse_selection(reply, [letter.strip() for letter in LETTERS[: len(order)]])
    selected = None if place is None else order[place]
    values = tuple(float(option == selected) for option in range(len(order)))
    return Choice(values, place=UNPARSED if place is None else place)


# --- the fast profile --------------------------------------------------------------------------


def choose_by_profile(case: Case) -> Choice:
    """The fast profile's own probabilities."""
    return Choice(tuple(probabilities(case.profile, case.target.query, case.options)))


def take_contrast(choice: Choice) -> Choice:
    """The choice by the contrast alone; undecided without one."""
    return choice._replace(probabilities=tuple(softmax(choice.contrast or [0.0] * len(choice.probabilities))))


def fuse_choices(cases: Sequence[Case], choices: Sequence[Choice], by_profile: Sequence[Choice]) -> list[Choice]:
    """The engine's choices combined with the fast profile's as in serving, by the weights that all other parts of the
    cases have earned; the first option is the chosen one."""
    scores = [
        (prior.probabilities, own.probabilities, own.contrast) for prior, own in zip(by_profile, choices, strict=True)
    ]
    kinds = [kind_of(case.options) for case in cases]
    fused = list(choices)
    for part in range(FOLDS):
        sums: dict[str, float] = {}
        for index, (kind, score) in enumerate(zip(kinds, scores, strict=True)):
            if index % FOLDS != part:
                for rejected in range(1, len(score[0])):
                    odds = compare(*score, chosen=0, rejected=rejected)
                    sums = add(sums, additions(sums, Comparison(kind, odds)))
        for index in range(part, len(cases), FOLDS):
            fused[index] = choices[index]._replace(
                probabilities=tuple(fuse(learned_weights(sums, kinds[index]), *scores[index]))
            )
    return fused
