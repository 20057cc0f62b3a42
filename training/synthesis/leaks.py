"""Detects replies that reveal the held-out choices.

The teacher sees the choices that its summary is tested on. A reply that repeats their words passes the
test and teaches nothing, so it is refused when it quotes a target or mentions held-out choices. Words that
are in the student's events as well are no leak.
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
    known = [_pad(text) for text in (past or "", *_texts(shown))]
    padded = _pad(reply)
    return any(
        quote in padded and not any(quote in text for text in known)
        for text in _texts(targets)
        for quote in _quotes(_words(text), words)
    )


def _texts(interactions: Iterable[ComparisonInteraction]) -> Iterator[str]:
    for interaction in interactions:
        yield from (interaction.query or "", item_text(interaction.chosen), item_text(interaction.rejected))


def _words(text: str) -> list[str]:
    """Lower case and without punctuation, so that neither hides a quotation."""
    return _WORD.findall(html.unescape(text).casefold())


def _pad(text: str) -> str:
    """With spaces at both ends, so that a quotation is found as whole words."""
    return f" {' '.join(_words(text))} "


def _quotes(text: Sequence[str], size: int) -> Iterator[str]:
    size = min(size, len(text))
    if size < _LEAST_WORDS:
        return
    for start in range(len(text) - size + 1):
        yield f" {' '.join(text[start : start + size])} "
