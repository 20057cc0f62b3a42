"""Which calls an update comes from: kept with the user while events wait, and no longer."""

import io
import logging
from math import exp, log

import orjson
import pytest
from opentelemetry.trace import INVALID_SPAN, get_current_span

from services.preference.queue_records import Origin, encode_origin, encode_predictions, parse_origins
from services.server.logging import REQUEST_ID, JsonFormatter
from services.tracing import context_of
from tests.unit.services.preference.rig import TENANT, USER, Rig, record
from tests.unit.services.preference.working import benched, until

pytestmark = pytest.mark.anyio

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def kept(rig: Rig) -> str | None:
    found: str | None = await rig.redis.get(rig.keys().calls)
    return found


def test_a_call_is_read_as_it_was_kept() -> None:
    token = REQUEST_ID.set("r-1")
    assert parse_origins(
        f"{encode_origin(get_current_span(context_of(TRACEPARENT)))},{encode_origin(INVALID_SPAN)}"
    ) == [
        Origin("r-1", TRACEPARENT),
        Origin("r-1", ""),
    ]
    REQUEST_ID.reset(token)
    assert parse_origins(encode_origin(INVALID_SPAN)) == []


def test_a_sure_prediction_keeps_its_log_odds() -> None:
    chances = [1 / (1 + exp(-odds)) for odds in (-15, 0, 15)]
    stored = list(map(float, encode_predictions(chances).split()))
    assert [log(chance / (1 - chance)) for chance in stored] == pytest.approx([-15, 0, 15], abs=0.01)


async def test_the_calls_since_the_last_update_are_claimed_and_then_forgotten(rig: Rig) -> None:
    for call in ("r1 t1", "r2", ""):
        await rig.put("a", call=call)
    claim = await rig.take()
    assert claim.calls == "r1 t1,r2"
    await rig.put("b", call="r3")
    assert await rig.commit(claim)
    claim = await rig.take()
    assert claim.calls == "r3"
    assert await rig.commit(claim)
    assert await kept(rig) is None


async def test_a_user_s_state_stays_small(rig: Rig) -> None:
    for _ in range(8):
        await rig.put("a", call=f"{'r' * 32} {TRACEPARENT}")
    assert (await rig.redis.object("encoding", rig.keys().state)) in ("listpack", "ziplist")
    assert await kept(rig)
    assert await rig.queue.forget(TENANT, USER)
    assert await rig.user_keys() == []


async def test_only_the_first_calls_are_kept(rig: Rig) -> None:
    for number in range(20):
        await rig.put("a", call=f"r{number}")
    assert (await rig.take()).calls == ",".join(f"r{number}" for number in range(8))


async def test_a_part_of_the_events_leaves_the_calls_to_the_rest(rig: Rig) -> None:
    first = await rig.put("a", "b", call="r1")
    claim = await rig.take()
    assert await rig.queue.commit(claim, record("s"), first.ids[0], 1)
    assert (await rig.take()).calls == "r1"


@pytest.mark.parametrize("rebuild", [False, True])
async def test_calls_go_with_what_is_given_up(rig: Rig, rebuild: bool) -> None:
    await rig.put("a", call="r1")
    assert await rig.commit(await rig.take())
    if rebuild:
        await rig.queue.request_rebuild(TENANT, USER, "r2")
    else:
        await rig.put("b", call="r2")
    words = []
    for _ in range(rig.queue.settings.data_retries):
        claim = await rig.take()
        assert claim.calls == "r2"
        first = "" if rebuild else claim.last_id
        words.append(await rig.queue.fail(claim, "data", first_id=first, batch=1, error="x"))
    assert words == ["RETRY", "DROPPED" if rebuild else "DEAD"]
    assert await kept(rig) is None


async def test_an_update_is_logged_under_its_latest_call(redis_url: str) -> None:
    stream, logger = io.StringIO(), logging.getLogger("alignx.worker")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("worker"))
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        async with benched(redis_url) as bench:
            for call in ("r1 " + TRACEPARENT, "r2 " + TRACEPARENT):
                await bench.put("u1n1", call=call)
            async with bench.at_work():
                await until(lambda: bench.ended("committed"))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    (line,) = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["request_id"], line["request_ids"]) == ("r2", ["r1", "r2"])
    assert line["trace_id"] == TRACEPARENT[3:35]
    assert line["outcome"] == "committed"
