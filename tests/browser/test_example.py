"""The example page of another origin, in a real Chromium: it mints its token, records choices and streams a chat."""

import json
import os
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.conftest import free_port
from tests.live.suite import ROOT, Suite, mock_engine, wait_until_up


def test_the_page_learns_from_its_reader(page: Page, tmp_path: Path) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    with mock_engine(tmp_path) as engine:
        settings = {"ALIGNX_ENGINE__URL": f"{engine}/v1", "ALIGNX_GATEWAY__CORS_ORIGINS": json.dumps([origin])}
        with Suite(tmp_path, settings).running() as suite:
            key = suite.new_key("shop", scopes=["tokens:mint", "events:write", "preferences:read", "select", "chat"])
            environment = os.environ | {"ALIGNX_URL": suite.url, "ALIGNX_API_KEY": key, "EXAMPLE_PORT": str(port)}
            server = subprocess.Popen(
                [sys.executable, "examples/web/app.py"], cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}
            )
            try:
                wait_until_up(origin, server)
                page.goto(origin)
                expect(page.locator("#summary")).to_have_text("Nothing yet.")
                title = page.locator("#items button").first.inner_text()
                page.locator("#items button").first.click()
                expect(page.locator("#summary")).not_to_have_text("Nothing yet.")
                expect(page.locator("#items button").first).not_to_have_text(title)
                page.get_by_role("button", name="Ask").click()
                expect(page.locator("#answer")).not_to_be_empty()
                with suite.client("shop") as client:
                    [stored] = client.get("/v1/users/web-visitor/events").json()["events"]
                    assert stored["interaction"]["chosen"] == title
            finally:
                server.terminate()
                server.wait(10)
