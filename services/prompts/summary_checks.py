"""Checks whether a model's reply is a summary: unwrapped, it must be whole and longer than a few words, and
neither repetitive nor a refusal.

The checks of form hold in any language. Those that need words read them from phrases/*.txt and see the
start of a reply alone, so that a sentence about a user who "can't stand horror" passes. Pure functions.
"""

import json
import re
import zlib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final, Literal, get_args

from services.errors import UnusableReply

ReplyFault = Literal["thinking", "cut", "shape", "loop", "refusal", "short"]
"""Why a reply is no summary: a thought that never ends, no whole sentence before the token limit, broken
JSON, endless repetition, the model declines, fewer than three words."""
REPLY_FAULTS: Final = get_args(ReplyFault)

_DETAILS: Final[dict[ReplyFault, str]] = {
    "thinking": "it never ends its reasoning",
    "cut": "the token limit cuts off its first sentence",
    "shape": "it is broken JSON",
    "loop": "it repeats itself",
    "refusal": "the model declines to write one",
    "short": "it has fewer than three words",
}


def unusable_reply(reason: ReplyFault) -> UnusableReply:
    """The error for a reply with this fault."""
    return UnusableReply(reason, _DETAILS[reason])


def check_summary(text: str) -> None:
    """Raises UnusableReply if `text`, an unwrapped reply, is a refusal, notes for reasoning, or too short."""
    if is_refusal(text):
        raise unusable_reply("refusal")
    if _SCRATCH.match(_plain(text[:400])):
        raise unusable_reply("thinking")
    if word_count(text) < _MIN_WORDS:
        raise unusable_reply("short")


# --- wrapping ----------------------------------------------------------------------------------

_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)\n?```[^`]{0,160}", re.DOTALL)
"""And a remark behind it."""
_TAGGED = re.compile(r"<([a-z][a-z_]{2,30})>(.*)</\1>", re.DOTALL | re.IGNORECASE)
_OPENED = re.compile(r"<[a-z_]*(?:summary|preferences)>|```[\w+-]*[ \t]*\n(?![^`]*```)", re.IGNORECASE)
_JSON_START = re.compile(r'\{\s*"[^"\n]{1,80}"\s*:|\[\s*(?:\{|"[^"\n]{1,400}"\s*,\s*")')
_MAX_LAYERS: Final = 6
_LABEL = re.compile(r"[^\n:：]{1,160}[:：]\**\s*")
"""Such as "Sure! Here is the updated summary:"."""
_SENTENCE_ON_SUMMARY = re.compile(
    r"(?=[^\n]*(?:summar|profile|zusammenfass|résum|resum|riassunt|сводк|резюме|总结|摘要|要約|まとめ|요약|ملخص))"
    r"[^\n]{1,160}[.!。！]\**\n\s*\n",
    re.IGNORECASE,
)


def unwrap_summary(text: str) -> str:
    """The summary without an announcement, a code fence, a tag or JSON around it.

    Raises UnusableReply for JSON that cannot be read.
    """
    for _ in range(_MAX_LAYERS):
        before = text
        text = _without_announcement(text.strip()).strip()
        if wrapped := _FENCE.fullmatch(text) or _TAGGED.fullmatch(text):
            text = wrapped[wrapped.lastindex or 0].strip()
        if opened := _OPENED.match(text):  # the token limit came before the closing one
            text = text[opened.end() :].lstrip()
        if _JSON_START.match(text):
            text = _read_json(text)
        if text == before:
            break
    return text


def _without_announcement(text: str) -> str:
    """`text` without a first line or half line that announces what follows it."""
    head = _LABEL.match(text) or _SENTENCE_ON_SUMMARY.match(text)
    if head is None or not text[head.end() :].strip():
        return text
    return text[head.end() :] if _OPENERS.match(_plain(head[0])) else text


def _read_json(text: str) -> str:
    try:
        return "\n".join(_iterate_lines(json.loads(text)))
    except (ValueError, RecursionError) as error:  # also nested without end
        raise unusable_reply("shape") from error


