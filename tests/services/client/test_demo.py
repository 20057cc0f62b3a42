"""The examples are what they claim to be, and the tour through them runs to its end."""

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

PLAN = demo.load(demo.EXAMPLES)
KINDS = {
    "news_reader.jsonl": {"click", "rating", "statement"},
    "shopper.jsonl": {"purchase", "rating", "click", "statement"},
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
    assert "With it:" in result.stdout


def test_demo_without_an_engine(service: Any):
    body = {"error": {"message": "Start one with make.", "code": "engine_unavailable"}}
    service.chats += [httpx.Response(503, json=body)]
    result = run(service)
    assert result.exit_code == 0
    assert result.stdout.count("The chat was left out. Start one with make.") == 1
    assert "With it:" not in result.stdout


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
