"""Parses a model's reply to an update prompt into reasoning and summary.

A reply that is no summary raises UnusableReply (summary_checks.py). A summary is part of later prompts, so a
guard removes links, hidden characters and commands from it. Pure functions, and a splitter for replies that
are still being written.
"""

import itertools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.prompts.summary_checks import check_summary, is_repetitive, unusable_reply, unwrap_summary

# --- text --------------------------------------------------------------------------------------

_JOINERS: Final = "\u200c\u200d"
"""Invisible, but part of Persian and Indic writing and of emoji."""


def _is_invisible(char: str) -> bool:
    """Control, format and surrogate characters: they hide text from a reader but not from a model."""
    return char not in "\n\t" + _JOINERS and unicodedata.category(char) in ("Cc", "Cf", "Cs")


def strip_invisible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(char for char in text if not _is_invisible(char))


def clip_text(text: str, chars: int) -> str:
    """At most `chars` characters, cut at a space if one is near; an ellipsis marks the cut."""
    if len(text) <= chars:
        return text
    head = text[: max(chars - 1, 0)]
    space = head.rfind(" ", chars // 2)
    return (head[:space] if space > 0 else head).rstrip() + "…"


def _sentences(text: str) -> list[str]:
    """The sentences, each with the space after it, so that joining them gives `text` again."""
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(ends) if start < end]


def cap_text(text: str, max_chars: int) -> str:
    """At most `max_chars` characters, ending with a whole sentence where there is one."""
    if len(text) <= max_chars:
        return text
    sentences, size = [], 0
    for sentence in _sentences(text):
        if size + len(sentence.rstrip()) > max_chars:
            break
        sentences.append(sentence)
        size += len(sentence)
    return "".join(sentences).rstrip() or clip_text(text, max_chars)


# --- the guard ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SummaryReply:
    """What the engine wrote, after the guard."""

    text: str
    reasoning: str | None
    removed: tuple[str, ...]
    """Names of the guard rules that removed something, such as "url"."""


