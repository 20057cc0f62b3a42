"""The wire format of an OpenAI-compatible server: fields of request bodies, and parsers of answers.

Pure functions of bytes and JSON: no connection, no settings. What cannot be read raises EngineError.
"""

import hashlib
import hmac
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from alignx.schemas.summaries import TokenCounts
from services.engine.refusals import UNREADABLE, member, parse_json, reported_error
from services.errors import EngineError, EngineUnavailable

SILENT = "The engine does not answer"
BROKEN_OFF = "The engine broke off its answer"
LATE = "The engine began no answer in time"
NO_EVENTS = "The engine was asked for a stream of events and sent something else"
OVERLONG = "The engine took too long; ask for a stream or for fewer tokens"

Messages = Sequence[Mapping[str, Any]]
Body = dict[str, Any]


# --- bodies of requests ------------------------------------------------------------------------


class Sampling(TypedDict):
    """How a reply is sampled. `thinking=False` asks the chat template for none."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    """0 for no limit: top-k is not part of OpenAI's API, so it is sent only when it limits something."""
    thinking: NotRequired[bool]
    frequency_penalty: NotRequired[float]


NO_THINKING: Body = {"chat_template_kwargs": {"enable_thinking": False}}
FIRST_TOKEN: Body = {"max_tokens": 1, "temperature": 0, "logprobs": True, **NO_THINKING}
"""Asks for the odds of an answer's first token."""
CHOICE: Body = {**FIRST_TOKEN, "add_generation_prompt": False, "continue_final_message": True}
"""Asks for the odds of the token that continues the last message."""
LIKELIHOOD: Body = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
"""Asks for the log-probability of each token of a prompt, as vLLM can."""
_LETTER_ALONE = "Reply with the letter alone, without anything before it."
LIKELIEST_TOKENS: Body = {"top_logprobs": 20}
"""The most that OpenAI's API lists; used where single tokens cannot be asked for."""


COUNTED: Body = {"stream_options": {"include_usage": True}}
"""Asks a stream for token counts at its end."""


def generation(sampling: Sampling) -> Body:
    """Asks for a streamed reply with token counts at its end."""
    body: Body = {name: sampling[name] for name in ("max_tokens", "temperature", "top_p")}
    body |= {"top_k": sampling["top_k"]} if sampling["top_k"] > 0 else {}
    body |= {} if sampling.get("thinking", True) else NO_THINKING
    body |= {"frequency_penalty": penalty} if (penalty := sampling.get("frequency_penalty", 0.0)) else {}
    return body | {"stream": True, **COUNTED}


def raw_completion(chat: Body, prompt: str) -> Body:
    """The body of /v1/completions for a prompt that no chat template wraps; it ends behind the answer."""
    fields = {name: value for name, value in chat.items() if name not in ("messages", *NO_THINKING)}
    return fields | {"prompt": prompt, "stop": ["</answer>"]}


def without_prefill(messages: Messages) -> list[Mapping[str, Any]]:
    """The same question for an engine that cannot continue the answer in the last message."""
    *before, question, _prefill = messages
    return [*before, {**question, "content": f"{question['content']}\n\n{_LETTER_ALONE}"}]


def choice_of(token_ids: Sequence[int]) -> Body:
    """Asks for the odds of exactly these tokens, as vLLM can."""
    return {"logprob_token_ids": list(token_ids), "return_tokens_as_token_ids": True}


def cache_salt(secret: str | None, tenant: str) -> Body:
    """Gives each tenant its own prefix cache: salt = HMAC(secret, tenant)."""
    return {"cache_salt": hmac.new(secret.encode(), tenant.encode(), hashlib.sha256).hexdigest()} if secret else {}


_PINGS = (b"ping", b"heartbeat", b"keepalive", b"keep-alive")

# --- streamed answers --------------------------------------------------------------------------


@dataclass(frozen=True)
class Delta:
    """A piece of text as it is written."""

    text: str


@dataclass(frozen=True)
class Completion:
    """A whole answer. Reasoning that the engine reports in a field of its own stands in <think> tags."""

    text: str
    finish_reason: str | None
    tokens: TokenCounts
    model: str


