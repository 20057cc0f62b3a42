"""Bodies in the dialects of engines, byte for byte."""

from typing import Any

import pytest

from services.engine.dialects import BASES, VLLM, Dialect, richer_dialects

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
    {"role": "assistant", "content": "Because."},
]
BODY: dict[str, Any] = {"model": "m", "messages": TURNS, "max_tokens": 5, "temperature": 0.5, "top_k": 20, "seed": 1}


def test_vllm_gets_the_body_as_it_is() -> None:
    assert VLLM.apply(BODY) == BODY
    assert VLLM.apply({"max_completion_tokens": 6, "max_tokens": 5}) == {"max_completion_tokens": 6, "max_tokens": 5}


def test_system_text_opens_the_first_user_turn_and_roles_alternate() -> None:
    openai, bare, newest = BASES
    assert openai.apply(BODY)["messages"][0] == TURNS[0]
    assert bare.apply(BODY) == {
        "model": "m",
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Be brief.\n\nHello."}, {"type": "text", "text": "Why?"}],
            },
            TURNS[3],
        ],
        "max_tokens": 5,
        "seed": 1,
    }
    assert newest.apply(BODY)["max_completion_tokens"] == 5
    assert "max_tokens" not in newest.apply(BODY)


def test_turns_with_tools_stay_apart_and_no_text_is_lost() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    turns = [{"role": "assistant", "content": "a"}, call, {"role": "user", "content": "b", "name": "ada"}, TURNS[0]]
    assert BASES[1].apply({"messages": [TURNS[0], *turns]})["messages"] == [
        *turns[:2],
        {"role": "user", "content": "Be brief."},
        turns[2],
        {"role": "user", "content": "Be brief."},
    ]


def test_a_completion_keeps_the_limit_of_its_tokens() -> None:
    body = {"prompt": [1, 2], "max_tokens": 1, "prompt_logprobs": 0, "priority": 3}
    dialect = Dialect("max_completion_tokens", dropped=frozenset(("priority",)))
    assert dialect.apply(body) == {"prompt": [1, 2], "max_tokens": 1, "prompt_logprobs": 0}


@pytest.mark.parametrize("base", BASES)
def test_what_is_tried_is_richer_than_what_works_and_fits_eight_calls(base: Dialect) -> None:
    richer = richer_dialects(base)
    assert all(dialect != base and dialect.dropped <= base.dropped for dialect in richer)
    assert 1 + BASES.index(base) + 1 + len(richer) <= 7  # the present one and the bases before; one is for letters
    assert len({dialect.name for dialect in (VLLM, *BASES, *richer)}) == len({VLLM, *BASES, *richer})


def test_a_callers_field_is_refused_by_name_unless_it_asks_for_nothing() -> None:
    assert BASES[0].refused_fields({"temperature": 1, "top_p": None, "seed": 3, "max_tokens": 9}) == []
    assert BASES[0].refused_fields({"temperature": 0.5, "top_k": 3, "stream_options": {}}) == [
        "stream_options",
        "temperature",
        "top_k",
    ]
