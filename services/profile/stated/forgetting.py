"""What is not quoted: requests to forget something, what they speak of, and orders to a model."""

import re
from typing import Final

from services.profile.stated.subjects import subject_of
from services.profile.word_forms import root

_FORGET: Final = re.compile(
    r"(?:^|[.!?,;]\s+)(?:(?:please|pls|kindly|can you|could you|i want you to|i['’]d like you to)[, ]+)*"
    r"(?:(?:forget|delete|erase|remove)\b.{0,30}\b(?:that|about|everything|anything|my|i)\b"
    r"|(?:never|don['’]?t|do not|stop)(?: ever)? (?:mention|bring up|remind|remember|store|save|keep))",
    re.IGNORECASE,
)
"""English alone."""
_ORDERS: Final = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,30}\b(?:instructions?|prompts?|rules|guidelines)\b|\bsystem prompt\b",
    re.IGNORECASE,
)


def asks_to_forget(text: str) -> bool:
    return bool(_FORGET.search(text))


def hides(text: str) -> bool:
    """Whether it asks to forget something, or gives a model orders."""
    return bool(asks_to_forget(text) or _ORDERS.search(text))


def named_in(text: str) -> frozenset[str]:
    """What a text, or a request to forget, speaks of, by the roots of its words."""
    return frozenset(map(root, subject_of(_FORGET.sub(" ", text)).split()))
