"""What counts as a true summary of a held-out user of the world."""

from itertools import pairwise
from pathlib import Path

from evaluation.suites.summaries import HeldOutUser, Outcome, SummariesConfig, judge_reply, make_users, measure


def draw_users(users: int) -> list[HeldOutUser]:
    config = SummariesConfig(stage="summaries", model=Path("-"), output=Path("-"), users=users)
    return list(make_users(config))


def write(text: str) -> str:
    return f"<think>\n1: read\n</think>\n\n{text}"


def test_what_the_teacher_says_is_true_and_whole() -> None:
    figures = measure([judge_reply(user, write(user.target)) for user in draw_users(60)])
    assert figures["whole"]["mean"] >= 0.95
    assert figures["true names"]["mean"] >= 0.98
    assert figures["found names"]["mean"] >= 0.95


def test_what_no_event_shows_is_untrue() -> None:
    some = draw_users(60)
    others = [judge_reply(user, write(other.target)) for user, other in pairwise(some)]
    figures = measure(others)
    assert figures["true names"]["mean"] <= 0.2


def test_a_reply_without_reasoning_is_refused_for_its_form() -> None:
    [user] = draw_users(1)
    outcome = judge_reply(user, user.target)
    assert (outcome.refused, outcome.right, outcome.wrong) == ("form", 0, 0)


def test_the_names_of_one_reply_are_drawn_together() -> None:
    figures = measure([Outcome("", "", right=8), Outcome("", "", wrong=8, missed=8)])
    for name in ("true names", "found names"):
        assert figures[name] == {"mean": 0.5, "low": 0.0, "high": 1.0, "n": 16}, "two users, not 16 names"
