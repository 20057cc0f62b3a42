"""The web console as a person uses it, in a real Chromium, on the real suite."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
from playwright.sync_api import Page, Route, expect

from alignx.schemas.many_users import ListedUser, UserPage
from tests.browser.conftest import go, sign_in
from tests.live.suite import Suite

SHORT = "TLS encrypts the line."
LONG = "What a wonderful question! Let us dive deep into the amazing and endless world of TLS today!!!"


def test_summary_appears_is_edited_and_decides(page: Page, suite: Suite) -> None:
    events = [{"type": "comparison", "query": f"q{i}", "chosen": SHORT, "rejected": LONG} for i in range(8)]
    suite.tell("ada", *events, tenant="browser")
    sign_in(page, suite, "ada")
    expect(page.locator("#summary")).to_contain_text("short")

    suite.tell("ada", "I want sources.", tenant="browser")  # a version that is written elsewhere shows by itself
    expect(page.locator("#summary")).to_contain_text("I want sources.")

    page.get_by_role("button", name="Edit", exact=True).click()
    page.locator("#edit-text").fill("Short answers with <b>sources</b>.")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#summary")).to_have_text("Short answers with <b>sources</b>.")
    with suite.client("browser") as client:
        assert client.get("/v1/users/ada/preferences?format=text").text == "Short answers with <b>sources</b>.\n"

    go(page, "Try")
    page.locator("#select-items").fill(f"{LONG}\n{SHORT}")
    page.get_by_role("button", name="Which would they choose?").click()
    expect(page.locator("#select-result")).to_contain_text(SHORT)
    expect(page.locator("#select-result")).to_contain_text("Scored by")


def test_the_summary_stays_when_an_update_fails(page: Page, suite: Suite) -> None:
    suite.tell("eve", "I want sources.", tenant="browser")
    with suite.client("browser") as client:
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
    jazz, _ = suite.tell("uma", "I love <b>jazz</b>.", "Green tea for me.", tenant="browser")["ids"]
    with suite.client("browser") as client:
        current = client.get("/v1/users/uma/preferences").json()
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


def test_addresses_titles_and_storage_name_no_user(page: Page, suite: Suite) -> None:
    user = "cara@example.org"
    suite.tell(user, "I collect enamel teapots.", tenant="browser")
    sign_in(page, suite, user)
    expect(page.locator("#summary")).to_contain_text("teapots")
    for view in ("Timeline", "History", "Try", "Summary"):
        go(page, view)
        expect(page.get_by_role("heading", level=1)).to_contain_text(user)
        assert re.search(r"#/u/1/[a-z]+$", page.url)
        kept = page.evaluate("JSON.stringify([document.title, {...localStorage}, {...sessionStorage}, history.state])")
        assert "cara" not in kept
        assert "teapots" not in kept
    page.reload()
    expect(page.locator("#notice")).to_contain_text("Choose the user again")


def test_a_version_is_compared_and_restored(page: Page, suite: Suite) -> None:
    suite.tell("rosa", "I want sources.", tenant="browser")
    with suite.client("browser") as client:
        for text in ("Likes short answers with sources.", "Likes long answers with sources."):
            etag = client.get("/v1/users/rosa/preferences").headers["ETag"]
            client.put("/v1/users/rosa/preferences", json={"text": text}, headers={"If-Match": etag}).raise_for_status()
        sign_in(page, suite, "rosa")
        go(page, "Timeline")
        current = page.locator(".timeline > .current")
        current.get_by_text("What changed").click()
        expect(current.locator("del")).to_have_text("short")
        expect(current.locator("ins")).to_have_text("long")
        older = page.locator(".timeline > li").nth(1)
        older.get_by_role("button", name="Restore").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert client.get("/v1/users/rosa/preferences?format=text").text.startswith("Likes long")
        older.get_by_role("button", name="Restore").click()
        page.get_by_role("dialog").get_by_role("button", name="Restore version").click()
        expect(page.locator(".timeline > .current")).to_contain_text("Likes short answers with sources.")
        assert client.get("/v1/users/rosa/preferences?format=text").text.startswith("Likes short")


def test_the_word_diff_loses_no_word(page: Page, suite: Suite) -> None:
    page.goto(f"{suite.url}/console")
    words = ("tea", "jazz", "likes", "short", ".", "an old", "naïve")
    texts = [" ".join(words[(i * k + k) % 7] for i in range(k + 3)) for k in range(12)] + [""]
    pairs = [[before, after] for before in texts for after in texts]
    script = """async (pairs) => {
      const { wordDiff } = await import("/console/parts/word_diff.js");
      return pairs.map(([before, after]) => wordDiff(before, after));
    }"""
    for (before, after), pieces in zip(pairs, page.evaluate(script, pairs), strict=True):
        assert "".join(piece["text"] for piece in pieces if piece["kind"] != "added") == before
        assert "".join(piece["text"] for piece in pieces if piece["kind"] != "removed") == after
        assert (before == after) == all(piece["kind"] == "same" for piece in pieces)


def test_history_is_filtered_exported_and_erased(page: Page, suite: Suite, tmp_path: Path) -> None:
    texts = [f"I like number {i}." for i in range(25)]
    table = {"type": "purchase", "item": {"title": "Oak table"}, "considered": []}
    suite.tell("nils", *texts[:3], table, *texts[3:], tenant="browser")
    with suite.client("browser") as client:
        sign_in(page, suite, "nils")
        go(page, "History")
        rows = page.locator(".events > li")
        expect(rows).to_have_count(20)
        expect(rows.first).to_contain_text("number 24")
        page.get_by_role("button", name="More events").click()
        expect(rows).to_have_count(26)
        page.get_by_label("Order").select_option("Oldest first")
        expect(rows.first).to_contain_text("number 0")
        page.get_by_role("button", name="More events").click()
        expect(rows.last).to_contain_text("number 24")
        page.get_by_label("Received since").fill("2100-01-01")
        expect(rows).to_have_count(0)
        page.get_by_label("Order").select_option("Newest first")
        expect(rows).to_have_count(0)
        page.get_by_label("Received since").fill("")
        page.get_by_role("group", name="Types").get_by_label("statement").uncheck()
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("Oak table")
        with page.expect_download() as download:
            page.get_by_role("button", name="Export").click()
        download.value.save_as(tmp_path / "user.jsonl")
        assert "number 24" in (tmp_path / "user.jsonl").read_text()
        page.get_by_role("button", name="Erase this user").click()
        erase = page.get_by_role("dialog").get_by_role("button", name="Erase")
        page.get_by_role("dialog").get_by_role("textbox").fill("nil")
        expect(erase).to_be_disabled()
        page.get_by_role("dialog").get_by_role("textbox").fill("nils")
        erase.click()
        expect(page.locator("#notice")).to_contain_text("erased")
        assert client.get("/v1/users/nils/preferences").status_code == 404


def test_one_event_and_all_about_something_are_forgotten(page: Page, suite: Suite) -> None:
    texts, table = ("Grilled salmon on Fridays.", "I walk to work."), {"type": "purchase", "item": "Oak table"}
    suite.tell("mona", "I am allergic to salmon.", table, *texts, tenant="browser")
    with suite.client("browser") as client:
        sign_in(page, suite, "mona")
        go(page, "History")
        rows, dialog = page.locator(".events > li"), page.get_by_role("dialog")
        rows.filter(has_text="walk to work").get_by_role("button", name="Forget the statement").click()
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        page.keyboard.press("Escape")
        expect(rows).to_have_count(4)
        rows.filter(has_text="walk to work").get_by_role("button", name="Forget the statement").click()
        dialog.get_by_role("button", name="Forget the event").click()
        receipt = page.get_by_role("region", name="Forgotten")
        expect(receipt).to_contain_text("Events1")
        expect(rows).to_have_count(3)

        page.get_by_label("About").fill("salmon")
        page.keyboard.press("Enter")  # the rest by keyboard alone
        expect(dialog.locator(".evidence li")).to_have_count(2)
        assert len(client.get("/v1/users/mona/events").json()["events"]) == 3  # nothing has gone yet
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        expect(receipt).to_be_focused()
        expect(receipt).to_contain_text("Events2")
        expect(rows).to_have_count(1)
        kept = client.get("/v1/users/mona/events").json()["events"]
        assert [event["interaction"]["item"] for event in kept] == ["Oak table"]
        assert "salmon" not in client.get("/v1/users/mona/export").text


def test_dead_letters_are_tried_again(page: Page, suite: Suite) -> None:
    letter = {
        "event_id": "5-0",
        "error": "The reply was empty.",
        "failed_at": "2026-01-01T10:00:00Z",
        "interaction": None,
    }
    asked: list[object] = []

    def answer(route: Route) -> None:
        if route.request.method == "POST":
            asked.append(route.request.post_data_json)
            route.fulfill(status=202, json={"events": [{"event_id": "5-0", "new_event_id": "6-0"}], "pending": 1})
        else:
            route.fulfill(json={"events": [] if asked else [letter], "next": None})

    suite.tell("dora", "I want sources.", tenant="browser")
    page.route(re.compile("/v1/users/dora/dead-letters"), answer)
    sign_in(page, suite, "dora")
    go(page, "History")
    page.get_by_role("button", name="Try again", exact=True).click()
    expect(page.locator("#notice")).to_contain_text("1 event waits")
    assert asked == [{"event_ids": ["5-0"]}]


def test_users_are_listed_where_the_gateway_lists_them(page: Page, suite: Suite) -> None:
    def answer(route: Route) -> None:
        later = "after=" in route.request.url
        names = ["lea"] if later else [f"user-{i}" for i in range(3)]
        now = datetime.now(UTC)
        users = tuple(ListedUser(user=name, events=4, pending=1, version=0, created_at=now) for name in names)
        listed = UserPage(users=users, total=4, next=None if later else "user-2")
        route.fulfill(body=listed.model_dump_json(), content_type="application/json")

    page.route(re.compile(r"/v1/users\?"), answer)
    sign_in(page, suite)
    expect(page.locator(".users > li")).to_have_count(3)
    expect(page.get_by_text("4 users", exact=True)).to_be_visible()
    expect(page.locator(".users > li").first).to_contain_text("4 events · 1 waiting · since ")
    page.get_by_role("button", name="More users").click()
    page.get_by_role("button", name="lea").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("lea")


def test_a_dialog_at_work_stays_and_shows_the_secret(page: Page, suite: Suite) -> None:
    key_id = suite.new_key("slow-keys", name="slow").split("_")[1]
    held: list[Route] = []
    page.route(re.compile(f"/admin/keys/{key_id}/rotate"), lambda route: held.append(route))
    sign_in(page, suite, admin=True)
    go(page, "Keys")
    page.get_by_label("Tenant", exact=True).first.select_option("slow-keys")  # of all tenants the first page shows 25
    page.get_by_role("button", name="Rotate slow").click()
    dialog = page.get_by_role("dialog")
    with page.expect_request(re.compile("/rotate")):
        dialog.get_by_role("button", name="Rotate").click()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_disabled()
    for _ in range(3):  # a browser closes a dialog at the second whatever the page says
        page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    held[0].continue_()
    expect(dialog).to_have_count(0)
    assert _status(suite, page.get_by_label("New secret of slow").input_value(), "/v1/quality") == 200


def test_a_key_is_made_used_rotated_and_revoked(page: Page, suite: Suite) -> None:
    sign_in(page, suite, tenant="keys", admin=True)
    go(page, "Keys")
    page.get_by_role("button", name="Make a key").click()
    page.get_by_label("Name").fill("feed")
    page.locator("form.inset").get_by_label("Tenant").fill("keys-of-the-feed")
    page.get_by_role("button", name="Read only").click()
    page.get_by_label("Expires after, in days").fill("30")
    page.get_by_role("button", name="Make the key").click()
    key = page.get_by_label("Key feed").input_value()
    assert _status(suite, key, "/v1/quality") == 200
    assert _status(suite, key, "/admin/keys") == 403
    page.get_by_role("button", name="Done").click()
    assert key not in page.content()
    page.get_by_label("Tenant", exact=True).first.select_option("keys-of-the-feed")
    rotate = page.get_by_role("button", name="Rotate feed")
    expect(rotate).to_have_count(1)  # a key of another tenant may have the same name, and stands until the list is here

    rotate.click()
    page.get_by_role("dialog").get_by_label("The secret until now opens for").select_option("0")
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    rotated = page.get_by_label("New secret of feed").input_value()
    assert _status(suite, key, "/v1/quality") == 401
    assert _status(suite, rotated, "/v1/quality") == 200

    page.get_by_role("button", name="Revoke feed").click()
    page.get_by_role("dialog").get_by_role("textbox").fill(rotated.split("_")[1])
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.locator("#notice")).to_contain_text("revoked")
    assert _status(suite, rotated, "/v1/quality") == 401
    expect(page.locator(".audit > li")).to_have_text(
        [re.compile(f"key.{act}") for act in ("revoked", "rotated", "created")]
    )


def test_a_user_token_is_minted(page: Page, suite: Suite) -> None:
    sign_in(page, suite, tenant="keys", admin=True)
    go(page, "Keys")
    page.get_by_label("User of the token").fill("ada")
    page.get_by_role("button", name="Mint a token").click()
    token = page.get_by_label("User token", exact=True).input_value()
    assert _status(suite, token, "/v1/users/ada/preferences") == 404  # nothing is known of her, and this may ask
    assert _status(suite, token, "/v1/users/bo/preferences") == 403


def _status(suite: Suite, key: str, path: str) -> int:
    return httpx.get(suite.url + path, headers={"Authorization": f"Bearer {key}"}).status_code


def test_settings_are_changed_refused_by_field_and_given_back(page: Page, suite: Suite) -> None:
    sign_in(page, suite, tenant="settled", admin=True)
    go(page, "Settings")
    events = page.get_by_label("Update events", exact=True)
    events.fill("7")
    page.get_by_label("Denied topics", exact=True).fill("gambling\nalcohol")
    page.get_by_label("Event ttl", exact=True).fill('{"click": "90d"}')
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notice")).to_contain_text("Saved")
    path = f"{suite.url}/admin/tenants/settled/settings"
    headers = {"Authorization": f"Bearer {suite.admin_key}"}
    view = httpx.get(path, headers=headers).json()
    assert sorted(view["overridden"]) == ["denied_topics", "event_ttl", "update_events"]
    assert view["settings"]["event_ttl"] == {"click": "90d"}
    assert (view["settings"]["update_events"], view["settings"]["denied_topics"]) == (7, ["gambling", "alcohol"])

    events.fill("many")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#setting-update_events-problem")).to_contain_text("integer")
    expect(events).to_be_focused()
    page.get_by_role("button", name="Use the deployment's value of Update events").click()
    expect(events).to_have_value("20")
    assert httpx.get(path, headers=headers).json()["overridden"] == ["denied_topics", "event_ttl"]


def test_an_engine_answers_in_the_modes_that_are_asked_for_side_by_side(page: Page, talking_suite: Suite) -> None:
    events = [{"type": "comparison", "query": f"q{i}", "chosen": SHORT, "rejected": LONG} for i in range(3)]
    talking_suite.tell("ada", *events, tenant="browser")
    sign_in(page, talking_suite, "ada")
    go(page, "Try")
    page.get_by_role("group", name="Answer from").get_by_label("direct").uncheck()
    page.get_by_label("Message").fill("What is TLS?")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".column-card")).to_have_count(4)
    for mode in ("none", "summary", "ica", "pba"):
        expect(page.locator(f".column-card[aria-label={mode}]")).to_contain_text("You said: What is TLS?")
    expect(page.locator(".column-card[aria-label=summary]")).to_contain_text("summary version 1")
    go(page, "System")
    expect(page.get_by_text("mock", exact=True)).to_be_visible()


def test_a_number_under_half_is_explained(page: Page, suite: Suite) -> None:
    ends = {"low": 0.182, "high": 0.667}
    quality = {"profile": {"comparisons": 12, "accuracy": 0.4, **ends, "mean_probability": 0.45, "recent": None}}
    page.route(re.compile("/v1/quality$"), lambda route: route.fulfill(json=quality))
    sign_in(page, suite)
    go(page, "System")
    expect(page.locator(".explain")).to_contain_text("chance alone explains it")
    expect(page.locator(".quality")).to_contain_text("n = 12")
    expect(page.locator(".quality")).to_contain_text("18.2 % to 66.7 %")
    quality["profile"] |= {"comparisons": 1_200, "low": 0.373, "high": 0.428}
    go(page, "Users")
    go(page, "System")
    expect(page.locator(".explain")).to_contain_text("it is no accident")


def test_the_uplift_of_users_held_out_is_told(page: Page, suite: Suite) -> None:
    sign_in(page, suite, tenant="held", admin=True)
    go(page, "System")
    card = page.get_by_role("region", name="Is personalization worth it?")
    expect(card).to_contain_text("No users are held out")
    card.get_by_role("button", name="Open Settings").click()
    page.get_by_label("Holdout share", exact=True).fill("0.5")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notice")).to_contain_text("Saved")
    arms = {"control": 0, "personalized": 0}
    with suite.client("held") as client:
        while client.get("/v1/quality/uplift").json()["holdout_share"] != 0.5:  # settings are known for a second
            page.wait_for_timeout(100)
        for number in range(8):
            bought = {"events": [{"type": "purchase", "item": "green tea"}]}
            client.post(f"/v1/users/user-{number}/events", json=bought).raise_for_status()
            asked = {"items": ["green tea", "black coffee"]}
            answer = client.post(f"/v1/users/user-{number}/select", json=asked).raise_for_status().json()
            arms[answer["arm"]] += 1
            client.post(f"/v1/users/user-{number}/events", json=bought).raise_for_status()
    go(page, "System")
    expect(card).to_contain_text("50.0 % of users")
    expect(card).to_contain_text(f"Personalized, served{arms['personalized']} selections")
    right = card.get_by_role("region", name="Selections that were right")
    expect(right).to_contain_text(f"n = {arms['control']} of {arms['control']} users (95 %: ")
    expect(right).to_contain_text("No difference can be told yet")


def test_the_console_is_used_by_keyboard_alone(page: Page, suite: Suite) -> None:
    page.goto(f"{suite.url}/console")
    page.keyboard.type(suite.new_key("browser"))  # the field has the focus
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Users", level=1)).to_be_visible()
    _tab_to(page, "User")
    page.keyboard.type("kim")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("unknown user")
    _tab_to(page, "What they say of themselves", first=("select", "s"))
    page.keyboard.type("I want sources.")
    _tab_to(page, "Send event")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("I want sources.")
    _tab_to(page, "Edit")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Summary", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Edit", exact=True)).to_be_focused()


def _tab_to(page: Page, name: str, first: tuple[str, str] | None = None) -> None:
    """Presses Tab until the element of that name has the focus; on the way types a letter into an element of a tag."""
    named = """() => { const at = document.activeElement;
      return [at.tagName.toLowerCase(), at.labels?.[0]?.textContent ?? at.textContent]; }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        tag, text = page.evaluate(named)
        if first and tag == first[0]:
            page.keyboard.type(first[1])
        if text.strip() == name:
            return
    raise AssertionError(f"Tab does not reach {name}")


def test_api_reference_lists_every_call(page: Page, suite: Suite) -> None:
    page.goto(f"{suite.url}/docs")
    for path in ("/v1/users/{user}/events", "/v1/chat/completions", "/admin/keys", "precondition_required"):
        expect(page.locator("body")).to_contain_text(path, timeout=30_000)  # a busy machine draws it slowly
