"""What a call is estimated to take, and what counts at its end."""

from typing import Any

import orjson
import pytest

from alignx.schemas.summaries import TokenCounts
from services.engine.guard import Progress, WrittenText
from services.engine.spending import Estimate, estimate_call, message_tokens
from services.errors import EngineRejected, EngineUnavailable, InvalidRequest
from services.prompts.build import estimate_tokens

STREAMED, WHOLE = Estimate(100, 50, streamed=True), Estimate(100, 50, streamed=False)
TURN = {"role": "user", "content": "How do I poach an egg?"}


def progress(text: str = "", **fields: Any) -> Progress:
    made = Progress(sent_at=0.0, written=WrittenText(), **fields)
    if text:
        made.note_text(text)
    return made


def test_an_estimate_holds_the_prompt_and_all_answers_that_are_allowed() -> None:
    tools = [{"type": "function", "function": {"name": "boil", "description": "Boils. " * 50}}]
    plain = estimate_call({"messages": [TURN, TURN], "max_tokens": 40})
    assert plain == Estimate(2 * message_tokens(TURN), 40, streamed=False)
    many = estimate_call({"messages": [TURN], "max_completion_tokens": 40, "n": 3, "stream": True})
    assert (many.completion, many.streamed) == (120, True)
    with_tools = estimate_call({"messages": [TURN], "max_tokens": 1, "tools": tools})
    assert with_tools.prompt - message_tokens(TURN) == estimate_tokens(orjson.dumps(tools).decode())
    assert estimate_call({"prompt": [5, 6, 7], "max_tokens": 1}) == Estimate(3, 1, streamed=False)
    assert estimate_call({"prompt": "abc", "max_tokens": 1}).total == 2


@pytest.mark.parametrize("estimate", [STREAMED, WHOLE])
def test_the_engines_own_counts_come_first(estimate: Estimate) -> None:
    told = progress("a word", tokens=TokenCounts(prompt=9, completion=3), finished=True)
    assert estimate.used(told, None) == 12
    assert estimate.used(progress("a", tokens=TokenCounts(prompt=500, completion=90), finished=True), None) == 590


def test_what_never_ran_costs_nothing() -> None:
    waiting = Progress()
    assert STREAMED.used(waiting, EngineUnavailable()) == WHOLE.used(waiting, KeyboardInterrupt()) == 0
    for error in (EngineRejected(), EngineUnavailable(), InvalidRequest()):
        assert STREAMED.used(progress(), error) == WHOLE.used(progress(), error) == 0


def test_what_is_left_early_costs_what_was_written_or_the_estimate() -> None:
    assert STREAMED.used(progress("twelve bytes"), GeneratorExit()) == 100 + 4
    assert STREAMED.used(progress("twelve bytes"), EngineUnavailable()) == 100 + 4
    assert STREAMED.used(progress("twelve bytes", finished=True), None) == 100 + 4
    assert STREAMED.used(progress("w" * 9_000), GeneratorExit()) == 150, "the engine was allowed no more"
    assert STREAMED.used(progress(), GeneratorExit()) == 100, "the prompt was read"
    assert WHOLE.used(progress(), GeneratorExit()) == WHOLE.used(progress(finished=True), None) == 150
    assert WHOLE.used(progress(overlong=True), EngineUnavailable()) == 150, "the engine worked on it all the time"


def event(**delta: Any) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": delta}]}) + b"\n\n"


def test_events_that_pass_through_are_read_however_they_are_cut() -> None:
    call = [{"index": 0, "function": {"name": "boil", "arguments": '{"minutes": 6}'}}]
    stream = b"".join(
        [event(role="assistant", content=""), b": ping\n\n", event(content="Six minutes."), event(reasoning="Eggs."),
         event(tool_calls=call), b'data: {"choices": [], "usage": {}}\n\n', b"data: {half\n\n", b"data: [DONE]\n\n"]
    )  # fmt: skip
    size = len('Six minutes.Eggs.boil{"minutes": 6}')
    for step in (1, 7, 64, len(stream)):
        meter = WrittenText()
        for start in range(0, len(stream), step):
            meter.add_events(stream[start : start + step])
        assert meter.tokens == -(-size // 3)
    meter = WrittenText()
    meter.add_events(b'data: {"choices": [{"delta": {"a": ' + b"[" * 1_000 + b"]" * 1_000 + b"}}]}\n\n")
    meter.add_events(event(content="a") * 20)
    assert meter.tokens == 20, "an event is a token at least"
