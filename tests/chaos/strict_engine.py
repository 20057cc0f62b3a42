"""The rules by which OpenAI-compatible engines refuse bodies, each on its own.

mock = MockEngine()
mock.strict = rules("system", "top_k")        # refuses a system role, and vLLM's top_k
mock.strict = rules(window=2_048)             # refuses what does not fit a window, four characters a token
"""

import itertools
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]
Rule = Callable[[Body], bool]

RULES: dict[str, Rule] = {
    "system": lambda body: any(message["role"] in ("system", "developer") for message in body["messages"]),
    "alternation": lambda body: any(
        first["role"] == second["role"] for first, second in itertools.pairwise(body["messages"])
    ),
    "max_tokens": lambda body: "max_tokens" in body,
    "max_completion_tokens": lambda body: "max_completion_tokens" in body,
    "temperature": lambda body: body.get("temperature", 1) != 1,
    "prefill": lambda body: body["messages"][-1]["role"] == "assistant" or "continue_final_message" in body,
} | {
    field: lambda body, field=field: bool(body.get(field))  # type: ignore[misc]
    for field in ("top_k", "cache_salt", "priority", "stream_options", "logprobs", "chat_template_kwargs", "top_p")
}
EXTENSIONS = ("top_k", "cache_salt", "priority", "chat_template_kwargs", "prefill")

DIALECTS: dict[str, tuple[str, ...]] = {
    "vllm": (),
    "vllm, by arrival": ("priority",),
    "gemma": ("system", "alternation"),
    "gemma, by arrival": ("system", "alternation", "priority"),
    "mistral": ("alternation",),
    "no prefill": ("prefill",),
    "no logprobs": ("logprobs",),
    "openai": EXTENSIONS,
    "openai's newest": (*EXTENSIONS, "max_tokens", "temperature", "top_p"),
    "older than max_completion_tokens": (*EXTENSIONS, "max_completion_tokens"),
    "no counts": (*EXTENSIONS, "stream_options"),
    "no top_k": ("top_k",),
    "no system, strict": (*EXTENSIONS, "system"),
    "no system, newest": (*EXTENSIONS, "system", "max_tokens", "temperature"),
    "case 01": ("system", "top_k", "cache_salt", "priority", "max_tokens", "temperature", "stream_options"),
    "bare": (*EXTENSIONS, "system", "max_completion_tokens", "temperature", "top_p", "stream_options", "logprobs"),
}
"""What engines of each kind refuse."""


def rules(*names: str, window: int = 0) -> Callable[[Body], str]:
    """Why a body is refused; empty for not at all."""

    def refuse(body: Body) -> str:
        for name in names:
            if RULES[name](body):
                return f"Unsupported parameter or role: {name}"
        if window and _prompt_chars(body) // 4 + (_limit(body) or 0) > window:
            return f"This model's maximum context length is {window} tokens. Please reduce the length."
        return ""

    return refuse


def _prompt_chars(body: Body) -> int:
    return sum(len(str(message["content"])) for message in body["messages"])


def _limit(body: Body) -> int | None:
    return body.get("max_tokens") or body.get("max_completion_tokens")