class Reply:
    """Parses a streamed answer: `feed` it the bytes as they come until it is `done`, then `end` it."""

    def __init__(self, model: str, opening: str = "") -> None:
        self._opening = opening
        """Of a completion: what its prompt ends with and its first text goes on from."""
        self.done = False
        """No more text will come: `[DONE]` was read, or a sign of life after the finish reason."""
        self._model = model
        self._buffer = b""
        self._data: list[bytes] = []
        """The data lines of the event that is being read."""
        self._is_ping = False
        self._pieces: list[str] = []
        self._finish_reason: str | None = None
        self._tokens = TokenCounts()
        self._thinking = False
        self._answered = False

    @property
    def is_whole(self) -> bool:
        """Whether the engine has said why it stopped: the answer is whole, also without a `[DONE]`."""
        return self._finish_reason is not None

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The texts that these bytes complete."""
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            if not self.done and (text := self._line(line.rstrip())):
                yield text

    def end(self) -> Iterator[str]:
        """The texts still missing. An answer with neither `[DONE]` nor a finish reason raises EngineUnavailable."""
        yield from self.feed(b"\n\n")
        if not self.done and not self.is_whole:
            raise EngineUnavailable(BROKEN_OFF)
        if self._thinking and self._finish_reason == "stop":
            self._pieces.append("</think>")
            yield "</think>"

    def completion(self) -> Completion:
        """The whole answer. Raises EngineError where no event held a choice."""
        if not self._answered:
            raise EngineError(UNREADABLE)
        return Completion("".join(self._pieces), self._finish_reason, self._tokens, self._model)

    def _line(self, line: bytes) -> str:
        """The text of the event that `line` ends."""
        if line.startswith(b"data:"):
            self._data.append(line.removeprefix(b"data:").strip())
            self.done = self._data[-1] == b"[DONE]"
        elif line:
            self._is_ping |= is_ping(line)
            self.done = self.is_whole and line.startswith((b":", b"event:"))  # what only keeps a connection open
        if line and not self.done:
            return ""
        data = [] if self._is_ping else [part for part in self._data if part not in (b"", b"[DONE]")]
        self._data, self._is_ping = [], False
        text = "".join(map(self._event, _documents(data)))
        if text:
            self._pieces.append(text)
        return text

    def _event(self, event: Any) -> str:
        """The text that an event adds. One without choices, such as a ping, adds none."""
        if not isinstance(event, dict):
            raise EngineError(UNREADABLE)
        if event.get("error") is not None:
            raise reported_error(event)
        self._model = event.get("model") or self._model
        if (usage := event.get("usage")) is not None:
            self._tokens = token_counts(usage)
        choices = event.get("choices") or []
        if not isinstance(choices, list):
            raise EngineError(UNREADABLE)
        if not choices:
            return ""
        self._answered = True
        self._finish_reason = member(choices[0], "finish_reason") or self._finish_reason
        if self._opening and (text := plain_text(member(choices[0], "text"))):
            return text if self._pieces else f"{self._opening}{text}"
        return self._text(member(choices[0], "delta"))

    def _text(self, delta: Any) -> str:
        # An engine with a reasoning parser reports reasoning in a field of its own.
        reasoning = plain_text(member(delta, "reasoning") or member(delta, "reasoning_content"))
        content = plain_text(member(delta, "content"))
        text = ""
        if reasoning:
            text = reasoning if self._thinking else f"<think>{reasoning}"
            self._thinking = True
        if content:
            text += f"</think>{content}" if self._thinking else content
            self._thinking = False
        return text


def is_ping(line: bytes) -> bool:
    """Whether the line names an event that only keeps the connection open."""
    return line.startswith(b"event:") and line.removeprefix(b"event:").strip() in _PINGS


def _documents(data: Sequence[bytes]) -> list[Any]:
    """The JSON of one event: its data lines joined, as the standard has it, or one document a line."""
    if len(data) > 1:
        with suppress(EngineError):
            return [parse_json(b"\n".join(data))]
    return list(map(parse_json, data))


def plain_text(content: Any) -> str:
    """The text of a delta: a string, or a list of parts with texts. Raises EngineError for anything else."""
    if isinstance(content, list):
        content = "".join(text for part in content if isinstance(text := member(part, "text"), str))
    if not isinstance(content, str | None):
        raise EngineError(UNREADABLE)
    return content or ""


_FIRST_EVENT = re.compile(rb"^data:[ \t]*([^\s].*?)\s*\n", re.MULTILINE)
_FINISHED = re.compile(rb'"finish_reason"\s{0,8}:\s{0,8}"')
_DONE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_TAIL_BYTES = 2048
_SPLIT_BYTES = 40
"""The end of a chunk that may hold the start of a finish reason."""


def first_event(stream: bytes) -> bytes:
    """The data of the first event that has any; empty while there is none."""
    match = _FIRST_EVENT.search(stream)
    return match[1] if match else b""


class AnswerTail:
    """The end of an answer that is passed through: it holds `[DONE]` and the token counts."""

    def __init__(self, *, choices: int, streamed: bool) -> None:
        self._unfinished = choices
        self._streamed = streamed
        self._tail = b""
        self._split = b""

    def feed(self, chunk: bytes) -> None:
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        if self._streamed and self._unfinished > 0:
            start, window = 0, self._split + chunk
            for match in _FINISHED.finditer(window):
                self._unfinished, start = self._unfinished - 1, match.end()
            self._split = window[max(start, len(window) - _SPLIT_BYTES) :]

    def end(self, broken: Exception | None) -> bytes:
        """The `[DONE]` that a finished stream lacks. Raises EngineUnavailable where the answer is not whole;
        `broken` is the fault that ended it."""
        done = not self._streamed or bool(_DONE.search(self._tail))
        finished = self._streamed and self._unfinished <= 0
        if not self._tail or not (finished or (done and not broken)):
            raise EngineUnavailable(BROKEN_OFF) from broken
        if done:
            return b""
        return b"data: [DONE]\n\n" if self._tail.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\ndata: [DONE]\n\n"

    def tokens(self) -> TokenCounts:
        """The counts in the tail; zero where it reports none."""

        def last(name: bytes) -> int:
            counts = re.findall(rb'"%s"\s*:\s*(\d+)' % name, self._tail)
            return int(counts[-1]) if counts else 0

        return TokenCounts(
            prompt=last(b"prompt_tokens"), completion=last(b"completion_tokens"), cached=last(b"cached_tokens")
        )


# --- other answers -----------------------------------------------------------------------------


def first_token_logprobs(answer: Any) -> dict[str, float]:
    """Log-probabilities of the first answered token, by token, likeliest first."""
    try:
        listed = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        logprobs = {entry["token"]: float(entry["logprob"]) for entry in listed}
    except (LookupError, TypeError, ValueError) as error:
        raise EngineError(UNREADABLE) from error
    if not logprobs:
        raise EngineError("The engine's answer holds no log-probabilities")
    return logprobs


def token_logprobs(logprobs: Mapping[str, float], token_ids: Sequence[int]) -> list[float] | None:
    """The odds that `choice_of` asked for; None from an engine that ignores the question."""
    names = [f"token_id:{token_id}" for token_id in token_ids]
    return [logprobs[name] for name in names] if logprobs.keys() >= set(names) else None


def lists_letter(logprobs: Mapping[str, float], letters: Sequence[str]) -> bool:
    return not {token.strip() for token in logprobs}.isdisjoint(letter.strip() for letter in letters)


def letter_logprobs(logprobs: dict[str, float], letters: Sequence[str]) -> list[float]:
    """The odds of letters among the likeliest tokens. One that is not listed gets the lowest listed
    log-probability, which bounds it from above."""
    floor = min(logprobs.values())
    stripped = {token.strip(): logprob for token, logprob in reversed(logprobs.items())}
    return [logprobs.get(letter, stripped.get(letter.strip(), floor)) for letter in letters]


def prompt_logprob(answer: Any, tokens: Sequence[int]) -> float:
    """The log-probability of `tokens`, with which the prompt ends. Raises EngineError where the engine tells none."""
    try:
        listed = answer["choices"][0]["prompt_logprobs"][-len(tokens) :]
        return math.fsum(entry[str(token)]["logprob"] for entry, token in zip(listed, tokens, strict=True))
    except (LookupError, TypeError, ValueError) as error:
        raise EngineError(UNREADABLE) from error


def model_list(answer: Any) -> list[Body]:
    """OpenAI's model objects."""
    models = member(answer, "data")
    if not isinstance(models, list) or not all(isinstance(member(model, "id"), str) for model in models):
        raise EngineError(UNREADABLE)
    return models


def token_counts(usage: Any) -> TokenCounts:
    """The counts of an OpenAI `usage` object; 0 where one is missing or no number."""
    return TokenCounts(
        prompt=token_count(usage, "prompt_tokens"),
        completion=token_count(usage, "completion_tokens"),
        cached=token_count(member(usage, "prompt_tokens_details"), "cached_tokens"),
    )


def token_count(counts: Any, name: str) -> int:
    number = member(counts, name)
    return number if isinstance(number, int) and number > 0 else 0
