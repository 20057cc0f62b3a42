"""Prompts for a small model, which makes little of long instructions and of data between tags.

The summary stands in the system role as a plain sentence; all that is done to it is that it spells no control token and
hides no text. It is one of the user's own, so an instruction in it reaches no other user.
"""

from collections.abc import Sequence

from services.prompts.build import SYSTEM_ROLES, ChatMessage, Prompt, lead_with
from services.prompts.control_tokens import clean_data
from services.prompts.templates import PLAIN_QUERY, PLAIN_REQUEST, PLAIN_SYSTEM


def plain_chat_prompt(messages: Sequence[ChatMessage], summary: str | None) -> Prompt:
    """The conversation behind its user's summary; system messages at its start join ours, and without a summary
    stand alone."""
    if not summary and messages[0]["role"] in SYSTEM_ROLES:
        return Prompt("chat-none/1", list(messages))
    system, rest = lead_with(_system(summary), messages)
    return Prompt("chat-plain/1", [ChatMessage(role="system", content=system), *rest])


def likelihood_prompt(
    query: str, summary: str | None = None, turns: Sequence[tuple[str, str]] = ()
) -> list[ChatMessage]:
    """The chat after which the likelihood of an item is measured, as the assistant's answer to `query`; `turns` are
    earlier queries with their answers. The model writes nothing here: an instruction in the summary moves a number."""
    messages = [ChatMessage(role="system", content=_system(summary))]
    for earlier, answer in turns:
        messages.append(ChatMessage(role="user", content=clean_data(earlier) or PLAIN_QUERY))
        messages.append(ChatMessage(role="assistant", content=clean_data(answer)))
    return [*messages, ChatMessage(role="user", content=clean_data(query) or PLAIN_QUERY)]


def _system(summary: str | None) -> str:
    return PLAIN_SYSTEM + (f" {clean_data(summary)}{PLAIN_REQUEST}" if summary else "")
