"""One update, from its events to a version, with an engine that keeps count."""

import asyncio
import logging
from math import log

import orjson
import pytest

from alignx.schemas.interactions import ClickInteraction, ComparisonInteraction, DemographicInteraction
from services.engine.choice.fusion import KEEP
from services.errors import EngineUnavailable
from services.preference.queue_records import PrequentialSums
from services.preference.updates import inference
from services.profile.render import render
from services.prompts.profiles import load_profile
from services.storage.key_names import weights_key
from services.storage.users import encode_interaction
from tests.chaos.mock_engine import MARKER, Fault, MockEngine
from tests.chaos.strict_engine import DIALECTS, rules
from tests.unit.services.preference.rig import TENANT, USER, record
from tests.unit.services.preference.working import Bench, benched, until

pytestmark = pytest.mark.anyio


def markers(text: str) -> list[str]:
    return MARKER.findall(text)


def comparison(chosen: str, rejected: str) -> str:
    return encode_interaction(ComparisonInteraction(query="which?", chosen=chosen, rejected=rejected))


async def live(bench: Bench) -> list[tuple[str, object]]:
    entries = await bench.redis.xrange(bench.keys().live, "-", "+")
    return [(fields["e"], orjson.loads(fields["d"])) for _, fields in entries]


# --- what is written -----------------------------------------------------------------------------


async def test_waiting_events_become_one_call_and_a_full_record(bench: Bench) -> None:
    ids = (await bench.put("u1n1", "u1n2")).ids + (await bench.put("u1n3")).ids
    assert await bench.update() == "committed"
    version = await bench.store.version(TENANT, USER, 1)
    assert version.text == "The user has shown u1n1 u1n2 u1n3."
    assert version.reasoning == "They say a lot."
    assert (version.source, version.template, version.parent) == ("llm:mock-1", "first/2", None)
    assert (version.events.first, version.events.last, version.events.count) == (ids[0], ids[2], 3)
    assert dict(version.tokens) == {"prompt": 9, "completion": 3, "cached": 4}
    assert version.latency_ms > 0
    assert version.prequential is None
    await bench.put("u1n4")
    assert await bench.update() == "committed"
    second = await bench.store.version(TENANT, USER, 2)
    assert markers(second.text) == ["u1n1", "u1n2", "u1n3", "u1n4"]
    assert (second.template, second.parent, second.events.count) == ("update/2", 1, 1)
    assert len(bench.mock.prompts) == 2
    assert "u1n3" not in bench.mock.prompts[1].split("<events>")[1]
    assert bench.count("alignx_update_events_sum") == 4


async def test_a_backlog_is_worked_off_in_order_under_the_token_budget(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(), summary={"batch_tokens": 150}) as bench:
        names = [f"u1n{n}" for n in range(20)]
        await bench.put(*(f"{name} {'word ' * 20}" for name in names))
        updates = 0
        while (await bench.store.state(TENANT, USER)).pending:
            assert await bench.update() == "committed"
            updates += 1
        assert 4 < updates < 12
        assert markers((await bench.store.preferences(TENANT, USER)).text) == names


async def test_an_event_larger_than_the_budget_still_goes_in(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(), summary={"batch_tokens": 64}) as bench:
        await bench.put("u1n1 " + "word " * 5_000, "u1n2")
        assert [await bench.update(), await bench.update()] == ["committed", "committed"]
        assert markers((await bench.store.preferences(TENANT, USER)).text) == ["u1n1", "u1n2"]


async def test_the_summary_is_shown_while_it_is_written(bench: Bench) -> None:
    text = "The user likes tea and jazz. Coffee is not for them. They read at night, mostly crime novels."
    bench.mock.scripted = [(f"<think>They say a lot.</think>Here is the summary:\n\n{text}", "stop")]
    await bench.put(*(f"u1n{n}" for n in range(40)))
    await bench.update()
    events = await live(bench)
    assert events[0] == ("pending", {"pending": 40, "version": 0})
    assert events[-1] == ("version", 1)
    deltas = [data["text"] for name, data in events if name == "delta" and isinstance(data, dict)]
    assert len(deltas) > 2
    assert "".join(deltas) == text == (await bench.store.preferences(TENANT, USER)).text


