"""Does a reply give away what it must not know?

The teacher sees the choices its summary will be tested on. A reply that repeats their words passes the
test and teaches nothing, so it is refused: when it quotes a target, or speaks of held-out choices at all.
What the events shown to the student say too is no leak.
"""

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from alignx.schemas.interactions import ComparisonInteraction
from alignx.schemas.items import item_text

_WORD = re.compile(r"\w+")
_MENTION = re.compile(r"\bheld[\s_-]*out\b", re.IGNORECASE)
_LEAST_WORDS = 2
"""A single word, such as the name of a subject, is no quotation."""


def leaks(
    reply: str,
    targets: Sequence[ComparisonInteraction],
    shown: Sequence[ComparisonInteraction],
    *,
    past: str | None,
    words: int,
) -> bool:
    """Whether `reply` mentions the held-out choices, or repeats `words` words in a row of a target (all
    words of a text that has fewer, but at least two) that neither the `past` summary nor any text of
    `shown` has in a row."""
    if _MENTION.search(reply):
        return True
    known = [_padded(text) for text in (past or "", *_texts(shown))]
    said = _padded(reply)
    return any(
        quote in said and not any(quote in text for text in known)
        for text in _texts(targets)
        for quote in _quotes(_words(text), words)
    )


def _texts(interactions: Iterable[ComparisonInteraction]) -> Iterator[str]:
    for interaction in interactions:
        yield from (interaction.query or "", item_text(interaction.chosen), item_text(interaction.rejected))


def _words(text: str) -> list[str]:
    """Lower case and without punctuation, so that neither hides a quotation."""
    return _WORD.findall(html.unescape(text).casefold())


def _padded(text: str) -> str:
    """With spaces at both ends, so that a quotation is found as whole words."""
    return f" {' '.join(_words(text))} "


def _quotes(found: Sequence[str], words: int) -> Iterator[str]:
    size = min(words, len(found))
    if size < _LEAST_WORDS:
        return
    for start in range(len(found) - size + 1):
        yield f" {' '.join(found[start : start + size])} "
