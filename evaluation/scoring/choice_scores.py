"""Which option would the user take? By forced letters, by a sampled reply, by the fast profile, or fused.

`forced` is the judge of serving: the probability of each letter, averaged over the orders in which the
options are shown. `sampled` is how the AlignX family measures: one order, drawn with seed 42 (of two
items that is a coin), 16 tokens at temperature .6, read by evaluation/cases/selections.py.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import Item, item_text
from evaluation.cases.cases import Case, User
from evaluation.cases.selections import Kind, parse_selection
from evaluation.models import Model, Sampling, Tick
from services.engine.judge import fuse, judge
from services.profile.fold import fold
from services.profile.scoring import probabilities
from services.profile.statistics import EMPTY, Profile
from services.prompts.build import LETTERS, selection_prompt
from training.rl.rewards import TENANT

COIN_SEED: Final = 42
SAMPLED: Final = Sampling(max_tokens=16, temperature=0.6, top_p=0.95, top_k=20, thinking=False)


class Known(NamedTuple):
    """What is read of one user before the choice: a summary, or the history in its place."""

    summary: str | None = None
    history: Sequence[Interaction] = ()


class Choice(NamedTuple):
    """What one user's options were given."""

    probabilities: tuple[float, ...]
    """Of each option in the order of `offered`. Of a sampled reply 1 for the one it selected, and 0 for
    all where it selected none."""
    position_bias: float | None = None
    kind: Kind | None = None
    """Of a sampled reply."""
    took_first: bool = False
    """Whether a sampled reply selected the item shown first."""


def offered(case: Case) -> list[Item]:
    """The options of a case, the chosen one first."""
    return [case.target.chosen, case.target.rejected, *case.others]


async def forced(
    model: Model, cases: Sequence[Case], known: Sequence[Known], *, batch: int, tick: Tick
) -> list[Choice]:
    """Each option is once in each place: with two options that is both orders."""

    async def one(case: Case, told: Known) -> Choice:
        texts = list(map(item_text, offered(case)))
        query, orders = case.target.query, len(texts)
        found = await judge(model, query, texts, told.summary, tenant=TENANT, history=told.history, orders=orders)
        return Choice(found.probabilities, found.position_bias)

    found: list[Choice] = []
    asked = list(zip(cases, known, strict=True))
    for start in range(0, len(asked), batch):
        group = asked[start : start + batch]
        found += await asyncio.gather(*(one(*each) for each in group))
        tick(len(group))
    return found


async def sampled(
    model: Model, cases: Sequence[Case], known: Sequence[Known], *, seed: int, tick: Tick
) -> list[Choice]:
    """One sampled reply for each user. The orders are the same for all settings and models."""
    rng = random.Random(COIN_SEED)
    orders = [rng.sample(range(len(offered(case))), len(offered(case))) for case in cases]
    prompts = []
    for case, told, order in zip(cases, known, orders, strict=True):
        texts = list(map(item_text, offered(case)))
        shown = [texts[place] for place in order]
        prompt = selection_prompt(case.target.query, shown, told.summary, told.history)
        prompts.append(prompt.messages[:-1])  # without the start of the answer
    replies = await model.write(prompts, SAMPLED, seed=seed, tick=tick)
    return [read_choice(reply, order) for reply, order in zip(replies, orders, strict=True)]


def read_choice(reply: str, order: Sequence[int]) -> Choice:
    """`order` tells for each place which option was shown there."""
    selection = parse_selection(reply, [letter.strip() for letter in LETTERS[: len(order)]])
    taken = None if selection.place is None else order[selection.place]
    values = tuple(float(option == taken) for option in range(len(order)))
    return Choice(values, kind=selection.kind, took_first=selection.place == 0)


# --- the fast profile --------------------------------------------------------------------------


def profile_of(user: User) -> Profile:
    return folded(user.history)


def folded(events: Sequence[Interaction], profile: Profile = EMPTY) -> Profile:
    for event in events:
        profile, _ = fold(profile, event)
    return profile


def foreseen(case: Case) -> Choice:
    """The fast profile's own probabilities."""
    return Choice(tuple(probabilities(profile_of(case), case.target.query, offered(case))))


def fused(choice: Choice, by_profile: Choice, weight: float) -> Choice:
    """A choice by letters joined with the fast profile's, as serving does; `weight` is the engine's."""
    both = fuse(choice.probabilities, by_profile.probabilities, weight)
    return choice._replace(probabilities=tuple(both))
