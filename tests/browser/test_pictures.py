"""A picture of each view at two widths, with the example histories, as README and docs show them.

make pictures    # writes those of README and docs to docs/pictures; all of them to var/pictures
"""

import os
from itertools import islice
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from examples.demo import load_plan
from tests.browser.conftest import go, sign_in
from tests.live.suite import ROOT, Suite

SHOWN = ("summary-1440", "timeline-390", "system-1440")
"""Those that README and docs show."""
HEIGHTS = {1440: 1000, 390: 844}
MOST_BYTES = 220_000
TENANT, USER = "pictures", "demo-shopper"


@pytest.fixture(scope="module", autouse=True)
def histories(suite: Suite) -> None:
    """The users of the demo, in its parts, so that the summaries have versions."""
    for user in load_plan().users:
        events = iter([event.model_dump(mode="json", exclude_none=True) for event in user.events()])
        for size in user.parts:
            suite.tell(user.user, *islice(events, size), tenant=TENANT)


def open_view(page: Page, suite: Suite, view: str) -> None:
    sign_in(page, suite, USER, TENANT, admin=True)
    expect(page.locator("#state")).to_have_text("up to date")
    go(page, view)
    expect(page.get_by_role("heading", level=1)).to_contain_text(view)
    if view == "Summary":  # whose stream does not end
        page.locator(".claims summary", has_text="outdoor gear").last.click()
        expect(page.locator(".evidence li").first).to_be_visible()
        return
    expect(page.locator("#main").locator(".loading, [aria-busy=true]")).to_have_count(0)
    if view == "Timeline":
        page.locator(".timeline > .current").get_by_text("What changed").click()
    if view == "Try":
        plan = next(user for user in load_plan().users if user.user == USER)
        titles = [item if isinstance(item, str) else item.title for item in plan.recommend.candidates]
        page.get_by_label("Candidates").fill("\n".join(titles))
        page.get_by_role("button", name="Rank").click()
        expect(page.locator("#rank-result li")).to_have_count(len(plan.recommend.candidates))


@pytest.mark.parametrize("view", ["Users", "Summary", "Timeline", "History", "Try", "Keys", "Settings", "System"])
def test_a_picture_of(view: str, page: Page, suite: Suite, tmp_path: Path) -> None:
    folder = Path(os.environ.get("ALIGNX_PICTURES", tmp_path))
    open_view(page, suite, view)
    for width, height in HEIGHTS.items():
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=folder / f"{view.lower()}-{width}.png")


@pytest.mark.parametrize("name", SHOWN)
def test_readme_or_docs_show(name: str) -> None:
    picture = ROOT / f"docs/pictures/{name}.png"
    assert picture.stat().st_size <= MOST_BYTES
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(f"pictures/{name}.png" in page.read_text() for page in pages)
