"""How items match what the user said: each clause by the words of its target, and by its meaning.

The words of a target count as far as the item mentions them; one that the item goes without ("sugar-free") counts the
other way, and so do members of what a diet or an allergy rules out (`kinds`). Meaning is the cosine of target and item,
compared with the other items: little of a clause that is far from all of them. The sign is the clause's. What was said
in passing counts less where much was: of m clauses together as √m.

Texts are also compared by what the user said at all (`memory`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.profile.item_features import ItemFeatures
from services.profile.stated.clauses import roots_of
from services.profile.stated.kinds import Kind, Mentions, find_kind
from services.profile.stated.memory import Recall, support
from services.profile.stated.subjects import asked_subject, nearness_to
from services.profile.statistics import SAID_IN_PASSING, Profile, StatedClause
from services.profile.word_forms import mentions
from services.profile.word_table import Vectors, embed

BY_WORDS = 2.0
"""Log-odds of an item that mentions all words of a target."""
BY_MEANING = 6.0
"""Log-odds of a cosine that is higher by 1 than that of the other items."""
RELEVANT = 0.4
"""Cosine with the nearest item from which a clause's meaning counts in full."""
BEARING = 0.05
"""Nearness from which on a clause bears on a request in full."""
PLAIN = 100
"""Weight of a clause of a statement."""
MAX_CLAUSE, MAX_STATED = 3.0, 8.0
"""Most log-odds by one clause, and by all together."""


class Matches(NamedTuple):
    clauses: Sequence[StatedClause]
    odds: NDArray[np.float64]
    """Log-odds by clause and item."""
    recall: Recall | None = None
    """What else was said that speaks for an item."""

    @property
    def totals(self) -> list[float]:
        """By item."""
        odds = self.odds.sum(axis=0) + (self.recall.odds if self.recall else 0.0)
        sums: list[float] = np.clip(odds, -MAX_STATED, MAX_STATED).tolist()
        return sums


def match(profile: Profile, views: Sequence[ItemFeatures], vectors: Vectors, query: str = "") -> Matches:
    """What the user said of each item. A clause that claims nothing, was taken back, or does not bear on the `query`
    moves nothing."""
    clauses, recall = live_clauses(profile), _recall(profile, views, query)
    if not clauses or not views:
        return Matches((), np.zeros((0, len(views))), recall)
    near = (embed([clause.target for clause in clauses]) @ vectors.T).astype(float)
    share = np.clip(near.max(axis=1, keepdims=True) / RELEVANT, 0.0, 1.0)
    meaning = BY_MEANING * share * (near - near.mean(axis=1, keepdims=True))
    odds = np.clip(BY_WORDS * match_words(clauses, views) + meaning, -MAX_CLAUSE, MAX_CLAUSE)
    signs = np.array([clause.polarity * clause.weight for clause in clauses]) / 10_000
    if asked := asked_subject(query):
        signs *= _bearing(clauses, asked)
    in_passing = np.array([clause.weight < PLAIN and bool(clause.quote) for clause in clauses])
    many = np.abs(signs[in_passing]).sum() / SAID_IN_PASSING
    if many > 1:
        signs[in_passing] /= np.sqrt(many)
    return Matches(clauses, (signs[:, None] * odds).round(4), recall)


def _recall(profile: Profile, views: Sequence[ItemFeatures], query: str) -> Recall | None:
    """Of texts alone: a name holds no claim that could be looked up."""
    return support(profile.memory, query, [view.written for view in views]) if all(v.written for v in views) else None


def _bearing(clauses: Sequence[StatedClause], asked: str) -> NDArray[np.float64]:
    """How far each clause bears on the subject of a request, on [0, 1]. What is said in a dialogue often stands beside
    the request that it is meant for, and is left out later. What was read out of a text about the user, and not said,
    speaks as counted evidence does."""
    near = nearness_to(asked, [clause.quote or clause.target for clause in clauses])
    least = np.array([0.0 if clause.weight == PLAIN else -BEARING for clause in clauses])
    is_said = np.array([bool(clause.quote) for clause in clauses])
    return np.where(is_said, np.clip((near - least) / (BEARING - least), 0.0, 1.0), 1.0)


def live_clauses(profile: Profile) -> list[StatedClause]:
    """Those that claim something, and still hold."""
    return [clause for clause in profile.clauses if clause.polarity and clause.target and not clause.is_struck]


def match_words(clauses: Sequence[StatedClause], views: Iterable[ItemFeatures]) -> NDArray[np.float64]:
    """By clause and item, how much of the clause's target the item mentions, on [-1, 1]."""
    wanted: dict[str, list[tuple[int, float]]] = {}
    kinds: dict[Kind, list[int]] = {}
    for place, clause in enumerate(clauses):
        roots = roots_of(clause.target)
        for key in roots:
            wanted.setdefault(key, []).append((place, 1 / len(roots)))
        kind = find_kind(clause.target, clause.language)
        if kind is not None and not (kind.is_diet and clause.polarity < 0):  # no meat for who dislikes vegan food
            kinds.setdefault(kind, []).append(place)
    columns = []
    for view in views:
        column = [0.0] * len(clauses)
        mentioned = mentions(view.tokens)
        for key in wanted.keys() & mentioned.keys():
            for place, share in wanted[key]:
                column[place] += mentioned[key] * share
        if kinds:
            item = Mentions(view.tokens, mentioned)
            for kind, places in kinds.items():
                sign = kind.sign_in(item)
                for place in places if sign else ():
                    column[place] = sign
        columns.append(column)
    return np.array(columns).reshape(len(columns), len(clauses)).T
