"""Every view and state of the console, at two widths, light and dark: what axe-core finds, whether anything sticks out
sideways, and a picture of each for a person to look at.

    pytest tests/browser/test_views.py --basetemp=FOLDER    # the pictures are then in FOLDER

axe-core comes by `npm ci` in this folder (`make test` does it). Without it the tests are skipped and say so; in CI
they fail.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from alignx.schemas.forgetting import Forgotten
from alignx.schemas.outcomes import Arm, ArmFigures, Difference, Kind, Measure, Rate, Uplift
from services.outcomes.uplift import estimate_rate
from tests.browser.conftest import go, miss, open_user, sign_in
from tests.live.suite import Suite

AXE = Path(__file__).with_name("node_modules") / "axe-core" / "axe.min.js"
WIDTHS = (1440, 390)
USER = "ada.lovelace@example.org"
TENANT = "gallery"
EVENT_STREAM = {"Content-Type": "text/event-stream"}
DOWN = {"type": "urn:alignx:problem:store_unavailable", "detail": "Redis does not answer. Try again."}
OFFICE = "office"  # where admin keys are: few
SHORT = "Twelve minutes, and five more with the lid on."
LONG = "Oh, rice! What a lovely choice! There is so much to say about steam before we begin, so let us take our time!"

Step = Callable[[Page, Suite], None]


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        miss("axe-core is missing: run `npm ci` in tests/browser; accessibility is NOT tested")
    return AXE.read_text()


@pytest.fixture(scope="module", autouse=True)
def history(suite: Suite) -> None:
    """A user with every kind of event, and versions by the profile and by hand."""
    comparisons = [{"type": "comparison", "query": f"Rice, {i}?", "chosen": SHORT, "rejected": LONG} for i in range(9)]
    table = {"title": "Oak table", "category": "furniture", "price": 240}
    glass = {"title": "Glass table", "category": "furniture", "price": 310}
    turns = [{"role": "user", "content": "Is it vegan?"}, {"role": "assistant", "content": "Yes, all of it."}]
    others = [
        {"type": "statement", "text": "I want sources, not opinions."},
        {"type": "purchase", "item": table, "considered": [glass]},
        {"type": "rating", "item": "The Dispossessed", "value": 5, "review": "Careful and humane."},
        {"type": "click", "query": "chairs", "clicked": "Ash chair", "shown": ["Ash chair", "Steel chair"]},
        {"type": "post", "prompt": "Your kitchen?", "text": "Small, quiet, with one good knife."},
        {"type": "dialogue", "messages": turns},
        {"type": "demographic", "text": "Lives in Turin."},
    ]
    for events in (comparisons, others):
        suite.tell(USER, *events, tenant=TENANT)
    text = "Likes short, matter-of-fact answers that name their sources. Buys wooden furniture."
    changed = text.replace("short, matter-of-fact", "brief and plain") + " Lives in Turin."
    path, last = f"/v1/users/{USER}/preferences", {"If-Match": "*"}
    with suite.client(TENANT) as client:
        for own in (text, changed):
            client.put(path, json={"text": own}, headers=last).raise_for_status()


# --- states ------------------------------------------------------------------------------------


def answer(page: Page, path: str, body: object, status: int = 200) -> None:
    page.route(re.compile(path), lambda route: route.fulfill(status=status, json=body))


def until_loaded(page: Page) -> None:
    expect(page.locator("#main").locator(".loading, [aria-busy=true]")).to_have_count(0)


def view(name: str, *, admin: bool = False, user: str = USER) -> Step:
    def step(page: Page, suite: Suite) -> None:
        sign_in(page, suite, user, OFFICE if admin else TENANT, admin=admin)
        if user:
            expect(page.locator("#state")).not_to_have_text("connecting…")
        go(page, name)
        until_loaded(page)
        if name == "Keys" and admin:
            page.get_by_label("Tenant", exact=True).first.select_option(OFFICE)
            until_loaded(page)

    return step


def asked(name: str, button: str, *, admin: bool = False) -> Step:
    """A view with the dialog that its first button of such a name opens."""

    def step(page: Page, suite: Suite) -> None:
        view(name, admin=admin)(page, suite)
        page.get_by_role("button", name=re.compile(button)).first.click()
        expect(page.get_by_role("dialog")).to_be_visible()

    return step


def signed_out(page: Page, suite: Suite) -> None:
    page.goto(f"{suite.url}/console")
    expect(page.locator("#health")).to_have_text("ready")


def wrong_key(page: Page, suite: Suite) -> None:
    signed_out(page, suite)
    page.get_by_label("API key").fill("ax_0000_" + "a" * 52)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#notice")).to_contain_text(re.compile("key", re.IGNORECASE))


def users_listed(page: Page, suite: Suite) -> None:
    """By the gateway itself: the fields of a user and of the page are those that it sends."""
    post = {"type": "post", "text": "I sold my car."}
    for number, name in enumerate(("grace.hopper@example.org", "u-4711", "5f0c0d9e-94a8-4c1e-9e53-0c1a52b6a8c1"), 1):
        suite.tell(name, *[post] * number, tenant="crowd")
    sign_in(page, suite, tenant="crowd")
    expect(page.locator(".users > li")).to_have_count(3)
    expect(page.locator(".users > li").nth(2)).to_contain_text("2 events · version 1 of ")
    page.get_by_label("User", exact=True).fill("gr")
    expect(page.get_by_text("1 user with these first letters")).to_be_visible()
    page.get_by_label("User", exact=True).fill("")
    expect(page.get_by_text("3 users", exact=True)).to_be_visible()


def summary_open(page: Page, suite: Suite) -> None:
    current = {"text": "Likes jazz. Prefers short answers. Likes opera.", "version": 4, "source": "llm:qwen3-8b"}
    claims = [
        {"id": "a", "text": "Likes jazz.", "kind": "stated", "support": ["9-0"], "count": 1, "supported": True},
        {"id": "b", "text": "Prefers short answers.", "kind": "own", "support": [], "count": 0, "supported": True},
        {"id": "c", "text": "Likes opera.", "kind": "model", "support": [], "count": 0, "supported": False},
    ]
    quality = {"profile": {"comparisons": 9, "accuracy": 0.89, "low": 0.56, "high": 0.98, "mean_probability": 0.8}}
    state = {"created_at": now(), "events_total": 16, "pending": 3, "waiting_for": "cadence", "quality": quality}
    stream = f"event: version\ndata: {json.dumps(current | {'claims': claims} | state)}\n\n"
    page.route(re.compile("/preferences/stream"), lambda route: route.fulfill(headers=EVENT_STREAM, body=stream))
    sign_in(page, suite, USER, TENANT)
    page.locator(".claims summary").first.click()
    expect(page.locator(".evidence li")).to_have_count(1)


def summary_failing(page: Page, suite: Suite) -> None:
    answer(page, "/preferences/stream", DOWN, status=503)
    sign_in(page, suite, USER, TENANT)
    expect(page.locator("#summary")).to_contain_text("Redis does not answer")


def now(hours: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def timeline_open(page: Page, suite: Suite) -> None:
    reason = "The reply says of itself that it cannot answer."
    text = "I am sorry, but I cannot write about a person whom I do not know."
    draft = {"check": "refusal", "reason": reason, "text": text, "source": "llm:qwen3-8b", "created_at": now(-1)}
    answer(page, "/preferences/rejected", {"drafts": [draft | {"created_at": now(1)}]})

    def think(route: Route) -> None:
        body = route.fetch().json()
        reasoning = "They chose the shorter text nine times of nine, and asked for sources once."
        body["versions"] = [version | {"reasoning": reasoning} for version in body["versions"]]
        route.fulfill(json=body)

    page.route(re.compile(r"/preferences/versions\?"), think)
    view("Timeline")(page, suite)
    current = page.locator(".timeline > .current")
    for title in ("What changed", "Reasoning", "How it came about"):
        current.get_by_text(title).click()
    expect(current.locator("ins").first).to_be_visible()
    page.locator(".timeline > .refused summary").click()
    page.get_by_role("button", name="Compare two versions").click()
    expect(page.locator(".diff")).to_have_count(2)


def dead_letters(page: Page, suite: Suite) -> None:
    interaction = {"type": "statement", "text": "I want sources, not opinions."}
    letter = {"event_id": "5-0", "error": "The engine gave no summary after 5 attempts.", "failed_at": now()}
    answer(page, "/dead-letters", {"events": [letter | {"interaction": interaction}, letter], "next": "5-0"})
    view("History")(page, suite)
    expect(page.locator(".refused")).to_have_count(2)


def erase_asked(page: Page, suite: Suite) -> None:
    asked("History", "Erase this user")(page, suite)
    page.get_by_role("dialog").get_by_role("textbox").fill(USER)


def forget_event_asked(page: Page, suite: Suite) -> None:
    asked("History", "^Forget the comparison")(page, suite)
    expect(page.get_by_role("dialog")).to_contain_text("Rice, 8?")


def ask_about(page: Page, words: str) -> None:
    page.get_by_label("About").fill(words)
    page.get_by_role("button", name="Show what would go").click()


def forget_asked(page: Page, suite: Suite) -> None:
    """By the gateway itself, which only tells what would go."""
    view("History")(page, suite)
    ask_about(page, "rice")
    expect(page.get_by_role("button", name="Forget 9 events")).to_be_visible()


def forgotten(page: Page, suite: Suite) -> None:
    receipt = Forgotten(
        event_ids=tuple(f"{number}-0" for number in range(1, 10)),
        dead_letters=1,
        versions=3,
        own_texts=1,
        claims=7,
        rejected_drafts=2,
        checkpoint=True,
        version=4,
        update_queued=True,
    )
    answer(page, "/forget$", receipt.model_dump(mode="json"))
    forget_asked(page, suite)
    page.get_by_role("button", name="Forget 9 events").click()
    expect(page.get_by_role("region", name="Forgotten")).to_be_focused()


def forget_failing(page: Page, suite: Suite) -> None:
    forget_event_asked(page, suite)
    answer(page, r"/events/[\d-]+$", DOWN, status=503)
    page.get_by_role("button", name="Forget the event").click()
    expect(page.get_by_role("alert")).to_contain_text("Redis does not answer")


def forget_offline(page: Page, suite: Suite) -> None:
    view("History")(page, suite)
    page.context.set_offline(offline=True)
    ask_about(page, "rice")
    expect(page.locator("#notice")).to_contain_text("The gateway does not answer")


def nothing_to_forget(page: Page, suite: Suite) -> None:
    view("History")(page, suite)
    ask_about(page, "submarines")
    expect(page.get_by_text("Nothing that is kept is about “submarines”.")).to_be_visible()


def nothing_filtered(page: Page, suite: Suite) -> None:
    view("History")(page, suite)
    boxes = page.get_by_role("group", name="Types").get_by_role("checkbox")
    expect(boxes.first).to_be_visible()
    for box in boxes.all():
        box.uncheck()
    expect(page.locator(".note-title").first).to_have_text("No such event")


def tried(page: Page, suite: Suite) -> None:
    replies = {
        "none": LONG,
        "summary": SHORT,
        "ica": "Twelve minutes; rest it for five.",
        "pba": "Steam it for twelve minutes [1].",
        "direct": "Twelve minutes, as with the last batch that you asked about.",
    }

    def reply(route: Route) -> None:
        piece = {"choices": [{"delta": {"content": replies[route.request.post_data_json["personalization"]["mode"]]}}]}
        headers = EVENT_STREAM | {"X-AlignX-Summary-Version": "3"}
        route.fulfill(headers=headers, body=f"data: {json.dumps(piece)}\n\ndata: [DONE]\n\n")

    answer(page, "/v1/models", {"data": [{"id": "qwen3-8b"}]})
    page.route(re.compile("/v1/chat/completions"), reply)
    view("Try")(page, suite)
    page.get_by_label("Message").fill("How long do I steam rice?")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".chat li")).to_have_count(10)
    page.locator("#select-items").fill(f"{LONG}\n{SHORT}")
    page.get_by_role("button", name="Which would they choose?").click()
    page.get_by_label("Candidates").fill("Oak table\nGlass table\nAsh chair")
    page.get_by_role("button", name="Rank").click()
    expect(page.locator("#rank-result li")).to_have_count(3)
    expect(page.locator("#select-result .bar-line")).to_have_count(2)


def keys_made(page: Page, suite: Suite) -> None:
    view("Keys", admin=True)(page, suite)
    page.get_by_role("button", name="Make a key").click()
    page.get_by_label("Name").fill("storefront")
    page.locator("form.inset").get_by_label("Tenant").fill(OFFICE)
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator(".secret")).to_be_visible()


def settings_wrong(page: Page, suite: Suite) -> None:
    view("Settings", admin=True)(page, suite)
    page.get_by_label("Update events", exact=True).fill("many")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".problem")).to_be_visible()


def system_poor(page: Page, suite: Suite) -> None:
    recent = {"comparisons": 50, "accuracy": 0.44, "low": 0.31, "high": 0.58, "mean_probability": 0.47}
    entry = {"comparisons": 812, "accuracy": 0.43, "low": 0.4, "high": 0.46, "mean_probability": 0.46}
    engine: dict[str, Any] = entry | {"recent": recent | {"baselines": {"coin": 0.5, "profile": 0.66}}}
    answer(page, "/v1/quality$", {"engine": engine, "profile": entry | {"accuracy": 0.66, "low": 0.63, "high": 0.69}})
    known = {"model": "qwen3-8b", "dialect": "vllm", "context_tokens": 32768, "letters": True, "accuracies": {}}
    state = {"state": "degraded", "detail": "The engine refuses each request.", "words": "model not loaded"}
    checks = {"drain": "ok", "redis": "ok", "worker": "No worker has reported lately.", "preference": "ok"}
    answer(page, "/readyz", {"status": "ready", "checks": checks, "engine": known | state})
    view("System")(page, suite)
    expect(page.locator(".explain")).to_be_visible()


def arm(*rates: tuple[int, int, int]) -> ArmFigures:
    """Of (users, trials, successes) by measure; each user's trials are alike."""
    measures = [
        estimate_rate(n, x, y, xx=x * x // n, yy=y * y // n, xy=x * y // n) if n else Rate() for n, x, y in rates
    ]
    served: dict[Kind, int] = {"chat": 2_310, "selection": 640, "recommendation": 1_200}
    return ArmFigures(served=served, accuracy=measures[0], click_rate=measures[1], feedback_rate=measures[2])


def uplift_told(page: Page, suite: Suite) -> None:
    """One measure of each kind: a difference, none that can be told, and too few users."""
    arms: dict[Arm, ArmFigures] = {
        "personalized": arm((410, 640, 455), (600, 1_200, 310), (9, 14, 11)),
        "control": arm((392, 610, 330), (590, 1_150, 301), (1, 2, 1)),
    }
    differences: dict[Measure, Difference] = {
        "accuracy": Difference(value=0.1699, low=0.0961, high=0.2414),
        "click_rate": Difference(value=-0.0034, low=-0.0538, high=0.0471),
    }
    period = {"since": now(-24 * 30), "until": now(-1)}
    found = Uplift.model_validate({"holdout_share": 0.1, **period, "arms": arms, "uplift": differences})
    answer(page, "/v1/quality/uplift", found.model_dump(mode="json"))
    view("System")(page, suite)
    verdicts = (
        "Personalization helps, by 9.6 to 24.1 points.",
        "The interval holds zero",
        "n = 14 and 2. It takes two users",
    )
    expect(page.locator(".verdict")).to_contain_text(list(verdicts))


def uplift_loading(page: Page, suite: Suite) -> None:
    page.route(re.compile("/v1/quality/uplift"), lambda _: None)
    sign_in(page, suite, tenant=TENANT)
    go(page, "System")
    card = page.get_by_role("region", name="Is personalization worth it?")
    expect(card.get_by_text("Loading…")).to_be_visible()


def failing(path: str, name: str) -> Step:
    def step(page: Page, suite: Suite) -> None:
        answer(page, path, DOWN, status=503)
        view(name, admin=True)(page, suite)
        expect(page.locator(".note").first).to_be_visible()

    return step


def loading(page: Page, suite: Suite) -> None:
    page.route(re.compile("/v1/users/.*/(events|dead-letters)"), lambda _: None)
    sign_in(page, suite, USER, TENANT)
    go(page, "History")
    expect(page.locator(".loading").first).to_be_visible()


def offline(page: Page, suite: Suite) -> None:
    sign_in(page, suite, USER, TENANT)
    expect(page.locator("#state")).to_have_text("up to date")
    page.context.set_offline(offline=True)
    go(page, "History")
    expect(page.locator("#offline")).to_be_visible()
    expect(page.locator(".note-title").first).to_have_text("Offline")


def reference(page: Page, suite: Suite) -> None:
    page.goto(f"{suite.url}/docs")
    expect(page.locator(".reference details").first).to_be_visible(timeout=30_000)
    page.locator(".reference details summary").nth(3).click()


STATES: dict[str, Step] = {
    "sign-in": signed_out,
    "sign-in-wrong-key": wrong_key,
    "users": view("Users", user=""),
    "users-listed": users_listed,
    "users-failing": failing(r"/v1/users\?", "Users"),
    "summary": view("Summary"),
    "summary-claims": summary_open,
    "summary-failing": summary_failing,
    "summary-edit": asked("Summary", "^Edit$"),
    "summary-unknown": view("Summary", user="nobody"),
    "timeline": view("Timeline"),
    "timeline-open": timeline_open,
    "timeline-restore": asked("Timeline", "Restore version"),
    "timeline-unknown": view("Timeline", user="nobody"),
    "history": view("History"),
    "history-dead-letters": dead_letters,
    "history-erase": erase_asked,
    "history-filtered": nothing_filtered,
    "history-forget-event": forget_event_asked,
    "history-forget": forget_asked,
    "history-forgotten": forgotten,
    "history-forget-failing": forget_failing,
    "history-forget-offline": forget_offline,
    "history-forget-nothing": nothing_to_forget,
    "history-loading": loading,
    "history-offline": offline,
    "try": view("Try"),
    "try-tried": tried,
    "keys": view("Keys", admin=True),
    "keys-made": keys_made,
    "keys-revoke": asked("Keys", "^Revoke", admin=True),
    "keys-forbidden": view("Keys"),
    "settings": view("Settings", admin=True),
    "settings-wrong": settings_wrong,
    "settings-failing": failing("/admin/tenants", "Settings"),
    "system": view("System"),
    "system-poor": system_poor,
    "system-uplift": uplift_told,
    "system-uplift-loading": uplift_loading,
    "system-uplift-failing": failing("/v1/quality/uplift", "System"),
    "reference": reference,
}


@pytest.mark.parametrize("state", STATES)
def test_a_view_is_open_to_all_and_fits(
    state: str, page: Page, suite: Suite, axe: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    STATES[state](page, suite)
    page.evaluate(axe)
    folder = tmp_path_factory.getbasetemp() / "views"
    folder.mkdir(exist_ok=True)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="light" if scheme == "light" else "dark", reduced_motion="reduce")
            page.screenshot(
                path=folder / f"{state}-{width}-{scheme}.png", full_page=page.locator("dialog").count() == 0
            )
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            found = page.evaluate("axe.run(document).then(({ violations }) => violations)")
            assert [(rule["id"], [node["html"][:160] for node in rule["nodes"]]) for rule in found] == []


def test_a_user_opened_before_is_offered_again(page: Page, suite: Suite) -> None:
    sign_in(page, suite, USER, TENANT)
    go(page, "Users")
    page.locator(".users").get_by_role("button", name=USER).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(USER)
    go(page, "Users")
    open_user(page, "someone-else")
    expect(page.get_by_role("heading", level=1)).to_contain_text("someone-else")
