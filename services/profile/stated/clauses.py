"""What the user says, clause by clause, as the profile keeps it: the newest last, what was taken back struck."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from services.profile.item_features import clean
from services.profile.stated.reversals import takes_back
from services.profile.stated.subjects import subject_of
from services.profile.statistics import Profile, StatedClause
from services.profile.style_features import terms, words
from services.profile.word_forms import root
from services.statements.attitudes import Clause
from services.statements.clauses import MAX_QUOTE

MAX_CLAUSES, MAX_OWN_CLAUSES = 56, 160
"""How many are kept; and of a text that the user wrote over the summary, until they say something else."""
MAX_CHARS = 2_400
"""Characters of their quotes and targets together."""
MAX_TARGET = 80
_RETRACTS = re.compile(
    r"\b(?:turns? out|after all|changed my mind|not any ?more|no longer|instead of what i said|i was wrong)\b",
    re.IGNORECASE,
)
_IDENTIFIERS = (
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+"), "[email]"),
    (re.compile(r"(?<!\w)\+?\d(?:[ .\-/()]{0,2}\d){8,}(?!\w)|\b[A-Z]{1,2}\d{6,}\b"), "[number]"),
)
"""Of people and accounts: they tell no preference."""
MAX_TARGET_WORDS = 12


def keep(clauses: Sequence[Clause], event: int, weight: float, day: int = 0) -> list[StatedClause]:
    """As the profile keeps them; `weight` is what their source counts, against 1 for a statement."""
    return [
        StatedClause(
            clean(mask_identifiers(clause.quote), MAX_QUOTE),
            clean(mask_identifiers(clause.target), MAX_TARGET),
            round(100 * clause.polarity),
            clause.kind,
            event,
            round(100 * weight),
            tuple((name, round(100 * strength)) for name, strength in clause.style.items()),
            clause.past,
            clause.language,
            day,
        )
        for clause in clauses
    ]


def mask_identifiers(text: str) -> str:
    """Without addresses of mail, and numbers of telephones, cards and papers."""
    for pattern, mask in _IDENTIFIERS:
        text = pattern.sub(mask, text)
    return text


def add(
    known: Sequence[StatedClause], new: Iterable[StatedClause], most: int = MAX_CLAUSES
) -> tuple[StatedClause, ...]:
    """The `known` and the `new` ones. A newer clause strikes older ones about the same in the other sense; one that
    says the same again, or wishes at least the same of the style of texts, replaces them. Newer is
    what was said on a later day, or came later."""
    clauses = list(known)
    for clause in new:
        place = next((n for n, other in enumerate(clauses) if 0 < clause.day < other.day), len(clauses))
        earlier, later = clauses[:place], clauses[place:]
        kept = [after for old in earlier for after in _answer(old, clause)]
        for other in later:
            answered = _answer(clause, other)
            if not answered:  # said again later
                break
            clause = answered[0]
        else:
            kept.append(clause)
        clauses = [*kept, *later]
    return _prune(clauses, most)


def _answer(old: StatedClause, new: StatedClause) -> tuple[StatedClause, ...]:
    """What becomes of an older clause: it stays, is struck, or is replaced."""
    if (
        _RETRACTS.search(new.quote)
        and new.polarity * old.polarity <= 0
        and old.quote != new.quote
        and _shares_subject(old, new)
    ):
        return (old._replace(is_struck=True),)
    if (old[:4], old.style) == (new[:4], new.style):
        return ()
    if takes_back(old, new):
        return (old._replace(is_struck=True),)
    topics = frozenset(roots_of(new.target))
    about = roots_of(old.target)
    if topics and about and topics.issubset(about):
        if new.is_struck or new.polarity * old.polarity < 0:
            return (old._replace(is_struck=True),)
    elif old.style and not old.polarity:
        wished, wishes = dict(old.style), dict(new.style)
        if any(value * wishes.get(name, 0) < 0 for name, value in wished.items()):
            return (old._replace(is_struck=True),)
        if wished.keys() <= wishes.keys():
            return ()
    return (old,)


def _shares_subject(old: StatedClause, new: StatedClause) -> bool:
    return not set(roots_of(subject_of(old.quote))).isdisjoint(roots_of(subject_of(_RETRACTS.sub(" ", new.quote))))


def _prune(clauses: list[StatedClause], most: int) -> tuple[StatedClause, ...]:
    kept: list[StatedClause] = []
    chars = 0
    for clause in reversed(clauses[-most:]):
        chars += len(clause.quote) + len(clause.target)
        if chars > MAX_CHARS:
            break
        kept.append(clause)
    return tuple(reversed(kept))


@lru_cache(maxsize=4_096)
def roots_of(target: str) -> tuple[str, ...]:
    """The words of a target that can name a topic, each as its root."""
    return tuple([root(part) for word in terms(words(target), MAX_TARGET_WORDS) for part in word.split("-")])


def stated_styles(profile: Profile) -> Mapping[str, int]:
    """Wishes about the writing of texts, in hundredths by feature; the newest counts."""
    return {
        name: round(strength * clause.weight / 100)
        for clause in profile.clauses
        if not clause.is_struck
        for name, strength in clause.style
    }
