"""Links, blocks and navigation of README and docs, and the files that pages name."""

import json
import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import promql_parser
import pytest
import yaml

from docs.code_blocks import PARSED, ROOT, RUN, Block, find_blocks, list_pages

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCKS = [block for page in list_pages() for block in find_blocks(page)]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and the site make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        plain = unicodedata.normalize("NFKC", words).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{link} leads nowhere"
        if page.is_relative_to(DOCS):
            assert target.is_relative_to(DOCS), f"{link} leads out of the site: name the path as code"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", list_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_code_stands_between_fences_that_name_its_language(page: Path) -> None:
    assert len(re.findall(r"^```", page.read_text(), re.MULTILINE)) == 2 * len(list(find_blocks(page)))
    for before, line in re.findall(r"^(.*)\n\n(    \S.*)$", prose(page), re.MULTILINE):
        assert re.match(r" |[-*] |\d+\. ", before), f"an indented block, which nothing runs: {line}"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_is_run_or_says_why_not(block: Block) -> None:
    if block.runner:
        assert block.page.name in (ROOT / block.runner).read_text(), f"{block.runner} does not read the page"
    elif not block.reason:
        assert block.language in RUN | PARSED | {"text"}, f"nothing runs {block.language!r}: mark it with the reason"


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language in PARSED], ids=lambda block: block.where
)
def test_data_parse(block: Block) -> None:
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        assert list(yaml.safe_load_all(block.text))
    else:
        for query in re.split(r"\n(?! )", block.text.strip()):
            promql_parser.parse(query)


def test_a_text_follows_what_prints_it() -> None:
    pasted = [block for block in BLOCKS if not block.mark]
    for before, block in pairwise(pasted):
        if block.language == "text":
            assert before.page == block.page
            assert before.language in RUN, block.where


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2])

    def paths(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [path for part in parts for path in paths(part)]  # type: ignore[attr-defined]

    assert sorted(paths(nav)) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", ["AGENTS.md", "docs/architecture.md", "docs/glossary.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:alignx|services|gateway|training|evaluation|docker|docs|tests)/[\w./-]+)`", text))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
