"""What README and docs tell a reader to paste, pasted: page by page, in their order, in one shell each.

What a `text` block shows, the block before it prints. `python -m docs.code_blocks` lists what is left out, and why.
"""

import re
import sys
from pathlib import Path

import pytest

from docs.code_blocks import RUN, Block, find_blocks, list_pages
from tests.conftest import free_port
from tests.live.suite import ROOT, Suite, run

PASTED = {page: [block for block in find_blocks(page) if not block.mark] for page in list_pages()}
KNOWN = {"faq.md": "nia", "privacy.md": "nia", "claims.md": "ada", "keys.md": "ada"}
"""Pages that speak of a user whom another page has made."""
PRELUDE = f'alignx() {{ "{sys.executable}" -m alignx.cli "$@"; }}\n'


def write_script(blocks: list[Block], suite: Suite, key: str) -> str:
    """One shell script of all blocks, which says before each which one begins."""
    script, shop = PRELUDE, str(free_port())
    for number, block in enumerate(blocks):
        text = block.text.replace("http://127.0.0.1:8080", suite.url).replace("8200", shop)
        text = text.replace("$(cat var/secrets/user_key)", key)
        text = text.replace(".venv/bin/alignx ", "alignx ").replace(".venv/bin/python ", f"{sys.executable} ")
        script += f"echo '@@ {number}'\n"
        if block.language == "python":
            script += f"{sys.executable} - <<'END_OF_PROGRAM'\n{text}END_OF_PROGRAM\n"
        elif block.language in RUN:
            script += text
    return script


@pytest.mark.parametrize(
    "page",
    [page for page, blocks in PASTED.items() if any(block.language in RUN for block in blocks)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_blocks_of(page: Path, suite: Suite) -> None:
    suite.new_key("acme")  # the tenant whose settings pages change
    key = suite.new_key(f"page-{page.stem.lower()}", admin=True)
    if user := KNOWN.get(page.name):
        suite.tell(user, "I buy few things.", tenant=f"page-{page.stem.lower()}")
    (ROOT / "var").mkdir(exist_ok=True)
    blocks = PASTED[page]
    script, own = write_script(blocks, suite, key), {"ALIGNX_URL": suite.url, "ALIGNX_API_KEY": key, "COLUMNS": "200"}
    done = run("bash", "-euo", "pipefail", "-c", script, **own)
    printed = dict(re.findall(r"@@ (\d+)\n(.*?)(?=@@ \d+\n|\Z)", done.stdout, re.DOTALL))
    for number, block in enumerate(blocks):
        if block.language == "text":
            for line in block.text.splitlines():
                assert line in printed[str(number - 1)], block.where
