"""What people say of their tastes, clause by clause: `read_clauses`.

A sentence is cut into segments at marks and joining words. A segment's cues, out of the lexicon of its language,
say whether the person likes or avoids something, and what. What is asked, supposed, quoted, meant the other way, told
of others or not understood claims nothing: such a clause is only quoted.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from alignx.schemas.items import compose
from services.statements.attitudes import NO_STYLE, Kind, Reading
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


class Clause(NamedTuple):
    """One clause, and what it claims of the person."""

    quote: str
    """As the person said it: NFC, one line, at most MAX_QUOTE characters."""
    target: str
    """What it is about, in the person's words; "" where that is not understood."""
    polarity: float
    """On [-1, 1]: above 0 liked or wanted, below 0 disliked or avoided; 0 claims nothing."""
    kind: Kind
    style: Mapping[str, float] = NO_STYLE
    """Wishes about the writing of answers: sign and strength by name of a feature of style."""
    past: bool = False
    """No longer so: "used to love". Its polarity is 0."""
    language: str = "en"
    """ISO 639-1; "" unknown."""


def read_clauses(text: str, *, statement: bool = True) -> list[Clause]:
    """The clauses of a text. Without `statement`, of a post or a turn of a dialogue, only what the person says of
    themselves."""
    text = compose(_LINK.sub(" ", text[:MAX_CHARS])).strip()
    if not text:
        return []
    sentences = split_sentences(text)
    language = recognize_language(text)
    if language:
        readings = Reader(load_lexicon(language), statement=statement).read(sentences)
    else:
        readings = [Reading(sentence, "", 0.0, "none") for sentence in sentences] if statement else []
    return [Clause(_cut(reading.quote), *reading[1:], language) for reading in readings]


def split_sentences(text: str) -> list[str]:
    """Each on one line."""
    return [" ".join(sentence.split()) for sentence in _END.split(text) if sentence.strip()]


def _cut(quote: str) -> str:
    return quote if len(quote) <= MAX_QUOTE else quote[: MAX_QUOTE - 1].rstrip() + "…"
