"""A body may be nested a little, by whichever API it comes; beyond that the caller is told, and nothing fails."""

from typing import Any

import pytest

from services.response.chat_request import MOST_LEVELS
from tests.unit.services.response.conftest import Service


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def bodies(levels: int) -> dict[str, dict[str, Any]]:
    turn = {"role": "user", "content": "hello"}
    schema = {"type": "object", "properties": nested(levels)}
    function = {"name": "look", "parameters": schema}
    return {
        "/v1/chat/completions": {"messages": [turn], "tools": [{"type": "function", "function": function}]},
        "/v1/responses": {"input": "hello", "tools": [{"type": "function", "strict": None, **function}]},
        "/v1/messages": {
            "model": "tiny",
            "max_tokens": 8,
            "messages": [turn],
            "tools": [{"name": "look", "input_schema": schema}],
        },
    }


@pytest.mark.parametrize("path", bodies(0))
@pytest.mark.parametrize(("levels", "is_taken"), [(50, True), (MOST_LEVELS + 1, False), (300, False), (900, False)])
def test_a_body_may_be_nested_a_little(service: Service, path: str, levels: int, is_taken: bool) -> None:
    answer = service.http.post(path, json=bodies(levels)[path])
    if is_taken:
        assert answer.status_code == 200, answer.text
    else:
        assert answer.status_code in (400, 422), answer.text
        assert f"nested {MOST_LEVELS} levels" in answer.text


@pytest.mark.parametrize("path", bodies(0))
def test_from_some_level_on_every_body_is_refused_by_name(service: Service, path: str) -> None:
    """Also a body whose translation alone is nested too deeply."""
    answers = [service.http.post(path, json=bodies(levels)[path]) for levels in range(90, 111)]
    statuses = [answer.status_code for answer in answers]
    assert (statuses[0], set(statuses)) == (200, {200, 422})
    assert statuses == sorted(statuses)
    refused = [answer.json()["error"]["message"] for answer in answers if answer.status_code == 422]
    assert set(refused) == {f"body: may be nested {MOST_LEVELS} levels deep"}
