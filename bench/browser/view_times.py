"""The console's views in a browser on the same machine: from the click until all of the view is drawn, at a tenant of
100,000 users, for a user of 10,000 events and 500 versions and by turns for one of 10 events and two versions.

The first visits, which fill caches, are not counted. Drawing waits for the next of 60 frames a second.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect, sync_playwright
from redis import Redis

from bench.harness import comparison, running_suite
from bench.page import Row, median_ms, percentile
from bench.reads import USERS
from services.storage.key_names import KeySpace
from tests.browser.conftest import FLAGS, open_user, sign_in
from tests.live.suite import Suite

TENANT = "crowd"
SIZES = {"large": (10_000, 500), "small": (10, 2)}
"""Events and versions of a user."""
OF_USER = ("summary", "timeline", "history", "try")
OF_TENANT = ("users", "keys", "settings", "system")
ROUNDS, WARM = 10, 2
MOST = "≤ 100"
_BATCH = 500

SHOW = """async ([address, act]) => {
  const main = document.getElementById("main");
  const before = main.querySelector(".view");
  const pending = () => main.querySelector('[aria-busy="true"], .loading, .rest button:disabled');
  const frame = () => new Promise(requestAnimationFrame);
  const start = performance.now();
  if (act) main.querySelector(act).click();
  else if (location.hash === address) dispatchEvent(new Event("hashchange"));
  else location.hash = address;
  while ((address && main.querySelector(".view") === before) || pending()) {
    await frame();
    if (performance.now() - start > 30000) throw new Error(`${address ?? act} is not drawn`);
  }
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return (performance.now() - start) / 1000;
}"""
"""Seconds from a change of address, or a click on the element `act`, until nothing is loading and a frame is drawn."""


def measure() -> list[Row]:
    with running_suite({"ALIGNX_SUMMARY__KEEP_VERSIONS": "500"}) as suite:
        fill(suite)
        with open_console(suite) as page:
            return [*time_views(page), *time_pages(page)]


def fill(suite: Suite) -> None:
    """Both users by the gateway. The crowd's entries, all that its list reads, are copies: appends for so many take
    minutes, and bench.reads measures them."""
    with suite.client(TENANT) as client:
        for user, (events, versions) in SIZES.items():
            for start in range(0, events, _BATCH):
                body = {"events": [comparison(number) for number in range(start, min(start + _BATCH, events))]}
                wait = {"Prefer": "wait=20"}  # a user's events that wait are bounded
                client.post(f"/v1/users/{user}/events", json=body, headers=wait).raise_for_status()
            path = f"/v1/users/{user}/preferences"
            etag = client.get(path).headers["ETag"]
            for number in range(versions):
                text = f"Likes plain answers that name their sources. Waters the basil at {number} o'clock."
                answer = client.put(path, json={"text": text}, headers={"If-Match": etag}).raise_for_status()
                etag = answer.headers["ETag"]
    with Redis.from_url(suite.redis_url) as redis:
        keys = KeySpace(int(redis.get("pi:shards") or 0))
        state = redis.hgetall(keys.user(TENANT, "small").state)
        for start in range(0, USERS, _BATCH):
            pipe = redis.pipeline(transaction=False)
            for number in range(start, start + _BATCH):
                own = keys.user(TENANT, f"user-{number:06}")
                pipe.hset(own.state, mapping=state)
                pipe.zadd(own.index, {f"user-{number:06}": 0})
            pipe.execute()


@contextmanager
def open_console(suite: Suite) -> Iterator[Page]:
    """Signed in, with both users opened in their order."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        sign_in(page, suite, tenant=TENANT, admin=True)
        for user in SIZES:
            page.evaluate("location.hash = '#/users'")
            open_user(page, user)
            expect(page.locator("#summary")).to_contain_text("basil")
        yield page
        browser.close()


def time_views(page: Page) -> list[Row]:
    addresses = {
        f"{view} of the {user} user": f"#/u/{place}/{view}" for view in OF_USER for place, user in enumerate(SIZES, 1)
    }
    addresses |= {view: f"#/{view}" for view in OF_TENANT}
    seconds: dict[str, list[float]] = {name: [] for name in addresses}
    for round_ in range(WARM + ROUNDS):
        for name, address in addresses.items():
            took = page.evaluate(SHOW, [address, None])
            if round_ >= WARM:
                seconds[name].append(took)
    rows = []
    for name, took in seconds.items():
        must = "" if "small" in name else MOST
        rows.append(Row(f"{name}, p50 of {ROUNDS}", median_ms(took), "ms", must))
        rows.append(Row("the same, the slowest", percentile(took, 1) * 1000, "ms"))
    return rows


def time_pages(page: Page) -> list[Row]:
    """What a click within a view brings: the next page of a list, and a filter that lets no event pass."""
    rows = []
    for name, address, act in (
        (f"the next page of {USERS:,} users", "#/users", ".rest button"),
        ("the next page of the timeline", "#/u/1/timeline", ".rest button"),
        ("the next page of the history", "#/u/1/history", ".rest button"),
        ("a filter of the history that few events pass", "#/u/1/history", "input[value=comparison]"),
    ):
        took = []
        for _ in range(WARM + ROUNDS):
            page.evaluate(SHOW, ["#/system", None])
            page.evaluate(SHOW, [address, None])
            took.append(page.evaluate(SHOW, [None, act]))
        rows.append(Row(f"{name}, p50 of {ROUNDS}", median_ms(took[WARM:]), "ms", MOST))
    return rows
