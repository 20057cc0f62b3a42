"""The dialects of OpenAI's chat API that engines speak, and bodies put into one of them.

    dialect.apply(body)            # fields renamed or dropped, system text folded, roles alternated
    richer_dialects(base)          # what to try once `base` is known to work, richest first

Pure functions. services/engine/capabilities.py finds out which dialect an engine speaks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

TokenField = Literal["max_tokens", "max_completion_tokens"]
Message = Mapping[str, Any]

_SAMPLING: Final = frozenset(("temperature", "top_p"))
_COUNTS: Final = frozenset(("stream_options",))
_EXTENSIONS: Final = frozenset(("top_k", "cache_salt", "priority", "chat_template_kwargs"))
"""Fields of vLLM's that OpenAI's API does not have."""
_OPTIONAL: Final = _SAMPLING | _COUNTS | _EXTENSIONS
_DEFAULTS: Final = {"temperature": 1, "top_p": 1}
"""OpenAI's defaults: a caller who sends them asks for nothing."""
_SYSTEM: Final = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How chat bodies must look for an engine to take them."""

    token_field: TokenField = "max_tokens"  # noqa: S105  # the name of a field
    folds_system: bool = False
    """System text joins the first user turn."""
    alternates: bool = False
    """Consecutive turns of one role become one."""
    dropped: frozenset[str] = frozenset()
    """Optional fields that the engine refuses."""

    @property
    def name(self) -> str:
        """What differs from vLLM's dialect, such as `max_completion_tokens, no temperature`."""
        differences = ["max_completion_tokens"] if self.token_field != VLLM.token_field else []
        lacks = ["system role"] if self.folds_system else []
        if self.dropped >= _OPTIONAL:
            lacks.append("optional fields")
        else:
            own = self.dropped & _EXTENSIONS
            lacks += ["extensions"] if own == _EXTENSIONS else sorted(own)
            lacks += sorted(self.dropped - _EXTENSIONS)
        differences += [f"no {lack}" for lack in lacks]
        return ", ".join(differences) or ("alternating turns" if self.alternates else "vllm")

    def apply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body as the engine takes it."""
        if self == VLLM:
            return dict(body)
        adapted = {name: value for name, value in body.items() if name not in self.dropped}
        if "messages" in adapted:  # a completion keeps the name of its limit
            adapted = {self._field(name): value for name, value in adapted.items()}
            turns = _fold_system(adapted["messages"]) if self.folds_system else adapted["messages"]
            adapted["messages"] = _merge_turns(turns) if self.alternates else turns
        return adapted

    def refused_fields(self, body: Mapping[str, Any]) -> list[str]:
        """The fields by which a caller's body asks for what the engine does not take."""
        return sorted(name for name in self.dropped & body.keys() if body[name] not in (None, _DEFAULTS.get(name)))

    def _field(self, name: str) -> str:
        return self.token_field if name in ("max_tokens", "max_completion_tokens") else name


VLLM: Final = Dialect()
"""vLLM with its extensions; assumed until the engine refuses it."""
_OPENAI: Final = Dialect("max_completion_tokens", alternates=True, dropped=_OPTIONAL)
"""OpenAI's newest with nothing extra."""
_BARE: Final = Dialect(folds_system=True, alternates=True, dropped=_OPTIONAL)
"""One user turn, model and a limit of tokens."""
BASES: Final = (_OPENAI, _BARE, replace(_BARE, token_field="max_completion_tokens"))  # noqa: S106
"""What every engine takes at least one of."""


def richer_dialects(base: Dialect) -> list[Dialect]:
    """What an engine that takes `base`, one of BASES, may take too, richest first."""
    standard = replace(base, dropped=_EXTENSIONS)
    without_priority = replace(base, dropped=frozenset(("priority",)))  # a vLLM that schedules by arrival
    rich = [replace(base, dropped=frozenset()), without_priority]
    poor = [replace(base, dropped=_OPTIONAL - _SAMPLING), replace(base, dropped=_OPTIONAL - _COUNTS)]
    if base == _BARE:
        return [*rich, replace(standard, folds_system=False), standard]
    return [*rich, standard, *poor] if base == _OPENAI else [standard, *poor]


def _fold_system(messages: Sequence[Message]) -> list[Message]:
    """The same turns without a system role: its text opens the next user turn."""
    turns: list[Message] = []
    waiting: list[Message] = []
    for message in messages:
        if message["role"] in _SYSTEM:
            waiting.append({"role": "user", "content": message["content"]})
        elif message["role"] == "user":
            turns += _merge_turns([*waiting, message])
            waiting = []
        else:
            turns.append(message)
    return turns + _merge_turns(waiting)


def _merge_turns(messages: Sequence[Message]) -> list[Message]:
    """Consecutive turns of user or assistant become one; those with further members, such as tool calls, stay."""
    turns: list[Message] = []
    for message in messages:
        if turns and message["role"] in ("user", "assistant") and _is_plain(turns[-1], message):
            turns[-1] = {**message, "content": _join_contents(turns[-1]["content"], message["content"])}
        else:
            turns.append(message)
    return turns


def _is_plain(first: Message, second: Message) -> bool:
    """Whether both are turns of one role with nothing but content."""
    return first["role"] == second["role"] and all(
        message.keys() == {"role", "content"} and message["content"] is not None for message in (first, second)
    )


def _join_contents(first: Any, second: Any) -> Any:
    """Text, or OpenAI's list of parts where either has parts."""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    parts: list[Any] = []
    for content in (first, second):
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts
