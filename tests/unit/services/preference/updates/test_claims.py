"""Claims, pins and denied subjects in updates with an engine, from the events to the version."""

from typing import Any

import orjson
import pytest

from alignx.schemas.summaries import SummaryVersion
from alignx.schemas.tenants import TenantSettings
from services.preference.edits import create_edit, create_rollback
from services.profile.fold import apply_own_text, fold
from services.profile.serialize import dumps
from services.storage.key_names import tenant_settings_key
from services.storage.tenant_settings import TenantSettingsStore
from services.storage.users import parse_event
from tests.chaos.mock_engine import MockEngine
from tests.unit.services.preference.rig import TENANT, USER, record, statement
from tests.unit.services.preference.working import Bench, benched

pytestmark = pytest.mark.anyio

JAZZ = "The user likes jazz."
OPERA = "The user likes opera in Vienna."
OWN = "I like horror films but no seafood. Short answers please."


async def edit(bench: Bench, text: str, version: int) -> SummaryVersion:
    """The user's own text over `version`, as the service stores it."""
    stamp, profile = await bench.store.profile(TENANT, USER)
    own = create_edit(text, version)
    raw = dumps(apply_own_text(profile, own.text))
    assert await bench.queue.edit(TENANT, USER, version, own, stamp=stamp, profile=raw)
    return own


async def put(bench: Bench, *texts: str) -> list[str]:
    """As the service appends statements, the profile with them."""
    _, profile = await bench.store.profile(TENANT, USER)
    for text in texts:
        event = parse_event("1-0", {"d": statement(text)})
        profile, _ = fold(profile, event.interaction)
    return (await bench.add(*map(statement, texts), profile=dumps(profile))).ids


async def update(bench: Bench, *replies: str) -> SummaryVersion:
    bench.mock.scripted = [(reply, "stop") for reply in replies]
    assert await bench.update() == "committed"
    assert bench.mock.scripted == []
    return await bench.store.preferences(TENANT, USER)


def checks(bench: Bench, check: str, outcome: str) -> float:
    return bench.count("alignx_summary_checks_total", check=check, outcome=outcome)


def sentences(bench: Bench, outcome: str) -> float:
    return bench.count("alignx_summary_sentences_total", outcome=outcome)


def past_block(bench: Bench) -> str:
    return str(bench.mock.prompts[-1]).split("<past_summary>\n")[1].split("\n</past_summary>")[0]


async def test_sentences_are_stored_with_their_events(bench: Bench) -> None:
    [first] = await put(bench, "I love jazz trumpet.")
    version = await update(bench, f"{JAZZ} {OPERA}")
    jazz, opera = version.claims
    assert (jazz.text, jazz.support, jazz.count, jazz.supported) == (JAZZ, (first,), 1, True)
    assert (opera.text, opera.support, opera.supported) == (OPERA, (), False)
    assert (sentences(bench, "supported"), sentences(bench, "unsupported")) == (1, 1)
    ids = await put(bench, "Green tea for me.", "Jazz again tonight.")
    version = await update(bench, f"{JAZZ} The user likes green tea.")
    jazz, tea = version.claims
    assert (jazz.support, jazz.count) == ((first, ids[1]), 2)
    assert tea.support == (ids[0],)
    rollback = create_rollback(version, 2)
    assert rollback.claims == version.claims


async def test_a_version_without_claims_is_read_with_the_events_before_it(bench: Bench) -> None:
    [first] = await put(bench, "I love jazz trumpet.")
    await bench.make_due()
    assert await bench.commit(await bench.take(), JAZZ)
    await put(bench, "Green tea for me.")
    version = await update(bench, f"{JAZZ} The user likes green tea.")
    assert version.claims[0].support == (first,)


async def test_no_claim_keeps_a_forgotten_event(bench: Bench) -> None:
    forgotten, kept = await put(bench, "I love jazz trumpet.", "Green tea for me.")
    await update(bench, f"{JAZZ} The user likes green tea.")
    await bench.redis.xdel(bench.keys().log, forgotten)
    await bench.queue.request_rebuild(TENANT, USER)
    version = await update(bench, "The user likes green tea.")
    assert "jazz" not in bench.mock.prompts[-1]
    stored = version.model_dump_json()
    assert kept in stored
    assert forgotten not in stored
    assert "jazz" not in stored.lower()


