"""Claims that events speak against, or that none speaks of. The rows were written by someone who had not seen the
check; those of `support_unseen` were not looked at while it was made."""

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from alignx.schemas.interactions import ComparisonInteraction, Interaction, StatementInteraction
from services.errors import UnusableReply
from services.preference.updates.support import check_supported
from services.profile.fold import fold
from services.profile.statistics import EMPTY
from services.prompts.build import plain_history
from services.prompts.replies.summary_checks import Evidence

EVENTS: TypeAdapter[list[Interaction]] = TypeAdapter(list[Interaction])
SHORT = [ComparisonInteraction(query="q", chosen="Yes.", rejected="A long tale, with all that belongs to it. " * 9)] * 9


def is_refused(text: str, events: list[Interaction], *, grounded: bool = False) -> bool:
    profile = EMPTY
    for event in events:
        profile, _ = fold(profile, event)
    try:
        check_supported(text, profile, Evidence(plain_history(events)), grounded=grounded)
    except UnusableReply:
        return True
    return False


def load_rows(name: str, verdict: str) -> list[tuple[str, list[Interaction]]]:
    """Text and events of the rows with a verdict."""
    lines = Path(__file__).with_name(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["verdict"] == verdict]
    return [(row["text"], EVENTS.validate_python(row["events"])) for row in rows]


def count(name: str, verdict: str, *, grounded: bool) -> tuple[int, int]:
    """(refused, all) of the rows with a verdict."""
    rows = load_rows(name, verdict)
    return sum(is_refused(text, events, grounded=grounded) for text, events in rows), len(rows)


@pytest.mark.parametrize(("name", "most"), [("support", 0), ("support_unseen", 1)])
def test_true_summaries_pass(name: str, most: int) -> None:
    refused, rows = count(name, "keep", grounded=False)
    assert (refused <= most, rows) == (True, 40)


@pytest.mark.parametrize(("name", "least"), [("support", (10, 9)), ("support_unseen", (14, 12))])
def test_false_claims_are_refused(name: str, least: tuple[int, int]) -> None:
    for verdict, refused in zip(("contradicted", "unfounded"), least, strict=True):
        assert count(name, verdict, grounded=True)[0] >= refused


def test_a_style_turned_round_is_refused() -> None:
    assert is_refused("The user prefers answers that are long and detailed.", list(SHORT))
    assert not is_refused("The user prefers answers that are short.", list(SHORT))


def test_what_the_user_says_outranks_choices() -> None:
    events = [*SHORT, StatementInteraction(text="I want long, detailed answers.")]
    assert not is_refused("The user prefers answers that are long and detailed.", events)
    assert is_refused("The user prefers answers that are short.", events)


def test_only_a_grounded_summary_must_name_what_events_name() -> None:
    invented = "The user is drawn to gas boilers and glaciers."
    assert not is_refused(invented, list(SHORT))
    assert is_refused(invented, list(SHORT), grounded=True)


def test_the_length_of_novels_is_none_of_answers() -> None:
    assert not is_refused("The user likes short answers, plain words and long novels.", list(SHORT))


@pytest.mark.parametrize("style", ["in lists", "full of emoji"])
def test_a_style_that_can_be_counted_must_be_there_once(style: str) -> None:
    text = f"The user tends to prefer answers that are short and {style}."
    assert not is_refused(text, SHORT[:1])
    assert is_refused(text, SHORT[:1], grounded=True)
    assert not is_refused("The user tends to prefer answers that are short.", SHORT[:1], grounded=True)


def test_a_list_that_was_chosen_bears_a_claim_of_lists() -> None:
    events: list[Interaction] = [
        ComparisonInteraction(query="q", chosen="- one\n- two\n- three", rejected="One, and two, and then three.")
    ]
    assert not is_refused("The user tends to prefer answers that are in lists.", events, grounded=True)
