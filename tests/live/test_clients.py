"""Today's clients, unchanged: the SDKs of OpenAI and Anthropic, openai-agents, and the official MCP client.

They run in a virtual environment of their own, since their needs are not the suite's. What docs/how-to/clients.md tells
a reader to paste is pasted.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.live.clients.tool_engine import MODEL
from tests.live.suite import ROOT, Suite, run

pytestmark = pytest.mark.live

CLIENTS = Path(__file__).with_name("clients")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/how-to/clients.md").read_text(), re.MULTILINE | re.DOTALL)
ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.completed",
]


def visit(python: Path, suite: Suite, *program: object, **environment: str) -> str:
    """What a program of the clients' environment prints."""
    own = {"ALIGNX_URL": suite.url, "ALIGNX_API_KEY": suite.new_key("clients"), "ALIGNX_MODEL": MODEL}
    return run(python, *program, **own, **environment).stdout


def ask(python: Path, suite: Suite, name: str, **environment: str) -> Any:
    return json.loads(visit(python, suite, CLIENTS / name, **environment))


def once(kinds: list[str]) -> list[str]:
    """Without repeats of the one before."""
    return [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]


@pytest.mark.parametrize(
    ("example", "printed"),
    list(
        zip(
            EXAMPLES,
            ["You said: Suggest a book.", "The tool says: 3 copies of Solaris", "end_turn", "I like short books"],
            strict=True,
        )
    ),
    ids=["responses", "agents", "anthropic", "mcp"],
)
def test_an_example_of_the_docs(client_python: Path, talking_suite: Suite, example: str, printed: str) -> None:
    assert printed in visit(client_python, talking_suite, "-c", example)


def test_openais_sdk_uses_the_responses_api(client_python: Path, talking_suite: Suite) -> None:
    seen = ask(client_python, talking_suite, "ask_responses.py")
    assert (seen["text"], seen["status"], seen["tokens"], seen["user"]) == ("You said: Hello.", "completed", 12, "ann")
    assert once(seen["events"]) == ORDER
    assert seen["call"] == ["stock", {"title": "Solaris"}]
    assert seen["after"] == "The tool says: 3 copies"
    assert seen["model"] == MODEL
    assert seen["errors"] == [
        ["NotFoundError", "model_not_found", "model"],
        ["UnprocessableEntityError", "invalid_request", "previous_response_id"],
        ["UnprocessableEntityError", "invalid_request", "store"],
        ["NotFoundError", "model_not_found", "model"],
        ["NotFoundError", "route_unknown", None],
    ]


def test_anthropics_sdk_uses_the_messages_api(client_python: Path, talking_suite: Suite) -> None:
    seen = ask(client_python, talking_suite, "ask_messages.py")
    assert (seen["text"], seen["reason"], seen["usage"]) == ("You said: Hello.", "end_turn", [5, 4, 3])
    assert (seen["user"], seen["has_request_id"]) == ("ann", True)
    assert seen["events"][0] == "message_start"
    assert seen["events"][-2:] == ["message_delta", "message_stop"]
    assert seen["call"] == ["tool_use", "stock", {"title": "Solaris"}]
    assert (seen["after"], seen["streamed_tokens"]) == ("The tool says: 3 copies", 3)
    assert seen["errors"] == [
        ["NotFoundError", "not_found_error", True],
        ["UnprocessableEntityError", "invalid_request_error", True],
        ["UnprocessableEntityError", "invalid_request_error", True],
        ["AuthenticationError", "authentication_error", True],
    ]


def test_the_mcp_client_uses_every_tool(client_python: Path, talking_suite: Suite) -> None:
    scopes = ["preferences:read", "events:write", "select", "recommend", "users:erase"]
    with talking_suite.client("clients") as http:
        minted = http.post("/v1/tokens", json={"user": "mcp-token", "scopes": scopes})
        assert minted.status_code == 201, minted.text
    visits = ask(client_python, talking_suite, "ask_mcp.py", ALIGNX_USER_TOKEN=minted.json()["token"])
    assert [visit["version"] for visit in visits] == ["2026-07-28", "2025-11-25", "2026-07-28", "2026-07-28"]
    for visit in visits:
        assert visit["tools"] == ["get_preferences", "record_event", "select", "recommend", "forget"]
        names = [(name, is_error) for name, is_error, _, _ in visit["calls"]]
        assert names == [
            ("record_event", False),
            ("get_preferences", False),
            ("select", False),
            ("recommend", False),
            ("forget", False),
            ("get_preferences", True),
        ]
        assert "I like short books" in visit["calls"][1][3]
        assert {"choice", "items", "method"} <= set(visit["calls"][2][2])
        assert "No history" in visit["calls"][5][3]
