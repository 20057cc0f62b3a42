"""What counts as a true summary of a held-out user of the world."""

from itertools import pairwise
from pathlib import Path

from evaluation.suites.summaries import Reader, SummariesConfig, judge_reply, make_readers, measure


def readers(users: int) -> list[Reader]:
    config = SummariesConfig(stage="summaries", model=Path("-"), output=Path("-"), users=users)
    return list(make_readers(config))


def write(text: str) -> str:
    return f"<think>\n1: read\n</think>\n\n{text}"


def test_what_the_teacher_says_is_true_and_whole() -> None:
    figures = measure([judge_reply(reader, write(reader.target)) for reader in readers(60)])
    assert figures["whole"]["mean"] >= 0.95
    assert figures["true names"]["mean"] >= 0.98
    assert figures["found names"]["mean"] >= 0.95


def test_what_no_event_shows_is_untrue() -> None:
    some = readers(60)
    others = [judge_reply(reader, write(other.target)) for reader, other in pairwise(some)]
    figures = measure(others)
    assert figures["true names"]["mean"] <= 0.2


def test_a_reply_without_reasoning_is_refused_for_its_form() -> None:
    [reader] = readers(1)
    outcome = judge_reply(reader, reader.target)
    assert (outcome.refused, outcome.right, outcome.wrong) == ("form", 0, 0)
