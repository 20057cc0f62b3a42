"""Hides a model's reasoning in the answer of a chat, whole or in pieces.

Reasoning stands in a field of its own, in parts of its own, or in tags at the start of the text. Tags behind the
first words of an answer are part of it. A stream cannot hide reasoning whose opening tag stands in the prompt;
the engine's reasoning parser can.
"""

import re
from typing import Any, Final

REASONING_FIELDS: Final = ("reasoning", "reasoning_content", "reasoning_details", "thinking_blocks")
"""Members of a message or delta in which engines report reasoning."""
_TAGS: Final = {
    "<think>": "</think>",
    "[think]": "[/think]",
    "<seed:think>": "</seed:think>",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
}
"""Around reasoning, in lower or upper case."""
_OPENING_OF: Final = {closing: opening for opening, closing in _TAGS.items()}
_OPENING = re.compile("|".join(map(re.escape, _TAGS)), re.IGNORECASE)
_CLOSING: Final = {tag: re.compile(re.escape(closing), re.IGNORECASE) for tag, closing in _TAGS.items()}
_ANY_TAG = re.compile(r"(?<![`'\"])" + "(?:" + "|".join(map(re.escape, (*_TAGS, *_TAGS.values()))) + ")", re.IGNORECASE)
"""A tag that is not quoted."""


class ThinkingFilter:
    """Hides the reasoning at the start of one choice's text, which comes in pieces."""

    def __init__(self) -> None:
        self.is_over = False
        """The text of the answer has begun; all further pieces are part of it."""
        self.has_hidden = False
        self.is_thinking = False
        self.logprobs: list[Any] = []
        """Of the text that is held back."""
        self._held = ""
        self._closing = _CLOSING["<think>"]

    def feed(self, text: str) -> str:
        """The part of the answer that `text` adds."""
        if self.is_over:
            return text
        self._held += text
        while True:
            if self.is_thinking:
                end = self._closing.search(self._held)
                if end is None:
                    self._held = self._held[-len(self._closing.pattern) :]  # perhaps the start of the tag
                    return ""
                self.is_thinking, self._held = False, self._held[end.end() :]
            answer = self._held.lstrip()
            tag = _OPENING.match(answer)
            if tag is None:
                break
            self.is_thinking = self.has_hidden = True
            self._closing, self._held = _CLOSING[tag[0].lower()], answer[tag.end() :]
        if not answer or any(tag.startswith(answer.lower()) for tag in _TAGS):
            return ""
        return self.close()

    def close(self) -> str:
        """The text that was held back; the answer begins, or has ended."""
        text = "" if self.is_thinking else self._held.lstrip() if self.has_hidden else self._held
        self.is_over, self._held = True, ""
        return text


def hide_in_message(choice: dict[str, Any], message: dict[str, Any]) -> None:
    """Removes the reasoning from a whole message, and from its choice the log-probabilities that spell it."""
    reasoning = [message.pop(name, None) for name in REASONING_FIELDS]
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = _without_thinking(content)
    elif isinstance(content, str):
        first = _ANY_TAG.search(content)
        if first and (opening := _OPENING_OF.get(first[0].lower())):  # the prompt holds the opening tag
            content = opening + content
        text = ThinkingFilter()
        message["content"] = text.feed(content) + text.close()
        reasoning.append(text.has_hidden)
    if any(reasoning) and "logprobs" in choice:
        choice["logprobs"] = None


def hide_in_delta(choice: dict[str, Any], delta: dict[str, Any], text: ThinkingFilter) -> bool:
    """Removes the reasoning from a piece of a message; whether anything has changed."""
    before = {**delta}
    reasons = [delta.pop(name) for name in REASONING_FIELDS if delta.get(name)]
    content = delta.get("content")
    if isinstance(content, list):
        delta["content"] = _without_thinking(content)
        text.is_over = text.is_over or bool(delta["content"])
    else:
        was_over, content = text.is_over, content if isinstance(content, str) else ""
        shown = text.feed(content)
        if choice.get("finish_reason") or (delta.get("tool_calls") and not text.is_thinking):
            shown += text.close()
        if shown != content:
            delta["content"] = shown
        if not was_over:
            _hide_logprobs(choice, text)
    if reasons and "logprobs" in choice:
        choice["logprobs"] = None
    return delta != before


def _hide_logprobs(choice: dict[str, Any], text: ThinkingFilter) -> None:
    """Holds back log-probabilities as long as their text; those of reasoning are dropped."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return
    content = logprobs.get("content")
    held = [] if text.has_hidden else [*text.logprobs, *(content if isinstance(content, list) else ())]
    text.logprobs = [] if text.is_over else held
    choice["logprobs"] = {**logprobs, "content": held} if text.is_over and not text.has_hidden else None


def _without_thinking(parts: list[Any]) -> list[Any]:
    return [part for part in parts if not (isinstance(part, dict) and part.get("type") in ("thinking", "reasoning"))]
