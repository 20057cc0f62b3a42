"""What of a summary bears on a request, so that an answer drags in nothing else.

How a text should be written bears on every answer; a fact, a liking or a topic on a request that is near to it in
meaning (`services.profile.stated.subjects`). What no longer holds bears on none.
"""

import re
from typing import Final

from services.profile.parse_text import ABOUT, IN_PASSING, NO_LONGER, OWN_WORDS, SENTENCE, STYLE_OPENINGS, WENT_FOR
from services.profile.stated.subjects import asked_subject, nearness_to
from services.statements.clauses import read_clauses

NEAR: Final = 0.1
"""Cosine from which on a liking bears on a request: of PrefEval's preferences 90 % then bear on their own question and
22 % on one drawn from the others."""
NEAR_FACT: Final = 0.03
"""The same for a fact, which does harm where it is left out: "I use a wheelchair"."""
_QUOTE_LINES: Final = (OWN_WORDS, IN_PASSING, ABOUT, WENT_FOR)
_QUOTED: Final = re.compile(r'("[^"]*")((?: \([^()"]*\))?)')
_MANNER: Final = re.compile(
    r"\b(?:texts?|answers?|repl(?:y|ies)|responses?|explanations?|writing|tone|style|wording|sentences?)\b",
    re.IGNORECASE,
)


def keep_relevant(text: str, request: str) -> str:
    """The parts of a summary that bear on the `request`, as they stand there; "" where none does."""
    asked = asked_subject(request)
    if not asked:
        return text
    return "\n".join(filter(None, (_keep_in_line(line, asked) for line in text.split("\n"))))


def _keep_in_line(line: str, asked: str) -> str:
    if line.startswith(NO_LONGER):
        return ""
    for opening in _QUOTE_LINES:
        if line.startswith(opening):
            least = NEAR_FACT if opening == ABOUT else NEAR
            kept = [quote + month for quote, month in _QUOTED.findall(line) if _bears(quote, asked, least)]
            return f"{opening}: {', '.join(kept)}" if kept else ""
    return " ".join(part for part in SENTENCE.split(line) if part.strip() and _bears(part, asked, NEAR))


def _bears(part: str, asked: str, least: float) -> bool:
    return bool(nearness_to(asked, [part])[0] >= least) or _is_manner(part)


def _is_manner(part: str) -> bool:
    """Whether a sentence tells how a text should be written."""
    if part.startswith(tuple(STYLE_OPENINGS)) or _MANNER.search(part):
        return True
    return any(clause.style for clause in read_clauses(part.strip('"')))
