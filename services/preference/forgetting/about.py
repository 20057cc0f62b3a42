"""Whether a text is about something: every word of a name stands in it, whatever the case."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from alignx.schemas.interactions import Interaction
from services.errors import InvalidRequest
from services.statements.normalize import UNSPACED

_WORD: Final = re.compile(r"\w+")
_UNSPACED: Final = re.compile(rf"[{UNSPACED}]")
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
        # A script without spaces shows no ends of words.
        return all(word in present or (_UNSPACED.search(word) and word in folded) for word in self.words)


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
    return unicodedata.normalize("NFKC", text).casefold()
