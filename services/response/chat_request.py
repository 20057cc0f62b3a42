"""The body of a chat request: which fields reach the engine, which the suite reads, and which it refuses.

No field is dropped silently: one that stands in none of the tables is refused too. docs/how-to/chat.md says why.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, TypeAdapter, ValidationError, model_validator

from alignx.schemas.items import Scalar, UserId, is_deeper
from alignx.schemas.requests import Personalization
from services.errors import InvalidRequest

PASSED: Final = frozenset(
    (
        "add_generation_prompt", "add_special_tokens", "allowed_token_ids", "audio", "bad_words",
        "chat_template_kwargs", "continue_final_message", "documents", "echo", "frequency_penalty", "ignore_eos",
        "include_stop_str_in_output", "length_penalty", "logit_bias", "logprob_token_ids", "logprobs",
        "max_completion_tokens", "max_tokens", "min_p", "min_tokens", "modalities", "model", "moderation", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "reasoning_effort", "repetition_detection",
        "repetition_penalty", "response_format", "return_tokens_as_token_ids", "seed", "service_tier",
        "skip_special_tokens", "spaces_between_special_tokens", "stop", "stop_token_ids", "store", "stream",
        "stream_interval", "stream_options", "structured_outputs", "temperature", "thinking_token_budget",
        "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "use_beam_search", "verbosity", "watermarking",
    )
)  # fmt: skip
"""Reach the engine unchanged."""
READ: Final = frozenset(("include_reasoning", "messages", "metadata", "personalization", "safety_identifier", "user"))
"""Are read here and do not reach the engine; but the messages do."""
_REFUSALS: Final = {
    "caches are the deployment's; leave it out": (
        "cache_salt", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    ),
    "vLLM ignores it; send response_format or structured_outputs": (
        "guided_choice", "guided_decoding_backend", "guided_grammar", "guided_json", "guided_regex",
        "guided_whitespace_pattern",
    ),
    "it controls the engine, which other callers share; leave it out": (
        "ec_transfer_params", "kv_transfer_params", "media_io_kwargs", "mm_processor_kwargs", "priority",
        "request_id", "session_id", "vllm_xargs",
    ),
    "it shows the whole prompt, which holds more than the caller's messages; leave it out": (
        "mm_payload", "prompt_logprobs", "return_mm_kwargs", "return_prompt_text", "return_token_ids",
        "return_token_offsets", "routed_experts_prompt_start",
    ),
    "it would cut what is known of the user; shorten the messages": ("truncate_prompt_tokens", "truncation_side"),
    "the template is the deployment's; send chat_template_kwargs": ("chat_template",),
    "vLLM ignores it; send tool_choice": ("function_call",),
    "vLLM ignores it; send tools": ("functions",),
    "it shows a search engine what is known of the user; offer a search as one of your tools": ("web_search_options",),
}  # fmt: skip
REFUSED: Final[Mapping[str, str]] = {name: why for why, names in _REFUSALS.items() for name in names}
"""Why a field of OpenAI's or vLLM's API does not reach the engine, and what to do."""
ALLOWED_VALUES: Final[Mapping[str, tuple[Any, ...]]] = {
    "service_tier": ("auto", "default", "flex"),  # the others cost the deployment more
    "store": (False,),  # what is known of the user stays here
}
TEMPLATE_ARGUMENTS: Final = (
    "clear_thinking", "date_string", "enable_thinking", "low_effort", "preserve_thinking", "reasoning",
    "reasoning_effort", "thinking", "thinking_budget", "thinking_mode",
)  # fmt: skip
"""What chat_template_kwargs may hold. Others could replace the template or its messages."""
MOST_LEVELS: Final = 100
"""Of lists and objects in a body: pydantic writes none of 256, and parsers of engines have limits of their own."""
_UNKNOWN: Final = "no field of this API; leave it out, or have the operator name it in ALIGNX_RESPONSE__PASS_FIELDS"
_USER: Final = TypeAdapter[str](UserId)


class ChatRequestMessage(BaseModel):
    """A message in OpenAI's form; members beyond role and content (tool calls, names) pass unchanged."""

    model_config = ConfigDict(frozen=True, extra="allow")

    role: str
    content: str | list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _check_instructions(self) -> Self:
        if self.role in ("system", "developer") and self.content is None:
            raise ValueError(f"a message of role {self.role!r} needs content")
        return self