async def test_a_sentence_of_the_prompts_in_use_is_dropped(redis_url: str) -> None:
    window = {"context_tokens": 16_384}
    async with benched(redis_url, MockEngine(), summary={"prompts": "alignxplore-plus"}, engine=window) as bench:
        copied = "If there is a past summary, build on it: keep what still holds, and add what is new."
        bench.mock.scripted = [(f"{GOOD} {copied}", "stop")]
        await bench.add(comparison("good u1n1", "bad"))
        assert await bench.update() == "committed"
        assert (await bench.store.preferences(TENANT, USER)).text == GOOD
        assert bench.count("alignx_summary_checks_total", check="copied", outcome="cleaned") == 1


async def test_the_model_reads_the_prompts_that_it_was_trained_with(redis_url: str) -> None:
    profile, window = load_profile("alignxplore-plus"), {"context_tokens": 16_384}
    async with benched(redis_url, MockEngine(), summary={"prompts": "alignxplore-plus"}, engine=window) as bench:
        bench.mock.scripted = [(GOOD, "stop")] * 3
        for number in (1, 2):
            await bench.add(comparison(f"good u1n{number}", "bad"))
            assert await bench.update() == "committed"
        events = [ComparisonInteraction(query="which?", chosen=f"good u1n{n}", rejected="bad") for n in (1, 2)]
        first = profile.update_prompt(None, events[:1], past_tokens=1_024)
        second = profile.update_prompt(GOOD, events[1:], past_tokens=1_024)
        assert [body["messages"] for body in bench.mock.bodies] == [first.messages, second.messages]
        assert {body["max_tokens"] for body in bench.mock.bodies} == {4_096}
        assert (await bench.store.version(TENANT, USER, 2)).template == second.template
        choice = profile.selection_prompt("which?", ["good u1n2", "bad"], GOOD)
        assert "\n".join(message["content"] for message in choice.messages) in bench.mock.choices
        await bench.queue.request_rebuild(TENANT, USER)
        assert await bench.update() == "committed"
        whole = profile.update_prompt(None, events, past_tokens=1_024, whole_history=True)
        assert bench.mock.bodies[-1]["messages"] == whole.messages
        assert (await bench.store.version(TENANT, USER, 3)).template == whole.template


async def test_events_that_a_format_does_not_show_leave_the_summary(redis_url: str) -> None:
    click = encode_interaction(ClickInteraction(clicked="Rowing"))
    async with benched(redis_url, MockEngine(), summary={"prompts": "alignxplore-plus"}) as bench:
        bench.mock.scripted = [(GOOD, "stop")]
        for event in (click, comparison("good u1n1", "bad"), click):
            await bench.add(event)
            assert await bench.update() == "committed"
        versions = [await bench.store.version(TENANT, USER, number) for number in (1, 2, 3)]
        assert [version.source for version in versions] == ["profile", "llm:mock-1", "llm:mock-1"]
        assert (versions[2].text, versions[2].template) == (GOOD, versions[1].template)
        assert len(bench.mock.prompts) == 1


async def test_without_an_engine_the_profile_writes(redis_url: str) -> None:
    async with benched(redis_url) as bench:
        await bench.put("I like short answers.")
        assert await bench.update() == "committed"
        version = await bench.store.version(TENANT, USER, 1)
        assert (version.source, version.template, version.tokens.prompt) == ("profile", None, 0)
        assert bench.mock.prompts == []


# --- replies that are no summary -----------------------------------------------------------------

GOOD = "The user prefers short answers, science fiction and plain words."
REFUSAL = "I'm sorry, but I can't help with that request."
LOOP = "parenting +1, " * 60


@pytest.mark.parametrize(
    ("reply", "finish", "reason"),
    [
        (REFUSAL, "stop", "refusal"),
        (LOOP, "length", "degenerate"),
        ("<think>the user likes brevity and so on", "length", "complete"),
        ("<think>the user likes brevity</think>", "stop", "separable"),
        ("The user likes answers that are", "length", "complete"),
        ("42.", "stop", "about"),
        ('{"summary": "The user', "stop", "shaped"),
    ],
)
async def test_a_reply_that_is_no_summary_is_asked_for_once_more(
    bench: Bench, reply: str, finish: str, reason: str
) -> None:
    bench.mock.scripted = [(GOOD, "stop")]
    await bench.put("u1n1")
    assert await bench.update() == "committed"
    bench.mock.scripted = [(reply, finish), (f"{GOOD} And trains.", "stop")]
    await bench.put("u1n2")
    assert await bench.update() == "committed"
    assert (await bench.store.version(TENANT, USER, 2)).text == f"{GOOD} And trains."
    assert bench.count("alignx_summary_checks_total", check=reason, outcome="refused") == 1
    assert bench.count("alignx_summary_checks_total", check="length", outcome="passed") == 2
    first, second = bench.mock.bodies[-2:]
    assert first["messages"] == second["messages"]
    assert (second["max_tokens"] > first["max_tokens"]) == (reason in ("complete", "separable"))
    assert ("chat_template_kwargs" in second) == (reason == "separable")
    assert ("frequency_penalty" in second) == (reason == "degenerate")
    shown = [data for name, data in await live(bench) if name in ("pending", "delta")]
    assert shown.count({"pending": 1, "version": 1}) == 2, "whoever watches forgets the first text"


