"""How items match what the user said: each clause by the words of its target, and by its meaning.

The words of a target count as far as the item mentions them; one that the item goes without ("sugar-free") counts the
other way, and so do members of what a diet or an allergy rules out (`kinds`). Meaning is the cosine of target and item,
compared with the other items: little of a clause that is far from all of them. The sign is the clause's. What was said
in passing counts less where much was: of m clauses together as √m. A statement of fact speaks for what is near to it.

Texts are also compared by what the user said at all (`memory`).
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.profile.item_features import ItemFeatures
from services.profile.stated.clauses import roots_of
from services.profile.stated.kinds import Kind, Mentions, find_kind
from services.profile.stated.memory import Recall, support
from services.profile.stated.subjects import asked_subject, asks_for_fact, nearness_to, subject_of
from services.profile.statistics import PLAIN, SAID_IN_PASSING, Profile, StatedClause
from services.profile.style_features import words
from services.profile.word_forms import mentions, root
from services.profile.word_table import Vectors, embed
from services.statements.cue_lexicon import load_lexicon
from services.statements.segments import cut_sentence

BY_WORDS = 2.0
"""Log-odds of an item that mentions all words of a target."""
BY_MEANING = 6.0
"""Log-odds of a cosine that is higher by 1 than that of the other items."""
RELEVANT = 0.4
"""Cosine with the nearest item from which a clause's meaning counts in full."""
BEARING = 0.17
"""Nearness to the request and to the items, added up, from which on a liking bears on a request."""
BEARING_FACT = 0.1
"""The same of a fact."""
BEARING_PASSING = -0.1
"""The same of what is said in a dialogue, which often stands beside the request that it is meant for, and of what is
read in a summary, which does not tell one from the other."""
FACT = 60
"""Hundredths of polarity of a fact: what suits it is rather wanted."""
MAX_CLAUSE, MAX_STATED = 3.0, 8.0
"""Most log-odds by one clause, and by all together."""


_LEAST = {"fact": BEARING_FACT, "avoid": -2.0}
"""By kind; what the user avoids is heeded whatever is asked."""
_SUPPOSED = re.compile(
    r"\b(?:think|believe|say|suppose|guess|feel|(?:am|['’]m) (?:\w+ )?(?:sure|certain|convinced|positive))\b"
    r"|\b(?:if|would|could|might|perhaps)\b|^(?:were|had|should) (?:i|we)\b|[\"“”]|\bmind\b",
    re.IGNORECASE,
)
"""Of what somebody holds to be true of the world, of what is not so, and of what others said."""


_TASTES = frozenset(("like", "dislike", "want"))


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
    clauses, written = [*live_clauses(profile), *_facts(profile)], [view.written for view in views]
    recall = support(profile.memory, query, written) if all(written) else None  # a name holds no claim to look up
    if not clauses or not views:
        return Matches((), np.zeros((0, len(views))), recall)
    near = (embed([clause.target for clause in clauses]) @ vectors.T).astype(float)
    share = np.clip(near.max(axis=1, keepdims=True) / RELEVANT, 0.0, 1.0)
    meaning = BY_MEANING * share * (near - near.mean(axis=1, keepdims=True))
    odds = np.clip(BY_WORDS * match_words(clauses, views) + meaning, -MAX_CLAUSE, MAX_CLAUSE)
    signs = np.array([clause.polarity * clause.weight for clause in clauses]) / 10_000
    if asked := asked_subject(query):
        signs *= _bear(clauses, asked, near) & (not asks_for_fact(query))
    in_passing = np.array([clause.weight < PLAIN and bool(clause.quote) for clause in clauses])
    many = np.abs(signs[in_passing]).sum() / SAID_IN_PASSING
    if many > 1:
        signs[in_passing] /= np.sqrt(many)
    return Matches(clauses, (signs[:, None] * odds).round(4), recall)


def _bear(clauses: Sequence[StatedClause], asked: str, near: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each clause bears on the subject of a request and on what is offered: `near` holds the cosines of clauses
    and items, of which the nearest is left out, since it may drag the clause in. What was read out of a text about the
    user, and not said, speaks as counted evidence does."""
    count = near.shape[1]
    others = (near.sum(axis=1) - near.max(axis=1)) / (count - 1) if count > 1 else near[:, 0]
    texts = [text for clause in clauses for text in (clause.quote or clause.target, clause.target)]
    bearing = nearness_to(asked, texts).reshape(-1, 2).mean(axis=1) + others
    is_stated = [clause.weight == PLAIN and clause.event > 0 for clause in clauses]
    least = [
        _LEAST.get(c.kind, BEARING) if said else BEARING_PASSING for c, said in zip(clauses, is_stated, strict=True)
    ]
    is_said = np.array([bool(clause.quote) for clause in clauses])
    bears: NDArray[np.bool_] = ~is_said | (bearing >= np.array(least))
    return bears


def live_clauses(profile: Profile) -> list[StatedClause]:
    """Those that claim something, and still hold."""
    return [clause for clause in profile.clauses if clause.polarity and clause.target and not clause.is_struck]


def _facts(profile: Profile) -> list[StatedClause]:
    """What the user told of themselves in a statement, without liking or disliking it: "I use a wheelchair"."""
    facts = []
    for clause in profile.clauses:
        is_fact = clause.kind == "fact" and not (clause.polarity or clause.style)
        if is_fact and clause.language == "en" and not clause.is_struck and _is_told(clause.quote):
            there = [key for key, sign in mentions(words(clause.quote)).items() if sign > 0]
            told = [word for word in subject_of(clause.quote).split() if root(word) in there]
            facts.append(clause._replace(target=" ".join(told), polarity=FACT))
    return [fact for fact in facts if fact.target]


@lru_cache(maxsize=4_096)
def _is_told(quote: str) -> bool:
    """Whether it tells how things are: nothing supposed, and no taste, which is another's where it is no claim."""
    sentence = cut_sentence(quote, load_lexicon("en"), is_answer=False)
    attitudes = [
        match.cue.kind for segment in sentence.segments for match in segment.matches if match.cue.role == "attitude"
    ]
    return not (_SUPPOSED.search(quote) or _TASTES.intersection(attitudes))


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
