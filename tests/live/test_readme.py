"""What the README tells a reader to paste, pasted."""

import os
import re
import subprocess
import sys

import pytest

from tests.live.suite import ROOT, Suite

_FENCE = re.compile(r"^```(sh|python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
README = (ROOT / "README.md").read_text()
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = _FENCE.findall(README)
CURL_BLOCKS = [text for language, text in BLOCKS if language == "sh" and "curl" in text]
CLI_BLOCKS = [text for language, text in BLOCKS if language == "sh" and "bin/alignx ingest" in text]
SDK_BLOCKS = [text for language, text in BLOCKS if "import AlignX" in text]
OPENAI_BLOCKS = [text for language, text in BLOCKS if "import OpenAI" in text]
ANSWERS = [text for language, text in BLOCKS if language == "text"]


def run(suite: Suite, program: list[str], text: str) -> str:
    """Standard output of a block against `suite` instead of the address in the README."""
    key = suite.new_key("readme")
    text = text.replace("http://127.0.0.1:8080", suite.url).replace("$(cat var/secrets/user_key)", key)
    text = text.replace(".venv/bin/alignx ", f"{sys.executable} -m alignx.cli ")
    environment = {**os.environ, "ALIGNX_URL": suite.url, "ALIGNX_API_KEY": key, "COLUMNS": "200"}
    done = subprocess.run(
        [*program, text], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "urn:alignx:problem" not in done.stdout, done.stdout
    return done.stdout


def test_the_readme_has_every_kind_of_block() -> None:
    blocks = (CURL_BLOCKS, CLI_BLOCKS, SDK_BLOCKS, OPENAI_BLOCKS, ANSWERS)
    assert [len(texts) for texts in blocks] == [2, 1, 1, 1, 1]


def test_curl(suite: Suite) -> None:
    whole = run(suite, ["bash", "-ec"], "\n".join(CURL_BLOCKS))
    assert '"version":1' in whole
    assert ANSWERS[0].rstrip() in whole
    assert '"choice":0' in whole


def test_sdk(suite: Suite) -> None:
    assert "sources, not opinions" in run(suite, [sys.executable, "-c"], SDK_BLOCKS[0])


@pytest.mark.parametrize("line", [line for line in CLI_BLOCKS[0].splitlines() if "watch" not in line])
def test_command_line(suite: Suite, line: str) -> None:
    with suite.client("readme") as client:
        event = {"type": "statement", "text": "I like wood."}
        client.post("/v1/users/mia/events", json={"events": [event]}).raise_for_status()
    run(suite, ["bash", "-ec"], line)


def test_openai_client(engine_suite: Suite) -> None:
    with engine_suite.client("readme") as client:
        event = {"type": "statement", "text": "I want short answers."}
        client.post("/v1/users/ada/events", json={"events": [event]}).raise_for_status()
    assert "'mode': 'summary'" in run(engine_suite, [sys.executable, "-c"], OPENAI_BLOCKS[0])


def test_openai_client_without_a_language_model_is_told_so(suite: Suite) -> None:
    with pytest.raises(AssertionError, match=r"Error code: 501 - .*language model"):
        run(suite, [sys.executable, "-c"], OPENAI_BLOCKS[0])


def test_the_tutorial_from_its_second_step_on(suite: Suite) -> None:
    learned, chosen = (
        run(suite, [sys.executable, "-c"], text) for language, text in _FENCE.findall(TUTORIAL) if language == "python"
    )
    assert "I want them to last" in learned
    assert float(chosen.splitlines()[1].split()[0]) > 0.9  # the tent, not the drone
    *steps, erase = (text for language, text in _FENCE.findall(TUTORIAL) if "bin/alignx" in text)
    assert "Prefers gear that lasts" in run(suite, ["bash", "-ec"], "\n".join(steps))
    assert run(suite, ["bash", "-ec"], erase) == ""