async def test_a_reply_that_stays_no_summary_leaves_the_last_one_and_its_events_wait(bench: Bench) -> None:
    bench.mock.scripted = [(GOOD, "stop"), (REFUSAL, "stop"), (LOOP, "length")]
    await bench.put("u1n1")
    assert await bench.update() == "committed"
    await bench.put("u1n2")
    assert await bench.update() == "data"
    current = await bench.store.preferences(TENANT, USER)
    assert (current.version, current.text, current.pending) == (1, GOOD, 1)
    name, problem = (await live(bench))[-1]
    assert name == "error"
    assert isinstance(problem, dict)
    assert (problem["type"], problem["reason"]) == ("urn:alignx:problem:unusable_reply", "degenerate")
    [draft] = await bench.store.rejected(TENANT, USER)
    assert (draft.check, draft.text, draft.source, draft.events.count) == ("degenerate", LOOP, "llm:mock-1", 1)
    assert LOOP not in orjson.dumps(problem).decode()
    assert await bench.update() == "committed"
    assert markers((await bench.store.preferences(TENANT, USER)).text) == ["u1n2"]
    assert f"<past_summary>\n{GOOD}\n</past_summary>" in bench.mock.prompts[-1]
    assert "parenting" not in bench.mock.prompts[-1]


async def test_the_profile_writes_in_place_of_a_small_model(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(), summary={"grounded": True}) as bench:
        invented = "The user is drawn to glaciers and gas boilers."
        bench.mock.scripted = [(GOOD, "stop"), (GOOD, "stop"), (invented, "stop"), (invented, "stop")]
        for statement in ("I like short answers about trains.", "I like tea."):
            await bench.put(statement)
            assert await bench.update() == "committed"
        current = await bench.store.preferences(TENANT, USER)
        assert (current.version, current.source, current.pending) == (2, "profile", 0)
        assert current.text == render((await bench.store.profile(TENANT, USER))[1])
        assert (await live(bench))[-1] == ("version", 2)
        assert [draft.check for draft in await bench.store.rejected(TENANT, USER)][:1] == ["supported"]


async def test_an_answer_of_a_form_that_nobody_foresaw_is_not_the_events_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise TypeError("a canary")

    await bench.put("u1n1")
    monkeypatch.setattr(inference, "parse_summary", breaks)
    assert {await bench.update() for _ in range(4)} == {"engine"}
    monkeypatch.undo()
    assert await bench.update() == "committed"


async def test_an_engine_that_refuses_is_asked_once_an_update(redis_url: str) -> None:
    faults: list[Fault] = ["", "refused"]
    async with benched(redis_url, MockEngine(lambda _: faults.pop(0) if faults else "")) as bench:
        await bench.add(comparison("good u1n1", "bad"))
        assert await bench.update() == "committed"
        await bench.add(comparison("good u1n2", "bad"))
        assert await bench.try_update() == "data"
        assert bench.mock.choices == []


# --- rebuild -------------------------------------------------------------------------------------


async def test_a_rebuild_reads_the_whole_history(bench: Bench) -> None:
    names = [f"u1n{n}" for n in range(6)]
    for name in names[:5]:
        await bench.put(name)
        await bench.update()
    await bench.queue.edit(TENANT, USER, 5, record("A text by hand.", 6))
    await bench.put(names[5])
    await bench.queue.request_rebuild(TENANT, USER)
    assert await bench.update() == "committed"
    version = await bench.store.version(TENANT, USER, 7)
    assert markers(version.text) == names
    assert (version.parent, version.template, version.events.count) == (None, "first/2", 6)
    assert "by hand" not in bench.mock.prompts[-1]
    assert (await bench.store.state(TENANT, USER)).pending == 0
    assert await bench.idle()


