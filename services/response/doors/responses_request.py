"""The body of OpenAI's Responses API, and the chat that it stands for.

Input items become messages: function calls one turn of the assistant, their outputs turns of a tool. Nothing is stored,
so what refers to an earlier response is refused by name, and so are tools and files that the deployment does not have.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, StrictBool

from alignx.schemas.items import UserId
from alignx.schemas.requests import Personalization
from services.response.chat_request import ChatBody, ChatRequest
from services.response.doors.door import CHAT_ONLY, Body, Refusals, further_fields, make_chat

_STORED: Final = "nothing of a response is stored; send the earlier items in input"
_FILE: Final = "files cannot be read here; send their text as input_text"
REFUSED: Final[Mapping[str, str]] = CHAT_ONLY | {
    "background": "an answer is given at once, or streamed",
    "context_management": "send the items that are to be read",
    "conversation": _STORED,
    "include": "nothing of it can be added",
    "max_completion_tokens": "no field of this API; send max_output_tokens",
    "max_tokens": "no field of this API; send max_output_tokens",
    "max_tool_calls": "it limits tools that run at the provider, and there are none",
    "previous_response_id": _STORED,
    "prompt": "no prompts are stored; send instructions and input",
    "response_format": "no field of this API; send text.format",
    "store": "what is known of the user stays here, and no response is stored",
    "top_logprobs": "this API shows none; /v1/chat/completions does",
    "truncation": "nothing is cut; shorten the input",
}
"""Why a field is not taken."""
ONLY: Final[Mapping[str, tuple[Any, ...]]] = {
    "background": (False,),
    "include": ([], ["reasoning.encrypted_content"]),  # no reasoning is shown, so there is none to encrypt
    "store": (False,),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
"""Values that ask for what happens anyway."""
HINTS: Final = ("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention")
"""Change no answer: caches are the deployment's."""
_TRANSLATED: Final = (
    "input", "instructions", "max_output_tokens", "parallel_tool_calls", "reasoning", "text", "tool_choice", "tools",
    *HINTS,
)  # fmt: skip
_MESSAGE_PARTS: Final = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
"""Types of parts that hold text, and the member which does."""