_NAMES: Final = ("think", "thinking", "thought", "reasoning", "reflection")
_TAGS: Final = tuple(form for name in _NAMES for form in (f"<{name}>", f"</{name}>", f"[{name}]", f"[/{name}]"))
"""Tags around a model's reasoning, in lower or upper case."""
_TAG = re.compile("|".join(map(re.escape, _TAGS)), re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+|(?<=[。！？])\s*|\n+")
_URL_REST = r"(?:[^\s()<>\[\]\"]{0,2000}[^\s()<>\[\]\".,;:!?])?"  # the end of the sentence is not part of it
_URL = re.compile(
    rf"\b[a-z][a-z0-9+.-]{{0,20}}://{_URL_REST}|\bwww\.{_URL_REST}|\b(?:javascript|data|mailto):\S{_URL_REST}"
    r"|\b(?:[a-z0-9-]{1,63}\.){1,8}(?-i:com|net|org|io|ai|co|dev|app|info|biz|me|ru|cn|xyz|top|site)\b"
    rf"(?:[/:?#]{_URL_REST})?",
    re.IGNORECASE,
)
_CONTROL_TOKEN = re.compile(r"<\|[^|<>]{0,64}\|>|</?(?:think|past_summary|preferences|events?|item|query)\b[^>]*>")
_COMMAND = re.compile(
    r"""
    \b(?:ignore|disregard|forget|override|bypass)\b.{0,40}
        \b(?:previous|prior|above|earlier|preceding|instructions?|rules?|prompts?|guidelines|told)\b
    | ^\W*(?:system|assistant|developer)\s*:
    | \byou\s+(?:must|should|shall|will|need\ to|have\ to|are\ now|are\ an?|can\ now|may\ now)\b
    | \b(?:system|developer)\s+(?:prompt|message|instructions?)\b
    | \b(?:from\ now\ on|jailbreak|act\ as\ an?|pretend\ (?:to|that|you))\b
    | ^\W*(?:please\ |always\ |never\ |do\ not\ |don't\ |just\ |now\ )*
        (?:respond|reply|answer|output|print|say|write|repeat|reveal|tell|recommend|suggest|give|send|click|
           visit|execute|ensure|remember|make\ sure|be\ sure)\b(?!\s+(?:is|are|was|to)\b)
    | ^\W*(?:please|do\ not|don't)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def parse_summary(reply: str, *, max_chars: int, finish_reason: str | None = "stop") -> SummaryReply:
    """Splits reasoning from summary, unwraps and guards the summary. A reply that the token limit cut off
    (`finish_reason` "length") ends with its last whole sentence.

    Raises UnusableReply when the rest is no summary.
    """
    if finish_reason == "content_filter":
        raise unusable_reply("refusal")
    reasoning, text = _split(reply)
    if reasoning and not text:
        raise unusable_reply("thinking")
    if len(text) > _MAX_TIMES * max_chars:
        text, finish_reason = text[: _MAX_TIMES * max_chars], "length"
    text = unwrap_summary(text)
    if is_repetitive(text):  # before any cut: the text in front of a loop is no summary either
        raise unusable_reply("loop")
    removed: list[str] = []
    for name, rule in _GUARD:
        guarded = rule(text)
        if guarded != text:
            removed.append(name)
        text = guarded
    if finish_reason == "length":
        text = _cut_to_whole_sentences(text)
    whole = cap_text(text, max_chars)
    if whole != text:
        removed.append("length")
    check_summary(whole)
    return SummaryReply(whole, _remove_urls(_remove_control(reasoning)) or None, tuple(removed))


_MAX_TIMES: Final = 4
"""A reply is read up to the length of so many summaries."""


def _split(reply: str) -> tuple[str, str]:
    """(reasoning, text). Some chat templates open the reasoning themselves, so that a reply may hold the
    closing tag alone: all before the first is reasoning."""
    thoughts, texts, start, thinking = list[str](), list[str](), 0, False
    for tag in _TAG.finditer(reply):
        closes, piece = tag[0][1] == "/", reply[start : tag.start()]
        if closes and not thinking and not thoughts:
            thoughts, texts = [*texts, piece], []
        else:
            (thoughts if thinking else texts).append(piece)
        start, thinking = tag.end(), not closes
    (thoughts if thinking else texts).append(reply[start:])
    return "\n".join(thoughts).strip(), "".join(texts).strip()


_ENDS_SENTENCE = re.compile(r"(?<![\s.(]\w)[.!?…][\"'”’»)*]*$|[。！？][”』」）]*$")
"""One letter before the dot is an abbreviation, as in "z. B."."""
_HEADING = re.compile(r"#.*|.*[:：]\**")


def _cut_to_whole_sentences(text: str) -> str:
    """`text` up to its last whole sentence or line. Raises UnusableReply if there is none."""
    end = len(text)
    for part in reversed(_sentences(text)):
        if _is_whole(text[max(0, end - _SENTENCE_WINDOW) : end]):
            return text[:end].rstrip()
        end -= len(part)
    raise unusable_reply("cut")


_SENTENCE_WINDOW: Final = 400
"""Characters that tell whether a sentence is whole."""


def _is_whole(text: str) -> bool:
    """Whether the last sentence has its end, or is a line with another behind it that it does not announce."""
    last = text.rstrip()
    if _ENDS_SENTENCE.search(last):
        return True
    return text.endswith("\n") and not _HEADING.fullmatch(last.rpartition("\n")[2])


def _remove_control(text: str) -> str:
    return _CONTROL_TOKEN.sub("", strip_invisible(text)).strip()


def _remove_urls(text: str) -> str:
    if not _URL.search(text):
        return text
    text = _URL.sub("", text).replace("[]", "").replace("()", "")
    return re.sub(r"[ \t]+(?=[.,;:!?)]|$)|(?<=\()[ \t]+|(?<=[ \t])[ \t]+", "", text, flags=re.MULTILINE).strip()


def _remove_commands(text: str) -> str:
    return "".join(part for part in _sentences(text) if not _is_command(part)).strip()


def _is_command(sentence: str) -> bool:
    plain = unicodedata.normalize("NFKC", sentence.strip())
    return _COMMAND.search(plain.translate(dict.fromkeys(map(ord, _JOINERS)))) is not None


_GUARD: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("control", _remove_control),
    ("url", _remove_urls),
    ("command", _remove_commands),
)
GUARD_RULES: Final = (*(name for name, _ in _GUARD), "length")
"""What `SummaryReply.removed` may name."""


class ReplySplitter:
    """Turns a streamed reply into the summary text as it is written, without the reasoning.

    A tag may be split over chunks: what could be the start of one is held back until it is
    decided. The text has not passed the guard; `parse_summary` has the last word.
    """

    def __init__(self) -> None:
        self._held = ""
        self._hidden = False
        self._begun = False

    def feed(self, chunk: str) -> str:
        """The summary text that `chunk` adds."""
        self._held += chunk
        shown = ""
        while tag := _TAG.search(self._held):
            shown += "" if self._hidden else self._held[: tag.start()]
            self._hidden = tag.group()[1] != "/"
            self._held = self._held[tag.end() :]
        decided = len(self._held) - _tag_prefix_length(self._held)
        text, self._held = self._held[:decided], self._held[decided:]
        return self._visible(shown + ("" if self._hidden else text))

    def close(self) -> str:
        """The text that was held back, once the reply has ended."""
        text, self._held = ("" if self._hidden else self._held), ""
        return self._visible(text)

    def _visible(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
        self._begun = self._begun or bool(text)
        return text


def _tag_prefix_length(text: str) -> int:
    """Length of the end of `text` that may be the start of a tag."""
    end = text[max(text.rfind("<"), text.rfind("[")) :].lower() if "<" in text or "[" in text else ""
    return len(end) if end and any(tag.startswith(end) for tag in _TAGS) else 0
