"""The receiver of docs/how-to/webhooks.md, pasted and run."""

import os
import re
import subprocess
import sys
import time

import httpx

from services.preference.webhooks.signing import WebhookSecrets
from tests.conftest import free_port
from tests.live.suite import ROOT

PAGE = (ROOT / "docs" / "how-to" / "webhooks.md").read_text()
BODY = re.findall(r"^```json\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)[0].encode()
(RECEIVER,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_receiver_takes_an_event_once_and_refuses_forgeries() -> None:
    secrets, port = WebhookSecrets("t" * 16), free_port()
    secret = secrets.secret("acme", "wh_1", 0)
    environment = {**os.environ, "WEBHOOK_SECRET": secret, "PORT": str(port)}
    command = [sys.executable, "-c", RECEIVER]
    receiver = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        headers = secrets.headers("acme", "wh_1", [0], ("msg_1", int(time.time()), BODY))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=50)) as client:
            statuses = [
                client.post("/", content=BODY, headers=headers).status_code,
                client.post("/", content=BODY, headers=headers).status_code,
                client.post("/", content=BODY + b" ", headers=headers).status_code,
            ]
    finally:
        receiver.terminate()
        printed, _ = receiver.communicate(timeout=20)
    assert statuses == [204, 204, 400]
    assert printed == "preferences.version ada 3\n"
