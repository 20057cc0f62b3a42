"""Sentences of a text, and cuts at their ends. Pure functions."""

import itertools
import re
from typing import Final

_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)*_]*\s+|(?<=[。！？])[”』」）]*\s*|\n+")
_NO_END = re.compile(r"(?:^|\n)[ \t]*(?:\d{1,3}[.)]|[-*+•])\s*$|(?:^|[\s.(])\w\.\s+$")
"""A list's number or bullet, and one letter before a dot, as in "z. B."."""
_WHOLE = re.compile(r"(?<![\s.(]\w)[.!?…][\"'”’»)*_]*+\Z|[。！？][”』」）]*+\Z")
_HEADING = re.compile(r"#.*|.*[:：]\**")
_CLOSING: Final = "\"'”’»)*_』」）"
"""Characters that may stand behind the end of a sentence."""
_WINDOW: Final = 400
"""Characters that tell whether a sentence is whole."""


def split_sentences(text: str) -> list[str]:
    """The sentences and lines, each with the space after it, so that joining them gives `text` again."""
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    sentences, start = list[str](), 0
    for before, end in itertools.pairwise(ends):
        if before < end and (end == len(text) or not _NO_END.search(text[max(start, end - 8) : end])):
            sentences.append(text[start:end])
            start = end
    return sentences


def clip_text(text: str, chars: int) -> str:
    """At most `chars` characters, cut at a space if one is near; an ellipsis marks the cut."""
    if len(text) <= chars:
        return text
    head = text[: max(chars - 1, 0)]
    space = head.rfind(" ", chars // 2)
    return (head[:space] if space > 0 else head).rstrip() + "…"


def cap_text(text: str, max_chars: int) -> str:
    """At most `max_chars` characters, ending with a whole sentence where there is one."""
    if len(text) <= max_chars:
        return text
    sentences, size = [], 0
    for sentence in split_sentences(text):
        if size + len(sentence.rstrip()) > max_chars:
            break
        sentences.append(sentence)
        size += len(sentence)
    return "".join(sentences).rstrip() or clip_text(text, max_chars)


def cut_to_whole_sentences(text: str) -> str:
    """`text` up to its last whole sentence or line; "" if there is none."""
    end = len(text)
    for part in reversed(split_sentences(text)):
        if is_whole(text[max(0, end - _WINDOW) : end]):
            return text[:end].rstrip()
        end -= len(part)
    return ""


def is_whole(text: str) -> bool:
    """Whether the last sentence has its end, or is a line with another behind it that it does not announce."""
    last = text.rstrip()
    if _WHOLE.search(last, max(0, len(last.rstrip(_CLOSING)) - 1)):
        return True
    return text.endswith("\n") and not _HEADING.fullmatch(last.rpartition("\n")[2])
