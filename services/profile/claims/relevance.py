"""What of a summary bears on a request, so that an answer drags in nothing else.

How a text should be written bears on every answer, and so does what does harm where it is left out: what the user
avoids, and what they said of their health. Any other fact, liking or topic bears on a request that is near to it in
meaning (`services.profile.stated.subjects`). What no longer holds bears on none.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from services.profile.parse_text import (
    ABOUT,
    IN_PASSING,
    NEWEST_FIRST,
    NO_LONGER,
    OWN_WORDS,
    STYLE_OPENINGS,
    WENT_FOR,
    split_sentences,
)
from services.profile.stated.kinds import find_kind
from services.profile.stated.sensitive import find_subjects
from services.profile.stated.subjects import asked_subject, nearness_to, read_subject
from services.statements.clauses import read_clauses

NEAR: Final = 0.1
"""Cosine from which on a liking bears on a request: of PrefEval's preferences 90 % then bear on their own question and
22 % on one drawn from the others."""
NEAR_FACT: Final = 0.03
"""The same for a fact."""
_OPENINGS: Final = "|".join((OWN_WORDS, IN_PASSING, ABOUT, WENT_FOR, NO_LONGER))
_OPENED: Final = re.compile(rf'({_OPENINGS})(?:{NEWEST_FIRST})?: "')
_QUOTED: Final = re.compile(r'("[^"]*")((?: \([^()"]*\))?)')
_MANNER: Final = re.compile(
    r"\b(?:texts?|answers?|repl(?:y|ies)|responses?|explanations?|writing|tone|style|wording|sentences?)\b",
    re.IGNORECASE,
)


class _Part(NamedTuple):
    opening: str
    """Of a line of quotations; "" for a sentence."""
    text: str
    ending: str = ""


def read_parts(text: str) -> Iterator[None]:
    """Reads the parts of a summary, one at each step (a millisecond), and keeps what `keep_relevant` needs of them."""
    for line in text.split("\n"):
        for part in _split(line):
            read_subject(part.text)
            _always_bears(part.text)
            yield


def keep_relevant(text: str, request: str) -> str:
    """The parts of a summary that bear on the `request`, as they stand there; "" where none does."""
    asked = asked_subject(request)
    if not asked:
        return text
    lines = list(map(_split, text.split("\n")))
    near = iter(nearness_to(asked, [part.text for parts in lines for part in parts]))
    kept = [[part for part in parts if _bears(part, next(near))] for parts in lines]
    return "\n".join(_join(parts) for parts in kept if parts)


def _split(line: str) -> list[_Part]:
    if not (opened := _OPENED.match(line)):
        return [_Part("", part) for part in split_sentences(line) if part.strip()]
    if opened[1] == NO_LONGER:
        return []
    return [_Part(opened[1], quote, month) for quote, month in _QUOTED.findall(line)]


def _join(parts: list[_Part]) -> str:
    opening = parts[0].opening
    if not opening:
        return " ".join(part.text for part in parts)
    return f"{opening}: {', '.join(part.text + part.ending for part in parts)}"


def _bears(part: _Part, near: float) -> bool:
    return bool(near >= (NEAR_FACT if part.opening == ABOUT else NEAR)) or _always_bears(part.text)


@lru_cache(maxsize=2_048)
def _always_bears(text: str) -> bool:
    """Whether it tells how a text should be written, or what would do harm."""
    if text.startswith(tuple(STYLE_OPENINGS)) or _MANNER.search(text):
        return True
    if any(subject.startswith("health/") for subject in find_subjects(text)):
        return True
    return any(clause.style or clause.kind == "avoid" or _is_diet(clause.target) for clause in read_clauses(text))


def _is_diet(target: str) -> bool:
    kind = find_kind(target, "en") if target else None
    return kind is not None and kind.is_diet