async def test_a_rebuild_reads_what_fits_the_context(redis_url: str) -> None:
    async with benched(
        redis_url,
        MockEngine(),
        engine={"context_tokens": 4_096},
        summary={"max_tokens": 64},
        queue={"user_backlog": 2_000},
    ) as bench:
        names = [f"u1n{n}" for n in range(1_200)]
        for start in range(0, 1_200, 400):
            await bench.put(*names[start : start + 400])
        await bench.queue.request_rebuild(TENANT, USER)
        assert await bench.update() == "committed"
        version = await bench.store.version(TENANT, USER, 1)
        read = markers(bench.mock.prompts[-1])
        assert 20 < len(read) < 400
        assert read == names[-len(read) :]
        assert version.events.count == len(read)
        assert (await bench.store.state(TENANT, USER)).pending == 0


# --- prequential ---------------------------------------------------------------------------------


async def test_the_past_summary_is_tested_on_what_is_new(bench: Bench) -> None:
    await bench.add(comparison("good u1n1", "bad"))
    await bench.update()
    assert bench.mock.choices == []  # there was nothing to test
    await bench.add(*(comparison(f"good u1n{n}", "bad") for n in (2, 3, 4)), predicted=["0.9000"] * 3)
    await bench.update()
    assert len(bench.mock.choices) == 4  # two choices, both in two orders
    assert all("The user has shown u1n1." in prompt for prompt in bench.mock.choices)
    await bench.add(comparison("bad u1n5", "good"))
    await bench.update()
    second, third = await bench.store.version(TENANT, USER, 2), await bench.store.version(TENANT, USER, 3)
    quality = (await bench.store.preferences(TENANT, USER)).quality["engine"]
    assert (quality.comparisons, quality.accuracy) == (3, round(2 / 3, 4))
    whole = quality.model_copy(update={"recent": None})
    assert whole == (await bench.store.tenant_quality(TENANT))["engine"]
    assert bench.count("alignx_prequential_comparisons_total", scorer="engine", source="streaming") == 3
    assert bench.count("alignx_prequential_correct_total", scorer="engine", source="streaming") == 2
    for version, comparisons, accuracy in ((second, 2, 1.0), (third, 1, 0.0)):
        if version.prequential:  # a version does not wait for a test that is late
            assert (version.prequential.comparisons, version.prequential.accuracy) == (comparisons, accuracy)
    # Of the third choice it is not known what the profile foresaw.
    sums = {name: float(value) for name, value in (await bench.redis.hgetall(weights_key(TENANT))).items()}
    assert sums["texts.n"] == pytest.approx(1 + KEEP)
    assert (sums["texts.text.right"], sums["texts.contrast.mean"]) == (pytest.approx(1 + KEEP), 0)
    assert sums["texts.profile.mean"] == pytest.approx((1 + KEEP) * log(9), rel=1e-4)
    assert bench.count("alignx_prequential_comparisons_total", scorer="fused", source="streaming") == 2


@pytest.mark.parametrize(("sample", "kind"), [(0, "update"), (2, "rebuild")])
async def test_no_test_where_it_would_say_nothing(redis_url: str, sample: int, kind: str) -> None:
    async with benched(redis_url, MockEngine(), summary={"prequential_sample": sample}) as bench:
        await bench.add(comparison("good", "bad"))
        await bench.update()
        await bench.add(comparison("good", "bad"))
        if kind == "rebuild":
            await bench.queue.request_rebuild(TENANT, USER)
        await bench.update()
        assert bench.mock.choices == []


async def test_a_late_test_counts_although_the_lease_is_over(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(), queue={"lease_ms": 200, "heartbeat_ms": 50}) as bench:
        await bench.add(comparison("good u1n1", "bad"))
        await bench.update()
        bench.mock.choosing_s = 0.3
        await bench.add(comparison("good u1n2", "bad"))
        tests = "alignx_prequential_comparisons_total"
        async with bench.at_work():
            await until(lambda: bench.count(tests, scorer="engine", source="streaming") > 0)
        assert bench.count("alignx_updates_total", outcome="committed") == 1
        assert bench.count("alignx_updates_total", outcome="lost") == 0
        assert (await bench.store.preferences(TENANT, USER)).quality["engine"].comparisons == 1


