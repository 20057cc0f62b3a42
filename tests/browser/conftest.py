"""The browser looks at the same suite as the live tests.

Needs a Chromium on the path (Debian: `apt-get install chromium`); `make test` installs it when it may. Where there is
none the tests are skipped and say so; in CI they fail.
"""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.live.suite import Suite

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run")
PATIENCE_MS = 15_000  # a browser beside two vLLM on two cores is slow, and not wrong


def miss(what: str) -> None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        miss("no Chromium on the path: the console is NOT tested in a browser")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    page.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda entry: faults.append(entry.text) if "Content Security" in entry.text else None)
    yield page
    page.close()
    assert faults == []


def sign_in(page: Page, suite: Suite, user: str = "", tenant: str = "browser", **fields: object) -> None:
    """With a fresh key of the tenant; opens the user's summary if one is named."""
    page.goto(f"{suite.url}/console")
    page.get_by_label("API key").fill(suite.new_key(tenant, **fields))
    page.get_by_role("button", name="Open").click()
    if user:
        open_user(page, user)


def open_user(page: Page, user: str) -> None:
    page.get_by_label("User", exact=True).fill(user)
    page.get_by_role("button", name="Open", exact=True).click()


def go(page: Page, view: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=view, exact=True).click()