async def test_a_pinned_text_heads_every_version_and_every_past(bench: Bench) -> None:
    await put(bench, "I love jazz trumpet.")
    await update(bench, JAZZ)
    await edit(bench, OWN, 1)
    await put(bench, "Green tea for me.")
    version = await update(bench, "The user likes green tea. Short answers please.")
    assert past_block(bench) == OWN
    assert version.text == f"{OWN}\nThe user likes green tea."
    entries = await bench.redis.xrange(bench.keys().live, "-", "+")
    shown = "".join(orjson.loads(fields["d"])["text"] for _, fields in entries if fields["e"] == "delta")
    assert shown == f"{JAZZ}{version.text}", "whoever watches sees the pinned text too, and nothing twice"
    assert [claim.kind for claim in version.claims] == ["own", "own", "model"]
    await put(bench, "Jazz again.")
    later = await update(bench, JAZZ)
    assert past_block(bench) == version.text
    assert later.text == f"{OWN}\n{JAZZ}"
    await bench.queue.request_rebuild(TENANT, USER)
    assert (await update(bench, "The user likes green tea.")).text == version.text
    await edit(bench, "I like poetry.", 5)
    await put(bench, "Green tea again.")
    assert (await update(bench, "The user likes green tea.")).text == "I like poetry.\nThe user likes green tea."


async def test_a_long_pinned_text_has_room_beside_the_past(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(), summary={"past_tokens": 16}) as bench:
        own = " ".join(f"I like place number {number} of my list." for number in range(60))
        await put(bench, "I love jazz trumpet.")
        await update(bench, JAZZ)
        await edit(bench, own, 1)
        await put(bench, "Green tea for me.")
        version = await update(bench, "The user likes tea.")
        assert past_block(bench) == own
        assert version.text == f"{own}\nThe user likes tea."


async def test_a_reply_that_contradicts_the_pin_is_asked_for_once_more(bench: Bench) -> None:
    await put(bench, "I love jazz trumpet.")
    await update(bench, JAZZ)
    await edit(bench, OWN, 1)
    await put(bench, "Green tea for me.")
    version = await update(bench, "The user dislikes horror films.", JAZZ)
    assert version.text == f"{OWN}\n{JAZZ}"
    assert (checks(bench, "pin", "refused"), checks(bench, "pin", "passed")) == (1, 2)
    await put(bench, "Green tea again.")
    bench.mock.scripted = [("The user prefers long, detailed answers.", "stop")] * 2
    assert await bench.update() == "data"
    assert (await bench.store.preferences(TENANT, USER)).text == version.text
    [draft] = await bench.store.rejected(TENANT, USER)
    assert draft.check == "pin"


async def set_tenant(bench: Bench, **fields: Any) -> None:
    settings = TenantSettingsStore(bench.redis, TenantSettings())
    await settings.replace(TENANT, TenantSettings(**fields))
    assert bench.store.tenants
    bench.store.tenants.drop(TENANT)


async def test_a_denied_subject_is_nowhere_in_a_version(bench: Bench) -> None:
    faith = "The user is probably Catholic."
    await put(bench, "I love jazz trumpet.")
    version = await update(bench, f"<think>They play jazz. They seem Catholic.</think>{JAZZ} {faith} {OPERA}")
    assert version.reasoning == "They play jazz."
    assert version.text == f"{JAZZ} {OPERA}"
    assert [claim.text for claim in version.claims] == [JAZZ, OPERA]
    assert sentences(bench, "denied") == 1
    assert checks(bench, "sensitive", "cleaned") == 1
    shown = await bench.redis.xrange(bench.keys().live, "-", "+")
    assert not any("Catholic" in fields["d"] for _, fields in shown)
    await put(bench, "Green tea for me.")
    assert (await update(bench, faith, JAZZ)).text == JAZZ
    assert checks(bench, "sensitive", "refused") == 1
    await put(bench, "More tea.")
    bench.mock.scripted = [(faith, "stop")] * 2
    assert await bench.update() == "data"
    [draft] = await bench.store.rejected(TENANT, USER)
    assert (draft.check, draft.text) == ("sensitive", "")
    await put(bench, "I am a Catholic.")
    assert (await update(bench, f"{JAZZ} {faith}")).text == f"{JAZZ} {faith}"


async def test_a_tenant_says_what_is_denied(bench: Bench) -> None:
    text = f"{JAZZ} The user is in their 30s. {OPERA}"
    await put(bench, "Green tea for me.")
    await set_tenant(bench, hide_sensitive=False, denied_topics=["Operas"])
    assert await bench.redis.hget(tenant_settings_key(TENANT), "denied_topics") == '["Operas"]'
    assert (await update(bench, text)).text == f"{JAZZ} The user is in their 30s."
    await set_tenant(bench)
    await put(bench, "More tea.")
    assert (await update(bench, text)).text == f"{JAZZ} {OPERA}"


def test_a_record_without_claims_can_be_read() -> None:
    assert SummaryVersion.model_validate_json(record("s").model_dump_json(exclude={"claims"})).claims == ()
