"""The body of Anthropic's Messages API, and the chat that it stands for.

Blocks become messages: `tool_use` calls of the assistant, `tool_result` turns of a tool, which stand before what else
the turn says. Files, and tools that run at the provider, are refused by name.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from alignx.schemas.requests import Personalization
from services.engine.wire import NO_THINKING
from services.response.chat_request import ChatBody, ChatRequest
from services.response.doors.door import CHAT_ONLY, Body, Refusals, further_fields, make_chat

_OWN_NAMES: Final = {
    "max_completion_tokens": "max_tokens",
    "response_format": "output_config",
    "stop": "stop_sequences",
}
REFUSED: Final[Mapping[str, str]] = {
    **{name: why for name, why in CHAT_ONLY.items() if name != "messages"},
    **{name: f"no field of this API; send {own}" for name, own in _OWN_NAMES.items()},
    "container": "nothing runs at the provider",
    "context_management": "send the messages that are to be read",
    "diagnostics": "no earlier message is kept",
    "inference_geo": "the engine stands where the deployment does",
    "mcp_servers": "nothing runs at the provider; connect to them and offer their tools",
    "prefill": "put the start of the answer into a last message of the assistant",
    "reasoning_effort": "no field of this API; send output_config.effort",
    "service_tier": "the deployment has one",
    "speed": "the deployment has one",
}
"""Why a field is not taken."""
ONLY: Final[Mapping[str, tuple[Any, ...]]] = {"service_tier": ("auto", "standard_only"), "speed": ("standard",)}
"""Values that ask for what happens anyway."""
HINTS: Final = ("cache_control",)
"""Change no answer: caches are the deployment's. Blocks and tools may have it too."""
_TRANSLATED: Final = (
    "max_tokens", "messages", "output_config", "output_format", "stop_sequences", "system", "thinking", "tool_choice",
    "tools", *HINTS,
)  # fmt: skip
_THOUGHT: Final = ("thinking", "redacted_thinking")
_TOOL_MEMBERS: Final = {"type", "name", "description", "input_schema", "strict", "eager_input_streaming", *HINTS}
_TOOL_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS: Final = {"xhigh": "high", "max": "high"}
"""Efforts that other engines do not know, and the highest which they do."""


class MessageTurn(BaseModel):
    """A turn of the conversation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class MessagesRequest(ChatBody):
    """A request of Anthropic's Messages API. Fields that are not listed here pass to the engine or are refused by
    name, as those of a chat are."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "alignx-small",
                "max_tokens": 256,
                "messages": [{"role": "user", "content": "Which book shall I read next?"}],
                "metadata": {"user_id": "ann"},
            }
        },
    )

    messages: Annotated[list[MessageTurn], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    model: str | None = None
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    """Your own, with `name` and `input_schema`."""
    tool_choice: dict[str, Any] | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    thinking: dict[str, Any] | None = None
    """Of type `disabled` it asks the engine's template for none; what a model thinks is never shown."""
    output_config: dict[str, Any] | None = None
    """`effort`, and `format` of type `json_schema`."""
    stream: StrictBool | None = None
    metadata: dict[str, Any] | None = None
    """`user_id` says whose summary to use; where it is missing, a header."""
    personalization: Personalization | None = None

    def to_chat(self) -> ChatRequest:
        """Raises InvalidRequest or RequestValidationError, which name the fields."""
        refusals = Refusals()
        body = self.model_dump(mode="json", exclude_unset=True)
        fields = further_fields(body, _TRANSLATED, REFUSED, ONLY, refusals)
        if self.tools:
            fields["tools"] = [_read_tool(tool, f"tools.{index}", refusals) for index, tool in enumerate(self.tools)]
            fields |= _read_tool_choice(self.tool_choice or {}, refusals)
        if (self.thinking or {}).get("type") == "disabled":
            fields |= NO_THINKING
        fields |= _read_output(self.output_config or {}, refusals)
        if body.get("output_format") is not None:
            refusals.add("output_format", "send output_config.format")
        messages: list[Body] = []
        if self.system:
            messages.append({"role": "system", "content": _read_text(self.system, "system", refusals)})
        for index, turn in enumerate(self.messages):
            _read_turn(turn, f"messages.{index}.content", messages, refusals)
        refusals.check()
        return make_chat(fields | {"messages": messages, "max_tokens": self.max_tokens, "stop": self.stop_sequences})


# --- turns -------------------------------------------------------------------------------------


def _read_turn(turn: MessageTurn, field: str, messages: list[Body], refusals: Refusals) -> None:
    if isinstance(turn.content, str):
        messages.append({"role": turn.role, "content": turn.content})
        return
    parts: list[Body] = []
    calls: list[Body] = []
    results: list[Body] = []
    for index, block in enumerate(turn.content):
        where = f"{field}.{index}"
        match block.get("type"):
            case "tool_use" if turn.role == "assistant":
                arguments = orjson.dumps(block.get("input") or {}).decode()
                function = {"name": block.get("name"), "arguments": arguments}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
                _check_texts(block, ("id", "name"), where, refusals)
            case "tool_result" if turn.role == "user":
                content = _read_result(block, f"{where}.content", refusals)
                results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content})
                _check_texts(block, ("tool_use_id",), where, refusals)
            case kind if kind not in _THOUGHT:  # thoughts of an earlier turn are no part of what is said
                parts.append(_read_part(block, where, refusals))
    messages += results
    if parts or calls or not results:
        is_text = len(parts) == 1 and parts[0]["type"] == "text"
        said = parts[0]["text"] if is_text else parts or None
        messages.append({"role": turn.role, "content": said, **({"tool_calls": calls} if calls else {})})


