"""Parses the selection of a sampled reply, `{"selection": "Item A"}`.

Thinking is dropped: all text up to the last `</think>`. Of the rest every JSON object with a member "selection" is
read, whatever stands around it. All selections must be a string of the same single letter that was on offer, with or
without "Item" before it, in capitals or not. Any other reply selects nothing, and counts as wrong.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

_CLOSE: Final = "</think>"
_ITEM: Final = re.compile(r"\s*(?:item\s*)?([a-z])\s*", re.IGNORECASE)
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=lambda pairs: [value for name, value in pairs if name == "selection"]
)
"""Takes an object for its selections."""


def parse_selection(reply: str, letters: Sequence[str] = ("A", "B")) -> int | None:
    """The number of the item that the reply selects among those shown under `letters`. Never raises."""
    named = {_parse_letter(value) for value in _find_selections(drop_thinking(reply) or "")}
    letter = named.pop() if len(named) == 1 else None
    return letters.index(letter) if letter in letters else None


def drop_thinking(reply: str) -> str | None:
    """The text after the last `</think>`; None where thinking does not end."""
    _, closed, answer = reply.rpartition(_CLOSE)
    if closed:
        return answer.strip()
    return None if reply.lstrip().startswith("<think>") else reply.strip()


def _find_selections(text: str) -> Iterator[Any]:
    """Of the outermost JSON objects."""
    start = text.find("{")
    while start >= 0:
        try:
            selections, end = _DECODER.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            end = start + 1
        else:
            yield from selections
        start = text.find("{", end)


def _parse_letter(value: Any) -> str | None:
    match = _ITEM.fullmatch(value) if isinstance(value, str) else None
    return match[1].upper() if match else None
