"""The fenced blocks of README and docs: what each is, and by what it is run.

    python -m docs.code_blocks    # how many are run, and how many are not, with the reasons

`sh` and `python` are run by tests/live/test_pages.py, page by page in their order; a `text` block is what the block
before it prints. `json`, `yaml` and `promql` are parsed (tests/unit/docs). A comment on the line before a block, or
`blocks …` anywhere in a page for all of it, says what else holds:

    <!-- run by tests/live/test_clients.py -->
    <!-- not run: needs a cluster -->
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
RUN: Final = frozenset(("sh", "python"))
PARSED: Final = frozenset(("json", "yaml", "promql"))
_FENCE: Final = re.compile(
    r"(?:^<!-- (?P<mark>(?:not run:|run by) [^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_OF_PAGE: Final = re.compile(r"^<!-- blocks (?P<mark>(?:not run:|run by) [^\n]+) -->$", re.MULTILINE)


class Block(NamedTuple):
    page: Path
    line: int
    """Of its fence."""
    language: str
    text: str
    mark: str
    """"run by FILE", "not run: REASON", or empty."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runner(self) -> str:
        """The test that a mark names; empty where there is none."""
        return self.mark.removeprefix("run by ") if self.mark.startswith("run by ") else ""

    @property
    def reason(self) -> str:
        """Why it is not run; empty where it is."""
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else ""


def list_pages() -> list[Path]:
    """README and the pages that people write."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/how-to").glob("*.md"))]


def find_blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    whole = _OF_PAGE.search(text)
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        mark = found["mark"] or (whole["mark"] if whole else "")
        yield Block(page, line, found["language"], found["text"], mark)


def main() -> None:
    blocks = [block for page in list_pages() for block in find_blocks(page)]
    reasons = Counter(block.reason for block in blocks if block.reason)
    print(f"{len(blocks)} blocks: {len(blocks) - reasons.total()} run or checked, {reasons.total()} not run")
    for reason, number in reasons.most_common():
        print(f"{number:4} {reason}")


if __name__ == "__main__":
    main()
