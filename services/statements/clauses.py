"""What people say of their tastes, clause by clause: `read_clauses`.

A sentence is cut into segments at marks and joining words. A segment's cues, out of the lexicon of its language,
say whether the person likes or avoids something, and what. What is asked, supposed, quoted, meant the other way, told
of others or not understood claims nothing: such a clause is only quoted.
"""

import re
from typing import Final

from alignx.schemas.items import compose
from services.statements.attitudes import Clause
from services.statements.cue_lexicon import load_lexicon
from services.statements.interpret import Reader
from services.statements.language import recognize_language

MAX_CHARS: Final = 4_000
"""Characters of a text that are read."""
MAX_QUOTE: Final = 240
_LINK = re.compile(r"(?:\b[a-z][a-z0-9+.-]{0,15}://|\bwww\.)\S*", re.IGNORECASE)
_END = re.compile(
    r"(?<=[.!?;…])(?<!\.\w\.)\s+|(?<=[.!?;…][\"'”’)»])\s+|(?<=[。！？；।؟؛])(?![」』”\"])|\n+"
    r"|(?<=[\U0001f300-\U0001faff\u2600-\u27bf\ufe0f])\s+"
)


def read_clauses(text: str, *, statement: bool = True) -> list[Clause]:
    """The clauses of a text. Without `statement`, of a post or a turn of a dialogue, only what the person says of
    themselves."""
    text = compose(_LINK.sub(" ", text[:MAX_CHARS])).strip()
    if not text:
        return []
    sentences = split_sentences(text)
    language = recognize_language(text)
    if language:
        clauses = Reader(load_lexicon(language), statement=statement).read(sentences)
    else:
        clauses = [Clause(sentence, "", 0.0, "none") for sentence in sentences] if statement else []
    return [clause._replace(quote=_cut(clause.quote), language=language) for clause in clauses]


def split_sentences(text: str) -> list[str]:
    """Each on one line."""
    return [" ".join(sentence.split()) for sentence in _END.split(text) if sentence.strip()]


def _cut(quote: str) -> str:
    return quote if len(quote) <= MAX_QUOTE else quote[: MAX_QUOTE - 1].rstrip() + "…"
