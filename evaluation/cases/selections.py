"""What a sampled reply chose: `{"selection": "Item A"}`, read by exactly these rules.

1. Thinking is dropped: all text up to and with the last `</think>`. What begins with `<think>` and
   never closes it is of kind "thinking".
2. Of the rest every JSON object with a member "selection" is read, whatever stands around it. Where
   there is none, the reply is "malformed" if it holds a `{` (a reply that was cut off does), else "none".
3. A selection names an item when it is a string of a single letter, with or without "Item" before it,
   in capitals or not, and spaces around it. One letter that was on offer is "selected"; one that was
   not is "other".
4. All else is "both" where it holds two or more different letters, in one value or over several
   selections that differ, and "none" where it does not.

Only "selected" can be right. Every other kind counts as wrong, and all are counted.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

Kind = Literal["selected", "other", "both", "none", "malformed", "thinking"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_CLOSE: Final = "</think>"
_NAMED: Final = re.compile(r"\s*(?:item\s*)?([a-z])\s*", re.IGNORECASE)
_LETTER: Final = re.compile(r"\b[A-Z]\b")


class Selection(NamedTuple):
    kind: Kind
    place: int | None = None
    """Of the item that was selected, from 0."""


class _Members(dict[str, Any]):
    """A JSON object that also remembers members of the same name."""

    selections: tuple[Any, ...] = ()


def parse_selection(reply: str, letters: Sequence[str] = ("A", "B")) -> Selection:
    """Which of the items shown under `letters` the reply chose, if any. Never raises."""
    text = without_thinking(reply)
    if text is None:
        return Selection("thinking")
    values = [value for found in _objects(text) for value in found.selections]
    if not values:
        return Selection("malformed" if "{" in text else "none")
    named = {_named(value) for value in values}
    if len(named) == 1 and (letter := named.pop()) is not None:
        place = letters.index(letter) if letter in letters else None
        return Selection("other") if place is None else Selection("selected", place)
    mentioned = {letter for value in values for letter in _mentioned(value)}
    return Selection("both" if len(mentioned) > 1 else "none")


def without_thinking(reply: str) -> str | None:
    """What follows the last `</think>`; none where thinking was begun and never ended."""
    _, closed, answer = reply.rpartition(_CLOSE)
    if closed:
        return answer.strip()
    return None if reply.lstrip().startswith("<think>") else reply.strip()


def _objects(text: str) -> Iterator[_Members]:
    """The JSON objects in `text` that stand in no other one."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    start = text.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            end = start + 1
        else:
            yield found
        start = text.find("{", end)


def _object(pairs: Sequence[tuple[str, Any]]) -> _Members:
    members = _Members(pairs)
    members.selections = tuple(value for name, value in pairs if name == "selection")
    return members


def _named(value: Any) -> str | None:
    match = _NAMED.fullmatch(value) if isinstance(value, str) else None
    return match[1].upper() if match else None


def _mentioned(value: Any) -> set[str]:
    if (letter := _named(value)) is not None:
        return {letter}
    return set(_LETTER.findall(value if isinstance(value, str) else json.dumps(value)))
