"""README's chat with OpenAI's client and a language model; tests/live/test_pages.py runs the rest."""

import sys

import pytest

from docs.code_blocks import find_blocks
from tests.live.suite import ROOT, Suite, run

[CHAT] = [block for block in find_blocks(ROOT / "README.md") if "import OpenAI" in block.text]


@pytest.mark.live
def test_openai_client(engine_suite: Suite) -> None:
    engine_suite.tell("ada", "I want short answers.", tenant="readme")
    text = CHAT.text.replace("http://127.0.0.1:8080", engine_suite.url)
    done = run(sys.executable, "-c", text, ALIGNX_API_KEY=engine_suite.new_key("readme"))
    assert "'mode': 'summary'" in done.stdout