class ChatBody(BaseModel):
    """The body of a chat, by whichever API."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _check_levels(cls, body: Any) -> Any:
        if is_deeper(body, MOST_LEVELS):
            raise ValueError(f"may be nested {MOST_LEVELS} levels deep")
        return body


class ChatRequest(ChatBody):
    """An OpenAI chat completion request with our extensions. Fields that OpenAI or vLLM define and that are not
    listed here pass to the engine or are refused by name; unknown ones are refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "messages": [{"role": "user", "content": "Which book shall I read next?"}],
                "user": "ann",
                "personalization": {"mode": "summary", "learn": True},
            }
        },
    )

    messages: Annotated[list[ChatRequestMessage], Field(min_length=1)]
    model: str | None = None
    user: UserId | None = None
    """Whose summary to use. Where it is missing, `safety_identifier`, then `metadata.user_id`, then the header
    X-User-Id names the user."""
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None
    stream: StrictBool | None = None
    n: Annotated[int | None, Field(ge=1, le=128)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    chat_template_kwargs: dict[str, Scalar] | None = None
    include_reasoning: StrictBool | None = None
    """Whether the model's reasoning is part of the answer; default: it is hidden."""
    personalization: Personalization | None = None

    def user_id(self, headers: Iterable[str | None]) -> str | None:
        """The user that a field names, else the first of the headers. Raises InvalidRequest."""
        names = [("user", self.user), ("safety_identifier", self.safety_identifier)]
        names.append(("metadata.user_id", (self.metadata or {}).get("user_id")))
        names += [("X-User-Id", header) for header in headers]
        field, user = next(((field, name) for field, name in names if name not in (None, "")), ("", None))
        try:
            return None if user is None else _USER.validate_python(user)
        except ValidationError as error:
            raise refuse_fields((field, error.errors()[0]["msg"])) from error

    def engine_fields(self, further: Iterable[str] = ()) -> dict[str, Any]:
        """The fields that reach the engine, `further` among them, without the messages. Raises InvalidRequest,
        which names each field that does not."""
        body = self.model_dump(mode="json", exclude_unset=True, exclude={"messages"})
        passed = PASSED.union(further)
        judged = ((name, _refusal(name, value)) for name, value in body.items() if name not in {*further, *READ})
        if problems := [(name, message) for name, message in judged if message]:
            raise refuse_fields(*problems)
        return {name: value for name, value in body.items() if name in passed and value is not None}


def refuse_fields(*problems: tuple[str, str]) -> InvalidRequest:
    """The error that names fields, each with what is wrong with it; at most 20."""
    errors = [{"field": field, "message": message} for field, message in problems[:20]]
    return InvalidRequest("; ".join(f"{error['field']}: {error['message']}" for error in errors), errors=errors)


def _refusal(name: str, value: Any) -> str | None:
    """Why a field is refused; a null counts as left out."""
    if value is None:
        return None
    if name not in PASSED:
        return REFUSED.get(name, _UNKNOWN)
    if name in ALLOWED_VALUES and value not in ALLOWED_VALUES[name]:
        return f"must be one of {', '.join(map(repr, ALLOWED_VALUES[name]))}"
    if name == "chat_template_kwargs" and (strange := sorted(value.keys() - TEMPLATE_ARGUMENTS)):
        return f"may hold {', '.join(TEMPLATE_ARGUMENTS)}, but not {', '.join(map(repr, strange[:3]))}"
    return None