def _iterate_lines(value: Any, name: str = "") -> Iterator[str]:
    """The texts of a JSON value; a list of them becomes one line under its name. Numbers stay out: a
    model's confidence in its summary is no part of it."""
    match value:
        case str() if value.strip():
            yield value.strip() if not name or word_count(value) > _MIN_WORDS else f"{_to_label(name)}: {value.strip()}"
        case list() if all(isinstance(entry, str) for entry in value) and value:
            yield f"{_to_label(name)}: {', '.join(value)}" if name else "\n".join(value)
        case list():
            for entry in value:
                yield from _iterate_lines(entry, name)
        case dict():
            for key, entry in value.items():
                yield from _iterate_lines(entry, key)


def _to_label(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()


# --- repetition --------------------------------------------------------------------------------

_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts that set no space between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_UNSPACED_WORD = re.compile(rf"[{_UNSPACED}]")
_MIN_WORDS: Final = 3
_GRAM, _UNSPACED_GRAM = 4, 8
"""Words, or characters of an unspaced script, of the pieces whose repetition is counted."""
_MIN_GRAMS: Final = 12
_MIN_DISTINCT: Final = 0.35
"""Smallest share of such pieces that differ. In prose it is above .9, in lists of like sentences above .45."""
_MAX_RATIO: Final = 8.0
"""UTF-8 bytes over deflated bytes. Prose of 300 words gives about 2, lists of like sentences up to 6."""
_MAX_PERIOD: Final = 600
_LIST_NUMBER = re.compile(r"^[ \t]*\d+[.):]", re.MULTILINE)


def is_repetitive(text: str) -> bool:
    """Whether the text is a loop or ends in one. The numbers of a list do not count, so that a list of one
    and the same item is a loop."""
    plain = " ".join(_LIST_NUMBER.sub("", text).split())
    return _has_few_phrases(plain) or _ends_in_period(plain) or _compresses_well(plain)


def _has_few_phrases(text: str) -> bool:
    words = _WORD.findall(text.lower())
    unspaced = sum(map(bool, map(_UNSPACED_WORD.match, words)))
    size = _UNSPACED_GRAM if unspaced * 2 > len(words) else _GRAM
    grams = list(zip(*(words[start:] for start in range(size)), strict=False))
    return len(grams) >= _MIN_GRAMS and len(set(grams)) < _MIN_DISTINCT * len(grams)


def _ends_in_period(text: str) -> bool:
    """Whether the text ends in the same piece again and again, the last time perhaps cut off."""
    for period in range(1, min(_MAX_PERIOD, len(text) // 3) + 1):
        times = 3 if period > 24 else 4 if period > 8 else 24 // period + 3
        tail = text[-times * period :]
        if len(tail) == times * period and tail[period:] == tail[:-period] and any(map(str.isalpha, tail)):
            return True
    return False


def _compresses_well(text: str) -> bool:
    data = text.encode("utf-8", "replace")
    return len(data) > 400 and len(data) / len(zlib.compress(data)) > _MAX_RATIO


def word_count(text: str) -> int:
    """Words; of scripts without spaces two characters count as one."""
    words = _WORD.findall(text)
    unspaced = sum(map(bool, map(_UNSPACED_WORD.match, words)))
    return len(words) - unspaced + -(-unspaced // 2)


# --- refusals ----------------------------------------------------------------------------------

_CLAUSE = re.compile(r"[^.!?。！？\n,，、]{1,80}[,，、]\s*(?:(?:so|but|and|therefore|hence) )?")
"""An introduction such as "Based on the events provided, "."""


def is_refusal(text: str) -> bool:
    """Whether the model declines, apologises or says that it lacks what it needs, in its first words."""
    start = _plain(text[:400])
    clause = _CLAUSE.match(start)
    return bool(_REFUSALS.match(start) or (clause and _REFUSALS.match(start, clause.end())))


def _plain(text: str) -> str:
    return text.lower().replace("’", "'").lstrip("*_#> \t\n")


def _phrases(name: str) -> re.Pattern[str]:
    """The regular expressions of phrases/<name>.txt, one a line, as alternatives."""
    lines = (files("services.prompts") / "phrases" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return re.compile("|".join(f"(?:{line})" for line in lines if line and not line.startswith("#")))


_OPENERS, _REFUSALS, _SCRATCH = map(_phrases, ("openers", "refusals", "scratch"))
