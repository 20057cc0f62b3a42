"""Which of an assistant's numbered options a user takes: "I'll go with option 2" says nothing without the list."""

import re
from collections.abc import Iterator, Sequence

from alignx.schemas.interactions import Message
from services.statements.attitudes import Clause

TAKEN = 0.7
MAX_OPTION = 240
"""Characters of an option that are read."""
_LISTED = re.compile(r"^\s*(?:\**|#*\s*)(\d{1,2})[.)]\s+(.+)$", re.MULTILINE)
_TAKES = re.compile(
    r"\bI(?<!\bwould I)(?<!\bshould I)(?<!\bcould I)(?<!\bcan I)(?<!\bdo I)(?<!\bdid I)(?<!\bif I)"
    r"(?:'ll|'d| will| would|'m going to| am going to)?(?: (?!(?:not|never|no|cannot|hardly|than)\b)\w+){0,4}?"
    r" (?:go(?:ing)? (?:with|for)|choose|pick|take|prefer|like)"
    r" (?:(?!(?:neither|nothing|but|except)\b)\w+ ){0,2}?(?:option|number|choice|suggestion|#) ?#?(\d{1,2})\b",
    re.IGNORECASE,
)
"""Not what is asked, supposed or refused: "Why would I choose option 2?", "I would never take option 2"."""


def taken_options(messages: Sequence[Message]) -> Iterator[Clause]:
    """A clause for each option that a turn of the user's takes out of the assistant's turn before it."""
    listed: dict[str, str] = {}
    for message in messages:
        if message.role == "assistant":
            listed = dict(_LISTED.findall(message.content))
        elif message.role == "user":
            for number in _TAKES.findall(message.content.replace("’", "'")):
                if option := listed.get(number):
                    yield Clause("", option[:MAX_OPTION], TAKEN, "like")
