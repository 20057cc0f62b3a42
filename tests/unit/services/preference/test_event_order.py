"""The time of an event decides what is newer, whatever the order in which events arrive."""

from datetime import UTC, datetime

import pytest

from alignx.schemas.interactions import StatementInteraction
from services.preference.ingest import sort_by_time
from services.profile.fold import apply_own_text, fold
from services.profile.render import render
from services.profile.scoring import scores
from services.profile.statistics import EMPTY
from tests.unit.services.preference.served import Served

HATES = {"type": "statement", "text": "I hate jazz.", "occurred_at": "2026-01-02T00:00:00Z"}
LOVES = {"type": "statement", "text": "I love jazz.", "occurred_at": "2020-01-02T00:00:00Z"}
EVENTS = "/v1/users/ada/events"


def said(text: str, year: int | None) -> StatementInteraction:
    return StatementInteraction(text=text, occurred_at=datetime(year, 1, 2, tzinfo=UTC) if year else None)


def test_events_without_a_time_stay_behind_the_others_in_their_order() -> None:
    events = [said("a", None), said("b", 2026), said("c", None), said("d", 2020), said("e", 2026)]
    assert sort_by_time(events) == [3, 1, 4, 0, 2]


def test_a_late_statement_is_older_than_what_was_said_since() -> None:
    profile, now = EMPTY, datetime(2026, 3, 1, tzinfo=UTC)
    for event in (said("I hate jazz.", 2026), said("I love jazz.", 2020)):
        profile, _ = fold(profile, event, now)
    text = render(profile)
    assert 'In their own words: "I hate jazz." (January 2026)' in text
    assert 'No longer holds: "I love jazz." (January 2020)' in text


def test_a_fact_said_again_by_a_late_event_still_holds() -> None:
    profile, now = EMPTY, datetime(2026, 3, 1, tzinfo=UTC)
    for event in (said("I live in Berlin.", 2026), said("I live in Berlin.", 2020)):
        profile, _ = fold(profile, event, now)
    assert render(profile).startswith('About them: "I live in Berlin." (January 2026)')


def test_a_late_event_strikes_nothing_that_the_user_wrote_over_the_summary() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    profile = apply_own_text(EMPTY, "I hate horror films.", now)
    profile, _ = fold(profile, said("I love horror films.", 2019), now)
    assert 'No longer holds: "I hate' not in render(profile)
    horror, western = scores(profile, "", ("horror films", "western films"))
    assert horror < western


def test_a_time_to_come_counts_as_now() -> None:
    profile, now = EMPTY, datetime(2026, 3, 1, tzinfo=UTC)
    for event in (said("I love jazz.", 2099), said("I hate jazz.", None)):
        profile, _ = fold(profile, event, now)
    assert render(profile).startswith('In their own words: "I hate jazz." (March 2026)')


@pytest.mark.anyio
async def test_a_replay_is_not_late(served: Served) -> None:
    for late in (0, 0):
        headers = {"Idempotency-Key": "k"}
        answer = await served.http.post(EVENTS, json={"events": [LOVES, HATES]}, headers=headers)
        assert answer.json()["late"] == late


@pytest.mark.anyio
async def test_a_call_is_stored_in_the_order_of_time_and_answered_in_its_own(served: Served) -> None:
    answer = (await served.http.post(EVENTS, json={"events": [HATES, LOVES]})).json()
    kept = (await served.http.get(EVENTS)).json()["events"]
    text = (await served.http.get("/v1/users/ada/preferences")).json()["text"]
    assert answer["late"] == 0
    assert [event["interaction"]["text"] for event in kept] == ["I love jazz.", "I hate jazz."]
    assert [event["event_id"] for event in kept] == answer["ids"][::-1]
    assert 'In their own words: "I hate jazz."' in text


@pytest.mark.anyio
async def test_what_arrives_late_is_counted(served: Served) -> None:
    first = (await served.http.post(EVENTS, json={"events": [HATES]})).json()
    second = (await served.http.post(EVENTS, json={"events": [LOVES]})).json()
    text = (await served.http.get("/v1/users/ada/preferences")).json()["text"]
    assert (first["late"], second["late"]) == (0, 1)
    assert 'In their own words: "I hate jazz."' in text
