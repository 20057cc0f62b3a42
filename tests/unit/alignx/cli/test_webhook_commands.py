"""`alignx webhooks` as it is typed: what it sends and prints."""

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from alignx.cli.main import app
from alignx.cli.terminal import Terminal
from tests.unit.alignx.conftest import MOMENT

WEBHOOK = {
    "id": "wh_1",
    "url": "https://shop.example/\x1b[2Jx",
    "events": ["user.erased"],
    "created_at": MOMENT.isoformat(),
    "disabled": "It answered 410 Gone.",
}
CREATED = WEBHOOK | {"secret": "whsec_abc"}
EVENT = {"type": "user.erased", "timestamp": MOMENT.isoformat(), "data": {"user": "ada"}}
DELIVERY = {"id": "msg_1", "event": EVENT, "status": "failed", "attempts": 12, "error": "timeout"}
ANSWERS: dict[str, tuple[int, Any]] = {
    "POST /v1/webhooks": (201, CREATED),
    "GET /v1/webhooks": (200, {"webhooks": [WEBHOOK]}),
    "PATCH /v1/webhooks/wh_1": (200, WEBHOOK),
    "DELETE /v1/webhooks/wh_1": (204, None),
    "POST /v1/webhooks/wh_1/rotate": (200, CREATED),
    "POST /v1/webhooks/wh_1/test": (202, {"id": "msg_1"}),
    "GET /v1/webhooks/wh_1/deliveries": (200, {"deliveries": [DELIVERY]}),
    "POST /v1/webhooks/wh_1/deliveries/msg_1/replay": (202, {"id": "msg_1"}),
}


@pytest.mark.parametrize(
    ("args", "call", "body", "printed"),
    [
        ("create https://a.example --event user.erased", "POST /v1/webhooks", {"events": ["user.erased"]}, "whsec_abc"),
        ("list", "GET /v1/webhooks", None, "410 Gone"),
        ("enable wh_1", "PATCH /v1/webhooks/wh_1", {"enabled": True}, "is enabled"),
        ("delete wh_1", "DELETE /v1/webhooks/wh_1", None, "is deleted"),
        ("rotate wh_1 --overlap 2h", "POST /v1/webhooks/wh_1/rotate", {"overlap_s": 7_200}, "whsec_abc"),
        ("test wh_1", "POST /v1/webhooks/wh_1/test", None, "msg_1"),
        ("deliveries wh_1", "GET /v1/webhooks/wh_1/deliveries", None, "timeout"),
        ("deliveries wh_1 --json", "GET /v1/webhooks/wh_1/deliveries", None, '"attempts": 12'),
        ("replay wh_1 msg_1", "POST /v1/webhooks/wh_1/deliveries/msg_1/replay", None, "is sent again"),
    ],
)
def test_each_command(args: str, call: str, body: dict[str, Any] | None, printed: str):
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        status, content = ANSWERS[f"{request.method} {request.url.path}"]
        return httpx.Response(status, json=content)

    terminal = Terminal(transport=httpx.MockTransport(answer))
    command = ["--key", "ax_k1_secret", "webhooks", *args.split()]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, command, obj=terminal)
    assert result.exit_code == 0, result.output
    (request,) = requests
    assert f"{request.method} {request.url.path}" == call
    assert printed in result.output
    assert "\x1b" not in result.output
    if body is not None:
        assert body.items() <= json.loads(request.content).items()


def test_an_unknown_event_is_wrong_usage():
    command = ["--key", "ax_k1_secret", "webhooks", "create", "https://a.example", "--event", "user.born"]
    result = CliRunner().invoke(app, command, obj=Terminal())
    assert result.exit_code == 2
    assert "preferences.version" in result.output