async def test_a_test_that_breaks_is_no_failed_update(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.redis.xadd(bench.keys().log, {"d": '{"type": "secret"}'}, id="1-1")  # of another release
    await bench.add(comparison("good u1n1", "bad"))
    await bench.redis.hset(bench.keys().state, "cur", "1-1")
    assert await bench.update() == "committed"
    await bench.add(comparison("good u1n2", "bad"))
    assert await bench.update() == "committed"
    assert "a test of a summary was lost" in caplog.text
    assert "secret" not in caplog.text


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["overloaded", "cut"])
async def test_an_engine_that_fails_blames_nobody(
    redis_url: str, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[Fault] = ["", fault]

    with caplog.at_level(logging.DEBUG, "asyncio"):
        async with benched(
            redis_url, MockEngine(lambda _: faults.pop(0) if faults else ""), queue={"backoff_ms": 60_000}
        ) as bench:
            await bench.add(comparison("good u1n1", "bad"))
            assert await bench.update() == "committed"
            await bench.add(comparison("good u1n2", "bad"))
            bench.mock.choosing_status = 503
            with pytest.raises(EngineUnavailable):
                await bench.update()
            fields = await bench.fields()
            assert fields["strikes"] == "1"
            assert bench.count("alignx_update_retries_total", fault="engine") == 1
            assert not {"fail", "crash", "cap", "own"} & set(fields)
            assert (await bench.due_in() or 0) > 0
            name, data = (await live(bench))[-1]
            assert name == "error"
            assert isinstance(data, dict)
            assert data["type"] == "urn:alignx:problem:engine_unavailable"
            assert (await bench.store.preferences(TENANT, USER)).version == 1
            assert await bench.update() == "committed"
            assert markers((await bench.store.preferences(TENANT, USER)).text) == ["u1n1", "u1n2"]
    assert not [entry for entry in caplog.records if entry.levelno >= logging.ERROR]


async def test_an_event_whose_replies_are_no_summary_is_passed_over(redis_url: str) -> None:
    mute = [True]
    faults = MockEngine(lambda prompt: "mute" if mute[0] and "u1n2" in markers(prompt) else "")
    async with benched(redis_url, faults, queue={"event_failures": 7}) as bench:
        names = [f"u1n{n}" for n in range(5)]
        ids = (await bench.put(*names)).ids
        outcomes = []
        while (await bench.store.state(TENANT, USER)).pending:
            outcomes.append(await bench.try_update())
        assert (outcomes.count("skipped"), outcomes.count("dead")) == (1, 0)
        assert await bench.store.dead_letters(TENANT, USER, None, 9) == []
        drafts = await bench.store.rejected(TENANT, USER)
        assert len(drafts) == 10, "the latest alone are kept"
        assert (drafts[0].check, drafts[0].events.first, drafts[0].events.count) == ("separable", ids[2], 1)
        assert markers((await bench.store.preferences(TENANT, USER)).text) == names[:2] + names[3:]
        mute[0] = False
        await bench.queue.request_rebuild(TENANT, USER)
        assert await bench.update() == "committed"
        assert markers((await bench.store.preferences(TENANT, USER)).text) == names


async def test_an_event_that_fails_alone_while_others_pass_is_set_aside(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(lambda prompt: "refused" if "u1n6" in markers(prompt) else "")) as bench:
        names = [f"u1n{n}" for n in range(10)]
        ids = (await bench.put(*names)).ids
        outcomes = []
        while (await bench.store.state(TENANT, USER)).pending:
            outcomes.append(await bench.try_update())
        assert outcomes.count("dead") == 1
        assert outcomes.count("halved") >= 3
        assert outcomes.count("data") >= bench.settings.queue.event_failures - 1
        [(_, letter)] = await bench.store.dead_letters(TENANT, USER, None, 9)
        assert letter.event_id == ids[6]
        assert "u1n6" not in letter.error
        assert markers((await bench.store.preferences(TENANT, USER)).text) == names[:6] + names[7:]


@pytest.mark.parametrize("fault", ["refused", "mute"])
async def test_nothing_is_set_aside_while_nobody_passes(redis_url: str, fault: Fault) -> None:
    mock = MockEngine(lambda _: fault)
    mock.canary_status = 400 if fault == "refused" else 200
    async with benched(redis_url, mock) as bench:
        await bench.put("u1n1", "u1n2")
        assert {await bench.try_update() for _ in range(20)} == {"engine"}
        assert (await bench.store.state(TENANT, USER)).pending == 2
        assert await bench.store.dead_letters(TENANT, USER, None, 9) == []
        assert not {"fail", "cap"} & set(await bench.fields())


@pytest.mark.parametrize("names", DIALECTS.values(), ids=DIALECTS)
async def test_every_dialect_gets_its_updates(redis_url: str, names: tuple[str, ...]) -> None:
    mock = MockEngine()
    mock.strict = rules(*names)
    async with benched(redis_url, mock, engine={"cache_salt_secret": "a secret"}) as bench:
        for n in (1, 2):
            await bench.add(comparison(f"good u1n{n}", "bad"))
            assert await bench.update() == "committed"
        assert markers((await bench.store.preferences(TENANT, USER)).text) == ["u1n1", "u1n2"]


@pytest.mark.parametrize("window", [{"context_tokens": 2_048}, {}], ids=["set", "from the refusal"])
@pytest.mark.parametrize("events", [8, 1])
async def test_a_small_window_costs_no_event(redis_url: str, window: dict[str, int], events: int) -> None:
    """Case 08: eight posts of 4,000 characters, and a single one of 24,000."""
    mock = MockEngine()
    mock.strict = rules(window=2_048)
    post = "I read about trains and timetables today. " * (100 if events > 1 else 600)
    async with benched(redis_url, mock, engine=window) as bench:
        names = [f"u1n{n}" for n in range(events)]
        await bench.put(*(f"{name} {post}" for name in names))
        while (await bench.store.state(TENANT, USER)).pending:
            assert await bench.update() in ("committed", "data", "halved")
        assert await bench.store.dead_letters(TENANT, USER, None, 9) == []
        assert markers((await bench.store.preferences(TENANT, USER)).text) == names
        await bench.queue.request_rebuild(TENANT, USER)
        assert await bench.update() == "committed"


@pytest.mark.parametrize("fault", ["too long", "refused"])
async def test_a_window_that_the_engine_does_not_name_is_found_by_halving(redis_url: str, fault: Fault) -> None:
    async with benched(
        redis_url, MockEngine(lambda prompt: fault if len(prompt) > 2_600 else ""), queue={"event_failures": 1}
    ) as bench:
        await bench.put("u1n1 " + "word " * 5_000)
        assert await bench.update() == "committed"
        assert markers((await bench.store.preferences(TENANT, USER)).text) == ["u1n1"]


async def test_an_engine_that_takes_canaries_but_no_update_loses_nothing(redis_url: str) -> None:
    mock = MockEngine()
    mock.strict = lambda body: "max_tokens is too large, at most 512" if body["max_tokens"] > 512 else ""
    async with benched(redis_url, mock, queue={"event_failures": 1, "data_retries": 1}) as bench:
        await bench.put("u1n1", "u1n2")
        assert {await bench.try_update() for _ in range(6)} == {"engine"}
        assert (await bench.store.state(TENANT, USER)).pending == 2


async def test_too_long_a_prompt_is_halved_at_once_but_its_last_event_waits(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(lambda _: "too long")) as bench:
        await bench.put("u1n1", "u1n2")
        assert [await bench.try_update() for _ in range(4)] == ["data", "halved", "engine", "engine"]
        assert (await bench.store.state(TENANT, USER)).pending == 2


async def test_an_event_that_cannot_be_read_is_set_aside(bench: Bench) -> None:
    await bench.put("u1n1")
    await bench.add('{"type":"of an older build"}')
    await bench.put("u1n2")
    while (await bench.store.state(TENANT, USER)).pending:
        await bench.update()
    [(_, letter)] = await bench.store.dead_letters(TENANT, USER, None, 9)
    assert letter.interaction is None
    assert "ValidationError" in letter.error
    assert markers((await bench.store.preferences(TENANT, USER)).text) == ["u1n1", "u1n2"]


async def test_a_suspect_is_not_tried_again(bench: Bench) -> None:
    await bench.put("u1n1")
    await bench.redis.hset(bench.keys().state, "suspect", "1")
    assert await bench.update() == "dead"
    assert bench.mock.prompts == []
    [(_, letter)] = await bench.store.dead_letters(TENANT, USER, None, 9)
    assert letter.error.startswith("This event ended its worker")


async def test_a_rebuild_that_cannot_be_made_leaves_the_summary(redis_url: str) -> None:
    refused = [False, True, True]

    async with benched(
        redis_url, MockEngine(lambda prompt: "refused" if "u1n1" in prompt and refused.pop(0) else "")
    ) as bench:
        await bench.put("u1n1")
        await bench.update()
        await bench.queue.request_rebuild(TENANT, USER)
        outcomes = []
        for _ in range(2):
            outcomes.append(await bench.try_update())
        assert outcomes == ["data", "dropped"]
        assert (await bench.store.preferences(TENANT, USER)).version == 1
        assert await bench.idle()


async def test_a_rebuild_that_is_too_long_is_kept_while_nobody_passes(redis_url: str) -> None:
    faults: list[Fault] = [""]

    async with benched(redis_url, MockEngine(lambda _: faults.pop() if faults else "too long")) as bench:
        await bench.put("u1n1", "u1n2")
        await bench.update()
        await bench.queue.request_rebuild(TENANT, USER)
        assert {await bench.update() for _ in range(5)} == {"engine"}
        assert "rebuild" in await bench.fields()


async def test_a_rebuild_reads_dead_letters_and_survives_a_poison_among_them(redis_url: str) -> None:
    mended = [False]
    faults = MockEngine(lambda prompt: "refused" if "bad" in prompt and not mended[0] else "")

    async with benched(redis_url, faults, queue={"event_failures": 2}) as bench:
        for name in ("u1n1", "bad u1n2", "u1n3"):
            await bench.put(name)
            while (await bench.store.state(TENANT, USER)).pending:
                await bench.try_update()
        assert len(await bench.store.dead_letters(TENANT, USER, None, 9)) == 1
        assert await bench.queue.request_rebuild(TENANT, USER) == 1
        outcomes = []
        while not outcomes or outcomes[-1] != "committed":
            outcomes.append(await bench.try_update())
        assert "postponed" in outcomes
        assert outcomes[-2] == "dead"
        version = await bench.store.version(TENANT, USER, 3)
        assert (version.parent, markers(version.text)) == (None, ["u1n1", "u1n3"])
        mended[0] = True
        await bench.queue.request_rebuild(TENANT, USER)
        assert await bench.update() == "committed"
        assert markers((await bench.store.preferences(TENANT, USER)).text) == ["u1n1", "u1n3", "u1n2"]
        assert await bench.store.dead_letters(TENANT, USER, None, 9) == []


# --- others at the same user ---------------------------------------------------------------------


async def test_an_edit_during_an_update_is_its_past_summary(redis_url: str) -> None:
    async with benched(redis_url, MockEngine(lambda _: "silent")) as bench:
        await bench.put("u1n1")
        update = asyncio.create_task(bench.update())
        await until(bench.is_asked)
        await bench.queue.edit(TENANT, USER, 0, record("By hand: u1n7."))
        bench.mock.gate.set()
        assert await update == "conflict"
        assert (await bench.store.preferences(TENANT, USER)).text == "By hand: u1n7."
        assert await bench.update() == "committed"
        assert "<past_summary>\nBy hand: u1n7.\n</past_summary>" in bench.mock.prompts[-1]
        assert markers((await bench.store.preferences(TENANT, USER)).text) == ["u1n7", "u1n1"]


async def test_no_prompt_holds_another_users_words(bench: Bench) -> None:
    users = [("t0", "ada"), ("t0", "bob"), ("t1", "ada")]
    for turn in range(3):
        for place, (tenant, user) in enumerate(users):
            await bench.add(
                encode_interaction(DemographicInteraction(text=f"u{place}n{turn}")),
                comparison(f"good u{place}n{turn}", "bad"),
                tenant=tenant,
                user=user,
                scored=PrequentialSums(),
            )
        for _ in users:
            await bench.make_due()
            _, claim = await bench.queue.claim(0, "worker")
            assert claim is not None
            await bench.updater.run(claim)
    assert len(bench.mock.prompts) == 9
    for prompt in bench.mock.prompts + bench.mock.choices:
        assert len({marker.split("n")[0] for marker in markers(prompt)}) == 1
    for place, (tenant, user) in enumerate(users):
        found = markers((await bench.store.preferences(tenant, user)).text)
        assert {marker.split("n")[0] for marker in found} == {f"u{place}"}