class ResponsesRequest(ChatBody):
    """A request of OpenAI's Responses API. Fields that are not listed here pass to the engine or are refused by name,
    as those of a chat are."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "alignx-small",
                "instructions": "Answer in one sentence.",
                "input": "Which book shall I read next?",
                "user": "ann",
            }
        },
    )

    input: Annotated[str | list[dict[str, Any]], Field(min_length=1)]
    """A text, or items: messages, `function_call` and `function_call_output`. Items of type `reasoning` are passed
    over."""
    model: str | None = None
    instructions: str | None = None
    """Stand before the input."""
    max_output_tokens: Annotated[int | None, Field(ge=1)] = None
    tools: list[dict[str, Any]] | None = None
    """Of type `function`."""
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: StrictBool | None = None
    text: dict[str, Any] | None = None
    """`format` and `verbosity`."""
    reasoning: dict[str, Any] | None = None
    """`effort`; a summary is never shown."""
    temperature: float | None = None
    top_p: float | None = None
    stream: StrictBool | None = None
    store: StrictBool | None = None
    """Only false, which is the default."""
    metadata: dict[str, Any] | None = None
    user: UserId | None = None
    """Whose summary to use; where it is missing, `safety_identifier`, `metadata.user_id`, then a header."""
    safety_identifier: str | None = None
    personalization: Personalization | None = None

    def to_chat(self) -> ChatRequest:
        """Raises InvalidRequest or RequestValidationError, which name the fields."""
        refusals = Refusals()
        body = self.model_dump(mode="json", exclude_unset=True)
        fields = further_fields(body, _TRANSLATED, REFUSED, ONLY, refusals)
        fields |= _read_text(self.text or {}, refusals) | _read_reasoning(self.reasoning or {}, refusals)
        if self.tools:
            fields["tools"] = [_read_tool(tool, f"tools.{index}", refusals) for index, tool in enumerate(self.tools)]
            fields["tool_choice"] = _read_tool_choice(self.tool_choice, refusals)
            fields["parallel_tool_calls"] = self.parallel_tool_calls
        messages = _read_items(self.input, refusals)
        if self.instructions:
            messages.insert(0, {"role": "system", "content": self.instructions})
        refusals.check()
        return make_chat(fields | {"messages": messages, "max_completion_tokens": self.max_output_tokens})


# --- items -------------------------------------------------------------------------------------


def _read_items(items: str | list[dict[str, Any]], refusals: Refusals) -> list[Body]:
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    messages: list[Body] = []
    for index, item in enumerate(items):
        _read_item(item, f"input.{index}", messages, refusals)
    return messages


def _read_item(item: Body, field: str, messages: list[Body], refusals: Refusals) -> None:
    match item.get("type", "message" if "role" in item else None):
        case "message":
            role = item.get("role")
            if role not in ("user", "assistant", "system", "developer"):
                refusals.add(f"{field}.role", "must be user, assistant, system or developer")
            content = _read_content(item.get("content"), f"{field}.content", refusals)
            messages.append({"role": role, "content": content})
        case "function_call":
            function = {name: item.get(name) for name in ("name", "arguments")}
            if not all(isinstance(value, str) for value in (*function.values(), item.get("call_id"))):
                refusals.add(field, "needs call_id, name and arguments, each a text")
            turn = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
            if turn is None:
                messages.append(turn := {"role": "assistant", "content": None})
            turn.setdefault("tool_calls", []).append(
                {"id": item.get("call_id"), "type": "function", "function": function}
            )
        case "function_call_output":
            if not isinstance(item.get("call_id"), str):
                refusals.add(f"{field}.call_id", "is needed, a text")
            content = _read_content(item.get("output"), f"{field}.output", refusals)
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
        case "reasoning":  # of an earlier turn: no part of what is said
            pass
        case "item_reference":
            refusals.add(field, _STORED)
        case other:
            refusals.add(f"{field}.type", f"{other!r} is no item that can be read here")


def _read_content(content: Any, field: str, refusals: Refusals) -> str | list[Body]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        refusals.add(field, "must be a text or a list of parts")
        return ""
    parts = [_read_part(part, f"{field}.{index}", refusals) for index, part in enumerate(content)]
    return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _read_part(part: Body, field: str, refusals: Refusals) -> Body:
    kind = part.get("type")
    if kind == "input_image" and isinstance(url := part.get("image_url"), str):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": url, **detail}}
    if kind == "input_audio" and isinstance(audio := part.get("input_audio"), dict):
        return {"type": "input_audio", "input_audio": audio}
    if kind in ("input_file", "input_image"):
        refusals.add(field, _FILE if kind == "input_file" else "needs image_url; files cannot be read here")
    elif not isinstance(part.get(_MESSAGE_PARTS.get(str(kind), "")), str):
        refusals.add(field, f"{kind!r} is no part that can be read here, or lacks its text")
    else:
        return {"type": "text", "text": part[_MESSAGE_PARTS[str(kind)]]}
    return {"type": "text", "text": ""}


# --- tools and formats -------------------------------------------------------------------------


def _read_tool(tool: Body, field: str, refusals: Refusals) -> Body:
    if tool.get("type") != "function" or not isinstance(tool.get("name"), str):
        refusals.add(field, "only tools of type 'function', with a name, are offered; others run at the provider")
        return {}
    known = ("name", "description", "parameters", "strict")
    for name in tool.keys() - {"type", *known}:
        if tool[name]:
            refusals.add(f"{field}.{name}", "no member of a tool that passes to the engine")
    return {"type": "function", "function": {name: tool[name] for name in known if tool.get(name) is not None}}


def _read_tool_choice(choice: str | Body | None, refusals: Refusals) -> str | Body | None:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function":
        refusals.add("tool_choice.type", "must be 'function', or tool_choice a text such as 'auto'")
    return {"type": "function", "function": {"name": choice.get("name")}}


def _read_text(text: Body, refusals: Refusals) -> Body:
    given: Body = text["format"] if isinstance(text.get("format"), dict) else {}
    shape: Body | None = None
    match given.get("type"):
        case None | "text":
            pass
        case "json_schema":
            schema = {name: value for name, value in given.items() if name != "type" and value is not None}
            shape = {"type": "json_schema", "json_schema": schema}
        case "json_object":
            shape = {"type": "json_object"}
        case other:
            refusals.add("text.format.type", f"{other!r} is no format")
    return {"response_format": shape, "verbosity": text.get("verbosity")}


def _read_reasoning(reasoning: Body, refusals: Refusals) -> Body:
    for name in ("summary", "generate_summary"):
        if reasoning.get(name) not in (None, "auto"):
            refusals.add(f"reasoning.{name}", "reasoning is hidden, and no summary of it is written (only 'auto')")
    return {"reasoning_effort": reasoning.get("effort")}
