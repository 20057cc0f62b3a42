"""Versions that outlive the newest ones: a profile made anew is the same as from the whole history of versions."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from alignx.schemas.interactions import StatementInteraction
from alignx.schemas.summaries import EventRange, StoredInteraction, SummaryVersion
from services.preference.edits import create_edit, create_rollback
from services.profile.statistics import Profile
from services.storage.user_profile import HistoryFold
from services.storage.users import encode_record
from tests.unit.services.preference.rig import TENANT, USER, opened, record
from tests.unit.services.preference.served import EVENTS, PREFERENCES, serving

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, tzinfo=UTC)
KEEP, MOST_MORE = 4, 34
NEWER = "m" * (KEEP + 2)
"""Versions of a model that come after."""


def history(steps: int) -> Iterator[StoredInteraction]:
    """One event before each version."""
    for step in range(1, steps + 1):
        received = START + timedelta(minutes=step, seconds=-1)
        yield StoredInteraction(
            event_id=f"{step}-0", received_at=received, interaction=StatementInteraction(text=f"I like dish{step}.")
        )


def written(number: int, step: str, target: SummaryVersion | None) -> SummaryVersion:
    now = {"created_at": START + timedelta(minutes=number)}
    if target:
        return create_rollback(target, number - 1).model_copy(update=now)
    if step == "u":
        return create_edit(f"Text {number}.", number - 1).model_copy(update=now)
    last = EventRange(last=f"{number}-0", count=1) if step == "m" else EventRange()
    return record(f"Text {number}.", number).model_copy(update={**now, "parent": number - 1 or None, "events": last})


def fold(versions: Sequence[SummaryVersion], steps: int) -> Profile:
    folding = HistoryFold(versions)
    for event in history(steps):
        folding.add(event)
    return folding.end()


@pytest.mark.parametrize(
    "script",
    [
        *(f"mu{NEWER}", f"u{NEWER}u{NEWER}", f"mm1{NEWER}", f"mum1{NEWER}", f"uum1u{NEWER}", f"mumum2u{NEWER}"),
        *(f"um2mm1{NEWER}5{NEWER}", f"u{NEWER}mu8{NEWER}", f"mmm1mmm4{NEWER}", f"umum2um4{NEWER}u{NEWER}"),
        *(f"mmmmumum5{NEWER}", f"mmmmpumum6{NEWER}", *range(3)),
    ],
)
async def test_a_profile_made_anew_misses_no_version(redis_url: str, script: str | int) -> None:
    """`u` is the user's text, `m` a model's, `p` one that has read no event, as after forgetting, a digit the version
    that a rollback restores; a number draws them."""
    draw = random.Random(script) if isinstance(script, int) else None
    steps, everything, rollbacks = script if isinstance(script, str) else "?" * 30, list[SummaryVersion](), 0
    async with opened(redis_url, summary={"keep_versions": KEEP}) as rig:
        for number, step in enumerate(steps, 1):
            target = everything[int(step) - 1] if step.isdigit() else None
            if draw:
                step = draw.choices("mur", [4, 1, 1])[0]
                is_rollback = step == "r" and rollbacks < 5 and number > 1
                target = draw.choice(everything[1 - KEEP :]) if is_rollback else None
            rollbacks += target is not None
            everything.append(written(number, step, target))
            assert await rig.queue.edit(TENANT, USER, number - 1, everything[-1])
            kept = await rig.store.versions(TENANT, USER, None, None)
            assert [one.version for one in kept[:KEEP]] == list(range(number, max(0, number - KEEP), -1))
            assert len(kept) <= KEEP + MOST_MORE
            assert fold(kept, number) == fold(everything[::-1], number), f"version {number}"


async def test_rollbacks_without_end_keep_few_versions(redis_url: str) -> None:
    everything = list[SummaryVersion]()
    async with opened(redis_url, summary={"keep_versions": KEEP}) as rig:
        for number in range(1, 61):
            everything.append(written(number, "m", everything[-2] if number > 3 and number % 2 else None))
            assert await rig.queue.edit(TENANT, USER, number - 1, everything[-1])
            assert len(await rig.store.versions(TENANT, USER, None, None)) <= KEEP + MOST_MORE


async def test_a_pinned_text_outlives_newer_versions(redis_url: str) -> None:
    async with serving(redis_url, work=True, summary={"keep_versions": 3}) as served:
        await served.learn("I like tea.")
        own = {"text": "Answer in rhymes."}
        (await served.http.put(PREFERENCES, json=own, headers={"If-Match": '"1"'})).raise_for_status()
        learnt = [await served.learn(f"I like dish{number}.") for number in range(6)]
        pages = (await served.http.get(f"{PREFERENCES}/versions")).json()
        assert [version["version"] for version in pages["versions"]] == [8, 7, 6, 2, 1]
        (await served.http.delete(f"{EVENTS}/{learnt[-1]['ids'][0]}")).raise_for_status()
        text = (await served.http.get(PREFERENCES)).json()["text"]
        assert text.startswith(own["text"] + "\n")
        assert "dish4" in text
        assert "dish5" not in text
        await served.learn("I like soup.")
        assert (await served.http.get(PREFERENCES)).json()["text"].startswith(own["text"] + "\n")

        current = (await served.http.get(PREFERENCES)).headers["ETag"]
        (await served.http.put(PREFERENCES, json={"text": "Mine."}, headers={"If-Match": current})).raise_for_status()
        for number in range(4):
            await served.learn(f"I like pie{number}.")
        kept = (await served.http.get(f"{PREFERENCES}/versions")).json()["versions"]
        assert [version["text"] for version in kept if version["source"] == "user"] == ["Mine."]


async def test_a_pinned_text_still_goes_where_it_repeats_what_is_forgotten(redis_url: str) -> None:
    async with serving(redis_url, work=True, summary={"keep_versions": 3}) as served:
        event_id = (await served.learn("I bought diapers."))["ids"][0]
        keys, told = served.bench.keys(), await served.bench.store.version(TENANT, USER, 1)
        await served.bench.redis.set(keys.summary, encode_record(told.model_copy(update={"text": "Has a baby."})))
        own = {"text": "Has a baby.\nAnswer in rhymes."}
        (await served.http.put(PREFERENCES, json=own, headers={"If-Match": '"1"'})).raise_for_status()
        for number in range(6):
            await served.learn(f"I like dish{number}.")
        receipt = (await served.http.delete(f"{EVENTS}/{event_id}")).json()
        assert receipt["own_texts"] == 1
        assert "baby" not in (await served.http.get(PREFERENCES)).json()["text"]
