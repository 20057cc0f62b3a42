"""What the client that openapi-python-client generates makes of the suite. Prints a line a check.

PYTHONPATH=FOLDER ALIGNX_URL=… ALIGNX_API_KEY=… python use_generated.py     # FOLDER holds the package `generated`
"""

import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from generated.api.history import append, append_many, erase, events
from generated.api.preferences import edit, preferences
from generated.api.response import chat, recommend, select
from generated.api.users import users
from generated.client import AuthenticatedClient
from generated.models import (
    ChatRequest,
    ChatRequestMessage,
    EditRequest,
    EventsRequest,
    RecommendRequest,
    SelectRequest,
    StatementInteraction,
)
from generated.types import File

USER = "generated"
statement = StatementInteraction(text="I like short books.", type_="statement")


def check_append(client: Any) -> None:
    answer = append.sync(USER, client=client, body=EventsRequest(events=[statement]), prefer="wait=10")
    assert len(answer.ids) == 1


def check_append_many(client: Any) -> None:
    lines = b"\n".join(
        json.dumps({"user": f"g{number}", "events": [statement.to_dict()]}).encode() for number in (1, 2)
    )
    answer = append_many.sync_detailed(client=client, body=File(io.BytesIO(lines), mime_type="application/jsonl"))
    assert answer.status_code == 207, answer.content
    assert [json.loads(line)["status"] for line in answer.content.splitlines()] == [202, 202]


def check_pages(client: Any) -> None:
    assert {user.user for user in users.sync(client=client, prefix="g").users} == {USER, "g1", "g2"}
    assert len(events.sync(USER, client=client).events) == 1


def check_summary(client: Any) -> None:
    answer = preferences.sync_detailed(USER, client=client)
    changed = edit.sync(USER, client=client, body=EditRequest(text="Likes brevity."), if_match=answer.headers["ETag"])
    assert (changed.text, changed.version) == ("Likes brevity.", answer.parsed.version + 1)


def check_choices(client: Any) -> None:
    items = ["A short book", "A long book"]
    assert select.sync(USER, client=client, body=SelectRequest(items=items)).choice == 0
    assert len(recommend.sync(USER, client=client, body=RecommendRequest(candidates=items)).items) == 2


def check_chat(client: Any) -> None:
    messages = [ChatRequestMessage(role="user", content="Hello.")]
    answer = chat.sync_detailed(client=client, body=ChatRequest(messages=messages, user=USER))
    assert json.loads(answer.content)["choices"][0]["message"]["content"] == "You said: Hello."


def check_erasure(client: Any) -> None:
    assert erase.sync_detailed(USER, client=client).status_code == 204
    assert preferences.sync(USER, client=client).type_.endswith("user_unknown")


CHECKS: dict[str, Callable[[Any], None]] = {
    "append": check_append,
    "append many as JSON lines": check_append_many,
    "pages": check_pages,
    "read and edit": check_summary,
    "select and recommend": check_choices,
    "chat": check_chat,
    "erase, and a problem": check_erasure,
}

with AuthenticatedClient(base_url=os.environ["ALIGNX_URL"], token=os.environ["ALIGNX_API_KEY"]) as shared:
    for name, check in CHECKS.items():
        why = ""
        try:
            check(shared)
        except Exception as error:  # whatever a client fails with is what the table tells
            why = f"{type(error).__name__}: {error}"
        sys.stdout.write(json.dumps({"client": "openapi-python-client", "check": name, "why": why}) + "\n")
