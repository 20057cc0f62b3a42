"""README's chat with OpenAI's client, with a language model and without one; tests/live/test_pages.py runs the rest."""

import os
import subprocess
import sys

import pytest

from docs.code_blocks import find_blocks
from tests.live.suite import ROOT, Suite

[CHAT] = [block for block in find_blocks(ROOT / "README.md") if "import OpenAI" in block.text]


def run_chat(suite: Suite) -> subprocess.CompletedProcess[str]:
    """The block against `suite` instead of the address in the README."""
    text = CHAT.text.replace("http://127.0.0.1:8080", suite.url)
    environment = {**os.environ, "ALIGNX_API_KEY": suite.new_key("readme")}
    command = [sys.executable, "-c", text]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.live
def test_openai_client(engine_suite: Suite) -> None:
    with engine_suite.client("readme") as client:
        event = {"type": "statement", "text": "I want short answers."}
        client.post("/v1/users/ada/events", json={"events": [event]}).raise_for_status()
    done = run_chat(engine_suite)
    assert done.returncode == 0, done.stderr
    assert "'mode': 'summary'" in done.stdout


def test_openai_client_without_a_language_model_is_told_so(suite: Suite) -> None:
    done = run_chat(suite)
    assert done.returncode != 0
    assert "Error code: 501" in done.stderr
    assert "language model" in done.stderr
