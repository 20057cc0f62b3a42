"""What a file's rows are, and the AlignX family's own files as rows of a known kind.

    rl_train.json             two objects a row, the history as text → alignxplore
    streaming_rl_train.json   two histories as text and the choice after them → rl
    rl_train.parquet          rl
    *.train.jsonl             behaviors of a topic → behaviours; a null query is asked for by its topic
    *_with_signal.jsonl       behaviours; the scores are not read
    train.json                one reply pair under two prompts in Llama's frame → pairs

Rows that no stage can use are refused with the reason. Every other row passes unchanged. Source: AlignX-Family b9b8a9e.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from training.data.conversations import is_conversation
from training.data.formats import ALIGNX_FIELDS

UNKNOWN = "unknown"
"""What `kind_of` returns for rows of no kind of training/data/formats.py."""

_ENTRY: Final = re.compile(r"\n\n(?=\d+\. \*(?:Post|Query):\*\n)")
_CHOICE: Final = re.compile(r"\d+\. \*(?:Post|Query):\*\n(.*?)\n\n\*Chosen:\*\n(.*?)\n\n\*Rejected:\*\n(.*)", re.DOTALL)
_LLAMA_TURN: Final = re.compile(
    r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(?=<\|eot_id\|>|<\|start_header_id\|>|\Z)", re.DOTALL
)
_RESULT: Final = "a result of the public evaluation; its data are in the file that was evaluated"
_REFUSED: Final = (
    ({"reasoning_preference_list_1", "stage1"}, "a step of the public synthesis; its last one writes rows to train on"),
    ({"original_history_item"}, "one choice and its scores; training.synthesis.pruning makes the rows to train on"),
    ({"text", "indices"}, "token positions of one tokenizer, for the public scorer; targets.scorer needs no such rows"),
    ({"idx", "format", "Pair-wise Comparative Feedback"}, _RESULT),
    ({"idx", "instruction", "selection"}, _RESULT),
)


class RefusedRow(ValueError):
    """A row of the family's files that no stage can use; the text says why."""


def to_known(value: object) -> object:
    """The row as one of a known kind. Raises RefusedRow."""
    if isinstance(value, Sequence) and not isinstance(value, str) and value and isinstance(value[0], Mapping):
        return _explore_row(value[0])
    if not isinstance(value, Mapping):
        return value
    fields = value.keys()
    for marks, reason in _REFUSED:
        if marks <= fields:
            raise RefusedRow(reason)
    if {"extra_info", "reward_model"} <= fields:
        told = value["extra_info"] if isinstance(value["extra_info"], Mapping) else {}
        return {"uid": told.get("userid"), "history": told.get("history"), "mid_position": told.get("mid_position")}
    if "behaviors" in fields:
        return _behaviours(value)
    history = value.get("history")
    if isinstance(history, Sequence) and any(isinstance(item, Mapping) and "pref_idx" in item for item in history):
        return {"uid": value.get("uid"), "topic": "", "history": [item.get("item") for item in history]}
    if {"ica_prompt", "pba_prompt"} <= fields:
        prompts = {"prompt": "ica_prompt", "bridged": "pba_prompt"}
        replies = {name: value.get(name) for name in ("chosen", "rejected")}
        return replies | {name: _llama_turns(value[published]) for name, published in prompts.items()}
    return value


def _behaviours(row: Mapping[str, Any]) -> dict[str, Any]:
    behaviors, topic = row["behaviors"] or (), row.get("topic") or ""
    if any(isinstance(choice, Mapping) and choice.get("rejected") is None for choice in behaviors):
        raise RefusedRow("behaviors without a rejected item: texts to write, not choices")
    named = {"source": topic}
    history = [named | dict(choice) if isinstance(choice, Mapping) else choice for choice in behaviors]
    return {"uid": row.get("uid"), "topic": topic, "history": history}


def _explore_row(first: Mapping[str, Any]) -> object:
    """Of rl_train.json, or of streaming_rl_train.json, whose two parts lead to the choice of the first."""
    parts = first.get("history", [first])
    if not isinstance(parts, Sequence) or not all(isinstance(part, Mapping) and "value" in part for part in parts):
        return first
    choices = [_choices(str(part["value"])) for part in parts]
    target = {name: parts[0].get(name) for name in ("task", "chosen", "rejected")}
    if "history" not in first:
        return {**target, "history": choices[0]}
    if len(parts) != 2:
        raise RefusedRow("history must hold two parts")
    last = {"query": target.pop("task"), **target}
    return {"history": [*choices[0], *choices[1], last], "mid_position": len(choices[0])}


def _choices(text: str) -> list[dict[str, str]]:
    """The numbered choices of a history that is text, in their order."""
    matches = [_CHOICE.fullmatch(entry.strip("\n")) for entry in _ENTRY.split(text)[1:]]
    if not matches or None in matches:
        raise RefusedRow("value: a history of posts with a chosen and a rejected comment is wanted")
    return [dict(zip(("query", "chosen", "rejected"), match.groups(), strict=True)) for match in matches if match]


def _llama_turns(text: object) -> list[dict[str, str]]:
    """The messages of a prompt in Llama's frame, without the header that opens the reply."""
    turns = [(role, content.strip()) for role, content in _LLAMA_TURN.findall(text if isinstance(text, str) else "")]
    return [{"role": role, "content": content} for role, content in turns if role != "assistant" or content]


# --- what rows look like -----------------------------------------------------------------------


def kind_of(sample: Iterable[object]) -> str:
    """The kind most of the sampled rows look like by their fields, or "unknown"."""
    votes = Counter(_kind_of_row(row) if isinstance(row, Mapping) else UNKNOWN for row in sample)
    return votes.most_common(1)[0][0] if votes else UNKNOWN


def _kind_of_row(row: Mapping[str, object]) -> str:
    fields = row.keys()
    if "history" in fields:
        marks = (("mid_position", "rl"), ("target", "upi"), ("task", "alignxplore"), ("topic", "behaviours"))
        return next((kind for mark, kind in marks if mark in fields), UNKNOWN)
    if {"chosen", "rejected"} <= fields and ("prompt" in fields or is_conversation(row["chosen"])):
        return "pairs" if is_conversation(row["chosen"]) or fields.isdisjoint(ALIGNX_FIELDS) else "alignx"
    if "messages" in fields or ("prompt" in fields and not fields.isdisjoint(("completion", "response"))):
        return "sft"
    return UNKNOWN
