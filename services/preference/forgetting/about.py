"""Whether a text is about something: every word of a name stands in it, whatever the case."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from alignx.schemas.interactions import Interaction
from services.errors import InvalidRequest
from services.statements.normalize import MARKS, UNSPACED

_WORD: Final = re.compile(rf"\w+(?:[{MARKS}]+\w*)*")
_UNSPACED: Final = re.compile(rf"[{UNSPACED}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
"""Scripts that set no space between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer."""
_NO_MARK: Final = rf"(?![{MARKS}])"
_GLYPH: Final = re.compile("[\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""What joins letters or chooses between forms of one, and is no part of a word."""
_FORM: Final[dict[str, Any]] = {
    "type": True, "source": True, "occurred_at": True, "messages": {"__all__": {"role"}},
}  # fmt: skip
"""Fields that tell of an event's form; those of the same names in an item or in `metadata` are the caller's own."""


class About:
    """What events are searched for. Raises InvalidRequest where it has no word."""

    def __init__(self, text: str) -> None:
        self.words = frozenset(_WORD.findall(_fold(text)))
        if not self.words:
            message = "it needs a letter or digit"
            raise InvalidRequest(f"about: {message}", errors=[{"field": "about", "message": message}])

    def matches(self, text: str) -> bool:
        folded = _fold(text)
        present = set(_WORD.findall(folded))
        # A script without spaces shows no ends of words, but no letter ends before its marks.
        return all(
            word in present or (_UNSPACED.search(word) and re.search(word + _NO_MARK, folded)) for word in self.words
        )


def read_texts(event: Interaction) -> str:
    """All that an event says, ids of items included."""
    return "\n".join(_strings(event.model_dump(mode="json", exclude=_FORM)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif value is not None:
        yield str(value)


def _fold(text: str) -> str:
    return _GLYPH.sub("", unicodedata.normalize("NFKC", text).casefold())
