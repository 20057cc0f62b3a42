"""The examples are what they claim to be, and the tour through them runs to its end."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from services.client import demo
from services.client.cli import app
from services.client.problem import ClientError
from services.client.terminal import Terminal
from services.core import folding, profile
from services.core.schemas import Interaction
from training.corpus.lexicon import DIRECTED_TOPICS, OTHER_TOPICS, phrasings, split_of

PLAN = demo.load(demo.EXAMPLES)
TOPICS = {*DIRECTED_TOPICS, *OTHER_TOPICS}
KINDS = {
    "news_reader.jsonl": {"click", "rating", "statement"},
    "shopper.jsonl": {"purchase", "rating", "click", "statement"},
    "mini_writer.jsonl": {"comparison", "statement"},
    "mini_reader.jsonl": {"comparison", "click", "purchase", "rating", "post"},
    "forum_writer.jsonl": {"comparison", "post", "dialogue", "demographic", "statement"},
}


@pytest.mark.parametrize("user", PLAN.users, ids=lambda user: user.user)
def test_example_is_valid_long_and_in_order(user: demo.DemoUser):
    events = demo.history(demo.EXAMPLES, user)
    assert len(events) >= 30
    assert sum(user.parts) == len(events)
    assert KINDS[user.history] <= set(Counter(event.type for event in events))
    moments = [event.occurred_at for event in events if event.occurred_at]
    assert len(moments) == len(events)
    assert all(one < other for one, other in pairwise(moments))
    assert (moments[-1] - moments[0]).days > 90


@pytest.mark.parametrize("user", PLAN.users, ids=lambda user: user.user)
def test_taste_changes_after_the_first_part(user: demo.DemoUser):
    events = demo.history(demo.EXAMPLES, user)
    early = choice(events[: user.parts[0]], user)
    assert early != user.select.expected
    assert choice(events, user) == user.select.expected
    scores = profile.scores(folded(events), user.recommend.query, user.recommend.candidates)
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: len(user.recommend.expected)]
    assert set(best) == set(user.recommend.expected)


def choice(events: tuple[Interaction, ...], user: demo.DemoUser) -> int:
    odds = profile.probabilities(folded(events), user.select.query, user.select.items)
    return odds.index(max(odds))


def folded(events: tuple[Interaction, ...]) -> profile.Profile:
    state = profile.Profile()
    for event in events:
        state, _foreseen = folding.fold(state, event)
    return state


def run(service: Any, *args: str) -> Result:
    terminal = Terminal(transport=service.transport(), sleep=service.slept.append)
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, ["--key", "ax_k1_secret", "demo", *args], obj=terminal)


def test_demo_twice(service: Any):
    for _ in range(2):
        result = run(service)
        assert result.exit_code == 0, result.output
    for user in PLAN.users:
        assert len(service.users[user.user].events) == sum(user.parts)
        assert user.chat in result.stdout
    assert "+Likes what 36 events show." in result.stdout
    assert "What the change of taste changed, version 1 to 3" in result.stdout
    assert "as the later taste says: Camp lantern" in result.stdout
    assert "the later taste would say: How shade and cycle lanes" in result.stdout
    for described in demo.MODES.values():
        assert result.stdout.count(f"{described}:") == len(PLAN.users)


def test_the_small_model_is_shown_with_users_of_its_own_world(service: Any):
    service.models = ["alignx-mini"]
    result = run(service)
    assert result.exit_code == 0, result.output
    assert set(service.users) == {user.user for user in PLAN.users if user.language == "mini"}
    assert "are for a larger engine or for the profile" in result.stdout.replace("\n", " ")
    assert "demo-shopper" in result.stdout
    service.users.clear()
    assert run(service, "--only", "demo-shopper").exit_code == 0
    assert set(service.users) == {"demo-shopper"}


def test_a_mode_the_history_has_nothing_for_is_told(service: Any):
    plain = {"mode": "none", "user": "demo-shopper", "version": None, "history": 0}
    message = {"message": {"content": "Buy little."}, "finish_reason": "stop"}
    service.chats += [
        httpx.Response(200, json={"model": "small", "choices": [message], "personalization": plain}) for _ in range(5)
    ]
    shown = run(service, "--only", "demo-shopper").stdout.replace("\n", " ")
    assert shown.count("says nothing in this form") == 4


@pytest.mark.parametrize("user", [user for user in PLAN.users if user.language == "mini"], ids=lambda user: user.user)
def test_what_the_small_model_is_shown_is_new_to_it(user: demo.DemoUser):
    asked = [user.chat, user.select.query, *user.select.items, *user.recommend.candidates]
    texts = [item for item in asked if isinstance(item, str)]
    named = {topic for text in texts for topic in re.findall(r"\w+", text) if topic in TOPICS}
    assert len(named) >= 4
    assert {split_of(topic) for topic in named} == {"heldout"}
    for kind in ("forum", "dialogue"):
        known = {phrasing.format(topic=topic) for phrasing in phrasings(kind, "train") for topic in named}
        assert user.chat not in known


@pytest.mark.parametrize(("status", "code"), [(501, "no_engine"), (503, "engine_unavailable")])
def test_demo_without_an_engine(service: Any, status: int, code: str):
    body = {"error": {"message": "Start one with make.", "code": code}}
    service.chats += [httpx.Response(status, json=body)]
    result = run(service)
    assert result.exit_code == 0
    assert result.stdout.count("The chat was left out. Start one with make.") == 1
    assert "By the summary" not in result.stdout


def test_demo_while_no_worker_runs(service: Any):
    service.writes = False
    result = run(service, "--only", "demo-shopper", "--wait", "1")
    assert result.exit_code == 0
    assert "is a worker running?" in result.stderr
    assert "Nothing is known yet." in result.stdout


def test_missing_or_broken_examples(tmp_path: Path):
    with pytest.raises(ClientError, match="--examples"):
        demo.load(tmp_path)
    (tmp_path / "demo.json").write_text("{}")
    with pytest.raises(ClientError, match="not a demo"):
        demo.load(tmp_path)
    with pytest.raises(ClientError, match="No such file"):
        demo.history(tmp_path, PLAN.users[0])
    (tmp_path / PLAN.users[0].history).write_text('{"type": "post"}')
    with pytest.raises(ClientError, match="line 1: Field required"):
        demo.history(tmp_path, PLAN.users[0])
