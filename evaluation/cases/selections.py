"""Parses the selection of a sampled reply, `{"selection": "Item A"}`, by exactly these rules.

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
_ITEM: Final = re.compile(r"\s*(?:item\s*)?([a-z])\s*", re.IGNORECASE)
_LETTER: Final = re.compile(r"\b[A-Z]\b")


class Selection(NamedTuple):
    kind: Kind
    option: int | None = None
    """Number of the selected item, from 0."""


class _Members(dict[str, Any]):
    """A JSON object that keeps members of the same name."""

    selections: tuple[Any, ...] = ()


def parse_selection(reply: str, letters: Sequence[str] = ("A", "B")) -> Selection:
    """The item that the reply selects among those shown under `letters`. Never raises."""
    text = drop_thinking(reply)
    if text is None:
        return Selection("thinking")
    values = [value for members in _parse_objects(text) for value in members.selections]
    if not values:
        return Selection("malformed" if "{" in text else "none")
    selected = {_parse_letter(value) for value in values}
    if len(selected) == 1 and (letter := selected.pop()) is not None:
        return Selection("selected", letters.index(letter)) if letter in letters else Selection("other")
    mentioned = {letter for value in values for letter in _find_letters(value)}
    return Selection("both" if len(mentioned) > 1 else "none")


def drop_thinking(reply: str) -> str | None:
    """The text after the last `</think>`; None where thinking does not end."""
    _, closed, answer = reply.rpartition(_CLOSE)
    if closed:
        return answer.strip()
    return None if reply.lstrip().startswith("<think>") else reply.strip()


def _parse_objects(text: str) -> Iterator[_Members]:
    """The outermost JSON objects in `text`."""
    decoder = json.JSONDecoder(object_pairs_hook=_members)
    start = text.find("{")
    while start >= 0:
        try:
            members, end = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            end = start + 1
        else:
            yield members
        start = text.find("{", end)


def _members(pairs: Sequence[tuple[str, Any]]) -> _Members:
    members = _Members(pairs)
    members.selections = tuple(value for name, value in pairs if name == "selection")
    return members


def _parse_letter(value: Any) -> str | None:
    match = _ITEM.fullmatch(value) if isinstance(value, str) else None
    return match[1].upper() if match else None


def _find_letters(value: Any) -> set[str]:
    if (letter := _parse_letter(value)) is not None:
        return {letter}
    return set(_LETTER.findall(value if isinstance(value, str) else json.dumps(value)))