def _check_texts(block: Body, names: tuple[str, ...], field: str, refusals: Refusals) -> None:
    for name in names:
        if not isinstance(block.get(name), str):
            refusals.add(f"{field}.{name}", "is needed, a text")


def _read_result(block: Body, field: str, refusals: Refusals) -> str | list[Body]:
    content: Any = block.get("content") or ""
    text: str | list[Body] = ""
    if isinstance(content, str):
        text = content
    elif isinstance(content, list) and all(isinstance(part, dict) for part in content):
        parts = [_read_part(part, f"{field}.{index}", refusals) for index, part in enumerate(content)]
        text = "\n".join(part["text"] for part in parts) if all(part["type"] == "text" for part in parts) else parts
    else:
        refusals.add(field, "must be a text or a list of blocks")
    return f"Error: {text}" if block.get("is_error") and isinstance(text, str) else text


def _read_text(content: str | list[Body], field: str, refusals: Refusals) -> str:
    if isinstance(content, str):
        return content
    parts = [_read_part(part, f"{field}.{index}", refusals) for index, part in enumerate(content)]
    return "\n\n".join(part.get("text", "") for part in parts)


def _read_part(block: Body, field: str, refusals: Refusals) -> Body:
    match block:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "image", "source": {"type": "url", "url": str(url)}}:
            return {"type": "image_url", "image_url": {"url": url}}
        case {"type": "image", "source": {"type": "base64", "media_type": str(media), "data": str(data)}}:
            return {"type": "image_url", "image_url": {"url": f"data:{media};base64,{data}"}}
    kind = block.get("type")
    why = "files cannot be read here; send their text" if kind in ("document", "image", "container_upload") else None
    refusals.add(field, why or f"{kind!r} is no block that can be read here, or lacks its text")
    return {"type": "text", "text": ""}


# --- tools and output --------------------------------------------------------------------------


def _read_tool(tool: Body, field: str, refusals: Refusals) -> Body:
    if tool.get("type") not in (None, "custom") or not isinstance(tool.get("name"), str):
        refusals.add(field, "only tools of your own, with a name, are offered; others run at the provider")
        return {}
    for name in tool.keys() - _TOOL_MEMBERS:
        if tool[name] and tool[name] != ["direct"]:
            refusals.add(f"{field}.{name}", "no member of a tool that passes to the engine")
    function = {name: tool[name] for name in ("name", "description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": function | {"parameters": tool.get("input_schema") or {"type": "object"}}}


def _read_tool_choice(choice: Body, refusals: Refusals) -> Body:
    parallel = {"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {}
    kind = choice.get("type", "auto")
    if kind == "tool":
        return {"tool_choice": {"type": "function", "function": {"name": choice.get("name")}}} | parallel
    if str(kind) not in _TOOL_CHOICES:
        refusals.add("tool_choice.type", "must be 'auto', 'any', 'tool' or 'none'")
    return ({"tool_choice": _TOOL_CHOICES.get(str(kind))} if "type" in choice else {}) | parallel


def _read_output(output: Body, refusals: Refusals) -> Body:
    fields: Body = {}
    if isinstance(effort := output.get("effort"), str):
        fields["reasoning_effort"] = _EFFORTS.get(effort, effort)
    elif effort is not None:
        refusals.add("output_config.effort", "must be a text")
    shape = output.get("format")
    if isinstance(shape, dict) and shape.get("type") == "json_schema":
        schema = {"name": "answer", "schema": shape.get("schema"), "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif shape is not None:
        refusals.add("output_config.format", "must be of type 'json_schema'")
    return fields
