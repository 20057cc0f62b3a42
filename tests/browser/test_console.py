"""The web console as a person uses it, in a real Chromium, on the real suite.

Needs a Chromium on the path (Debian: `apt-get install chromium`); `make test` installs it when it may. Where there is
none the tests are skipped and say so; in CI they fail.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.live.suite import Suite

SHORT = "TLS encrypts the line."
LONG = "What a wonderful question! Let us dive deep into the amazing and endless world of TLS today!!!"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        missing = "no Chromium on the path: the console is NOT tested in a browser"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        page.set_default_timeout(10_000)
        yield page
        browser.close()


def sign_in(page: Page, suite: Suite, user: str) -> None:
    page.goto(f"{suite.url}/console")
    page.get_by_label("API key").fill(suite.new_key("browser"))
    page.get_by_label("User", exact=True).fill(user)
    page.get_by_role("button", name="Open").click()


def test_summary_appears_is_edited_and_decides(page: Page, suite: Suite) -> None:
    events = [{"type": "comparison", "query": f"q{i}", "chosen": SHORT, "rejected": LONG} for i in range(8)]
    with suite.client("browser") as client:
        client.post("/v1/users/ada/events", json={"events": events}, headers={"Prefer": "wait=10"}).raise_for_status()
        sign_in(page, suite, "ada")
        expect(page.locator("#summary")).to_contain_text("short")

        # A version that is written elsewhere shows by itself.
        statement = {"type": "statement", "text": "I want sources."}
        client.post("/v1/users/ada/events", json={"events": [statement]}).raise_for_status()
        expect(page.locator("#summary")).to_contain_text("I want sources.")

        page.get_by_role("button", name="Edit", exact=True).click()
        page.locator("#edit-text").fill("Short answers with <b>sources</b>.")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#summary")).to_have_text("Short answers with <b>sources</b>.")
        assert client.get("/v1/users/ada/preferences?format=text").text == "Short answers with <b>sources</b>."

    page.locator("#select-items").fill(f"{LONG}\n{SHORT}")
    page.get_by_role("button", name="Which would they choose?").click()
    expect(page.locator("#select-result")).to_contain_text(SHORT)


def test_the_summary_stays_when_an_update_fails(page: Page, suite: Suite) -> None:
    with suite.client("browser") as client:
        statement = {"type": "statement", "text": "I want sources."}
        client.post("/v1/users/eve/events", json={"events": [statement]}, headers={"Prefer": "wait=10"})
        current = client.get("/v1/users/eve/preferences").text
    problem = '{"status": 502, "detail": "The model declines to write one."}'
    events = (("version", current), ("delta", '{"text": "I cannot help with that."}'), ("error", problem))
    stream = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in events)
    pattern = re.compile("/v1/users/eve/preferences/stream")
    page.route(pattern, lambda route: route.fulfill(content_type="text/event-stream", body=stream))
    sign_in(page, suite, "eve")
    expect(page.locator("#state")).to_contain_text("connecting")  # the stream has ended
    expect(page.locator("#summary")).to_contain_text("I want sources.")
    expect(page.locator("#summary")).not_to_contain_text("cannot help")
    page.unroute(pattern)


def test_a_sentence_opens_to_its_events(page: Page, suite: Suite) -> None:
    with suite.client("browser") as client:
        texts = ("I love <b>jazz</b>.", "Green tea for me.")
        statements = [{"type": "statement", "text": text} for text in texts]
        answer = client.post("/v1/users/uma/events", json={"events": statements}, headers={"Prefer": "wait=10"})
        current = client.get("/v1/users/uma/preferences").json()
    jazz, _ = answer.json()["ids"]
    gone = f"{int(jazz.split('-')[0]) - 5}-0"
    supported = {
        "id": "a",
        "text": "Likes jazz.",
        "kind": "model",
        "support": [gone, jazz],
        "count": 2,
        "supported": True,
    }
    unsupported = {"id": "b", "text": "Likes opera.", "kind": "model", "support": [], "count": 0, "supported": False}
    own = {"id": "c", "text": "I like tea.", "kind": "own", "support": [], "count": 0, "supported": True}
    record = json.dumps(current | {"claims": [own, supported, unsupported]})
    pattern = re.compile("/v1/users/uma/preferences/stream")
    stream = f"event: version\ndata: {record}\n\n"
    page.route(pattern, lambda route: route.fulfill(content_type="text/event-stream", body=stream))
    sign_in(page, suite, "uma")
    claims = page.locator("#claims > li")
    expect(claims).to_have_count(3)
    expect(claims.nth(0)).to_have_text("I like tea. the user's own words")
    expect(claims.nth(2)).to_have_text("Likes opera. no event supports this")
    claims.nth(1).locator("summary").click()
    expect(claims.nth(1).locator("li")).to_have_text(
        ["An event that is no longer kept.", re.compile(r"statement: I love <b>jazz</b>\.$")]
    )
    page.unroute(pattern)


def test_a_wrong_key_is_told(page: Page, suite: Suite) -> None:
    page.goto(f"{suite.url}/console")
    page.get_by_label("API key").fill("ax_0000_" + "a" * 52)
    page.get_by_label("User", exact=True).fill("ada")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#notice")).to_contain_text(re.compile("key", re.IGNORECASE))


def test_api_reference_lists_every_call(page: Page, suite: Suite) -> None:
    page.goto(f"{suite.url}/docs")
    for path in ("/v1/users/{user}/events", "/v1/chat/completions", "/admin/keys", "precondition_required"):
        expect(page.locator("body")).to_contain_text(path, timeout=30_000)  # a busy machine draws it slowly
