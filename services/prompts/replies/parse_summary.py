"""Parses a model's reply to an update prompt into reasoning and summary.

A reply is a summary only if it passes the checks of summary_checks.py, in their order; else UnusableReply names the
check and a reason. A summary is part of later prompts, so links, control tokens and instructions do not stay in
it. `SummaryPreview` shows what passes of a reply that is still being written. Pure functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.errors import UnusableReply
from services.prompts.control_tokens import neutralise, remove_control_tokens, strip_invisible
from services.prompts.replies.consistency import check_consistent
from services.prompts.replies.degenerate import degeneration
from services.prompts.replies.lexicon import Reading
from services.prompts.replies.reasoning import separate_reasoning, undecided_length
from services.prompts.replies.shape import announces, unwrap_summary
from services.prompts.replies.summary_checks import (
    Check,
    Evidence,
    check_about,
    check_instruction,
    check_prompt_marks,
    check_refusal,
    check_task,
    clean_copied,
    clean_links,
)
from services.prompts.sentences import cap_text, cut_to_whole_sentences, split_sentences

_MAX_TIMES: Final = 4
"""A reply is read up to the length of so many summaries."""
_DECLINED: Final = ("content_filter", "refusal", "safety")
"""Reasons to finish by which an engine says that it withholds the text."""
_NO_TEXT: Final = ("tool_calls", "function_call", "error", "abort")


@dataclass(frozen=True)
class SummaryReply:
    """What the engine wrote, after the checks."""

    text: str
    reasoning: str | None
    removed: tuple[Check, ...]
    """The checks that removed something, such as `link`."""


def parse_summary(
    reply: str, *, max_chars: int, finish_reason: str | None = "stop", evidence: Evidence | None = None
) -> SummaryReply:
    """Splits reasoning from summary, unwraps, checks and cleans the summary. A reply that the token limit cut off
    (`finish_reason` "length") ends with its last whole sentence. Without `evidence` nothing is compared with it.

    Raises UnusableReply when the rest is no summary.
    """
    evidence = evidence or Evidence()
    if finish_reason in _DECLINED:
        raise UnusableReply("refusal", "the engine withholds it")
    if finish_reason in _NO_TEXT:
        raise UnusableReply("complete", f"the engine ended it with {finish_reason}")
    reasoning, text = separate_reasoning(reply)
    if reasoning and not text:
        if finish_reason == "length":
            raise UnusableReply("complete", "the token limit cuts off its reasoning")
        raise UnusableReply("separable", "it holds reasoning alone")
    if len(text) > _MAX_TIMES * max_chars:
        text, finish_reason = text[: _MAX_TIMES * max_chars], "length"
    check_prompt_marks(text)
    plain = remove_control_tokens(text)
    whole = unwrap_summary(plain)  # a wrapper says nothing, so its removal is no finding
    reading = _check_form(whole)
    if finish_reason == "length" and not (whole := cut_to_whole_sentences(whole)):
        raise UnusableReply("complete", "the token limit cuts off its first sentence")
    own = clean_copied(whole, evidence)
    linkless = clean_links(own)
    summary = cap_text(linkless, max_chars)
    steps: tuple[tuple[Check, str, str], ...] = (
        ("control", text, plain),
        ("copied", whole, own),
        ("link", own, linkless),
        ("length", linkless, summary),
    )
    removed = tuple(name for name, before, after in steps if after != before.strip())
    reading = reading if reading.text == summary else Reading(summary)
    check_about(reading, evidence)
    check_consistent(reading)
    return SummaryReply(summary, neutralise(strip_invisible(reasoning)) or None, removed)


def _check_form(text: str) -> Reading:
    """`text` as the checks on words read it. Before any cut: the text in front of a loop is no summary."""
    if fault := degeneration(text):
        raise UnusableReply("degenerate", fault)
    check_refusal(text)
    reading = Reading(text)
    check_task(reading)
    check_instruction(reading)
    return reading


class SummaryPreview:
    """The summary as it is written: whole sentences of a reply under way, as the checks leave them.

    Nothing is shown of a reply that the checks refuse as far as they can tell; `parse_summary` has the last word.
    `finish` makes of a text that is left what is shown, or raises UnusableReply.
    """

    def __init__(self, instructions: str = Evidence.instructions, finish: Callable[[str], str] = str) -> None:
        self._evidence = Evidence(instructions=instructions)
        self._finish = finish
        self.reply = ""
        self.shown = ""
        self._next = 0
        """Length of the reply at which it is read again, a twentieth longer each time."""

    def add(self, chunk: str) -> bool:
        """Whether the reply, `chunk` included, is to be read."""
        self.reply += chunk
        return len(self.reply) >= self._next and not _ENDS.isdisjoint(chunk)

    def read(self) -> str | None:
        """The text that has come since the last time; None where the text so far proves wrong, such as reasoning whose
        opening tag the chat template wrote: `shown` holds the text that replaces it."""
        self._next = len(self.reply) * 21 // 20
        text = _preview(self.reply, self._evidence, self._finish)
        return "" if self.shown.startswith(text) else self.end(text)

    def end(self, text: str) -> str | None:
        """As `read`, once the whole reply is known to be the summary `text`."""
        before, self.shown = self.shown, text
        return text[len(before) :] if text.startswith(before) else None


_ENDS: Final = frozenset(".!?…。！？\n>]▷")
"""Characters that may end a sentence, or a tag."""
_WINDOW: Final = 1_500
"""Characters at the end of a reply under way in which a loop is looked for."""


def _preview(reply: str, evidence: Evidence, finish: Callable[[str], str]) -> str:
    _, text = separate_reasoning(reply[: len(reply) - undecided_length(reply)])
    try:
        check_prompt_marks(text)
        text = unwrap_summary(remove_control_tokens(text))
        text = "".join(split_sentences(text)[:-1]).rstrip()
        if announces(text) or degeneration(text[-_WINDOW:]):
            return ""
        return finish(clean_links(clean_copied(_check_form(text).text, evidence)))
    except UnusableReply:
        return ""
