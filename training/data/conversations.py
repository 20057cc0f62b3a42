"""Rows of messages in the forms that public datasets have, brought into one: prompt and replies as messages.

    {"messages": [..., reply]}                                  a whole conversation
    {"prompt": text, "completion": text}                        a request and its reply
    {"prompt": text, "chosen": text, "rejected": text}          TRL's
    {"prompt": text, "chosen": [..., reply], "rejected": ...}   UltraFeedback's: the replies repeat the prompt
    {"chosen": [..., reply], "rejected": [..., reply]}          TRL's with the prompt in the replies

Of a conversation only the last reply is trained. Pure functions, validators of training/data/formats.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BeforeValidator

Turns = TypeVar("Turns", bound=Sequence[Any])


def as_messages(role: str) -> BeforeValidator:
    return BeforeValidator(lambda value: ({"role": role, "content": value},) if isinstance(value, str) else value)


def check_request(turns: Turns) -> Turns:
    if not turns or turns[-1].role != "user":
        raise ValueError("the last message must be the user's")
    return turns


def check_reply(turns: Turns) -> Turns:
    if len(turns) != 1 or turns[0].role != "assistant":
        raise ValueError("must be one message of the assistant")
    return turns


def is_conversation(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def split_conversation(row: object) -> object:
    """Prompt and completion of a row of messages."""
    messages: Any = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(row, Mapping) or "prompt" in row or not is_conversation(messages):
        return row
    return {**row, "prompt": messages[:-1], "completion": messages[-1:]}


def split_preferences(row: object) -> object:
    """The replies of a pair without the prompt that each repeats. Raises ValueError where that differs."""
    if not isinstance(row, Mapping):
        return row
    replies: dict[str, Any] = {name: row.get(name) for name in ("chosen", "rejected")}
    if not all(map(is_conversation, replies.values())) or all(len(turns) < 2 for turns in replies.values()):
        return row
    shared = list(replies["chosen"][:-1])
    if shared != list(replies["rejected"][:-1]):
        raise ValueError("chosen and rejected: the messages before the reply differ")
    prompt = row.get("prompt")
    request = shared[-1].get("content") if isinstance(shared[-1], Mapping) else None
    if prompt is not None and prompt != (request if isinstance(prompt, str) else shared):
        raise ValueError("chosen: the messages before the reply are not those of prompt")
    return {**row, "prompt": shared, **{name: turns[-1:] for name, turns in replies.items()}}
