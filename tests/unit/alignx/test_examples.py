"""The examples are what they claim to be; examples/demo.py runs through them to its end; the shop takes corrections."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from alignx.cli.terminal import Terminal
from alignx.schemas.interactions import Interaction
from examples import demo, shop
from services.profile import fold, scoring
from tests.unit.alignx.conftest import FakeService, problem

PLAN = demo.load_plan()
KINDS = {
    "news_reader.jsonl": {"click", "rating", "statement"},
    "shopper.jsonl": {"purchase", "rating", "click", "statement"},
    "forum_writer.jsonl": {"comparison", "post", "dialogue", "demographic", "statement"},
}


@pytest.mark.parametrize("user", PLAN.users, ids=lambda user: user.user)
def test_example_is_valid_long_and_in_order(user: demo.User):
    events = user.events()
    assert 20 <= len(events) <= 30
    assert sum(user.parts) == len(events)
    assert KINDS[user.history] <= set(Counter(event.type for event in events))
    moments = [event.occurred_at for event in events if event.occurred_at]
    assert len(moments) == len(events)
    assert all(earlier < later for earlier, later in pairwise(moments))
    assert (moments[-1] - moments[0]).days > 90


@pytest.mark.parametrize("user", PLAN.users, ids=lambda user: user.user)
def test_taste_changes_after_the_first_part(user: demo.User):
    events = user.events()
    early = choice(events[: user.parts[0]], user)
    assert early != user.select.expected
    assert choice(events, user) == user.select.expected
    scores = scoring.scores(folded(events), user.recommend.query, user.recommend.candidates)
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: len(user.recommend.expected)]
    assert set(best) == set(user.recommend.expected)


def choice(events: tuple[Interaction, ...], user: demo.User) -> int:
    odds = scoring.probabilities(folded(events), user.select.query, user.select.items)
    return odds.index(max(odds))


def folded(events: tuple[Interaction, ...]) -> scoring.Profile:
    state = scoring.Profile()
    for event in events:
        state, _foreseen = fold.fold(state, event)
    return state


Demo = Callable[..., Result]


@pytest.fixture
def run(terminal: Terminal) -> Demo:
    def run(*args: str, **variables: str) -> Result:
        environment = {"ALIGNX_API_KEY": "ax_k1_secret", **variables}
        return CliRunner(env=environment).invoke(demo.app, args, obj=terminal)

    return run


def test_demo_twice(service: FakeService, run: Demo):
    for _ in range(2):
        result = run()
        assert result.exit_code == 0, result.output
    for user in PLAN.users:
        assert len(service.users[user.user].events) == sum(user.parts)
        assert user.chat in result.stdout
    assert "+Likes what 29 events show." in result.stdout
    assert "How the summary changed, from version 1 to 3" in result.stdout
    assert "-> as expected after the change: Camping lamp" in result.stdout
    assert "-> expected after the change: How trees and cycle lanes" in result.stdout
    assert "It lasts." in result.stdout
    assert result.stdout.endswith("/alignx show demo-news-reader\n")
    for described in demo.MODES.values():
        assert result.stdout.count(f"{described}:") == len(PLAN.users)


def test_the_last_line_shows_the_same_service_again(run: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv/bin/python"))
    variables = {"ALIGNX_KEY_FILE": "/data/secrets/user_key", "ALIGNX_URL": "http://service:18080"}
    assert run("--only", "demo-shopper", **variables).stdout.endswith(
        "ALIGNX_KEY_FILE=/data/secrets/user_key .venv/bin/alignx --url http://service:18080 show demo-shopper\n"
    )


def test_a_toy_is_not_shown(service: FakeService, run: Demo):
    service.models = ["alignx-tiny"]
    result = run()
    assert result.exit_code == 1
    assert "The engine is alignx-tiny, which writes nonsense" in result.stderr
    assert not service.users


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (501, "no_engine", "it needs a language model. Add one with make up, or"),
        (503, "engine_unavailable", "The engine does not answer."),
    ],
)
def test_demo_without_an_engine_says_so_in_one_line(service: FakeService, run: Demo, status: int, code: str, says: str):
    body = {"error": {"message": "The engine does not answer.", "code": code}}
    service.chats += [httpx.Response(status, json=body)]
    result = run()
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("The chat is left out")]
    assert says in line
    assert "By the summary" not in result.stdout


def test_demo_goes_on_while_the_engine_does_not_answer(service: FakeService, run: Demo):
    service.models, service.writes = [], False
    service.chats += [problem(503, "engine_unavailable", "The engine does not answer.")]
    result = run("--only", "demo-shopper")
    assert result.exit_code == 0, result.output
    assert "the profile writes the summaries" in result.stderr
    assert "The chat is left out" in result.stdout


def test_demo_while_no_worker_runs(service: FakeService, run: Demo):
    service.writes = False
    result = run("--only", "demo-shopper", "--wait", "1")
    assert result.exit_code == 0
    assert "is a worker running?" in result.stderr
    assert "Nothing is known yet." in result.stdout


def test_a_user_that_the_demo_has_not_is_wrong_usage(run: Demo):
    assert run("--only", "nobody").exit_code == 2


# --- the shop ----------------------------------------------------------------------------------


def test_a_correction_of_the_shop_is_taken_or_refused_in_words(service: FakeService, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shop, "AsyncAlignX", service.async_client)
    with TestClient(shop.app, follow_redirects=False) as browser:
        assert browser.post("/ann/summary", data={"text": "", "etag": "*"}).status_code == 303
        assert not service.users
        assert browser.post("/ann/summary", data={"text": "I like tents.", "etag": "*"}).status_code == 303
        assert browser.post("/ann/summary", data={"text": "Or not.", "etag": '"v1"'}).status_code == 303
        stale = browser.post("/ann/summary", data={"text": "Only boots.", "etag": '"v1"'})
        assert (stale.status_code, stale.json()) == (412, {"detail": "The summary has changed (stale_version, 412)"})
        assert service.users["ann"].versions == ["I like tents.", "Or not."]
        page = browser.get("/ann").text
        assert '<input type="hidden" name="etag" value="&quot;v2&quot;">' in page
        assert ">Or not.</textarea>" in page
