"""What an update costs as the history grows: prompt tokens of one more event after 10 to 10 000.

Streaming inference reads the past summary and what is new, never the history again. The pair is a
rebuild at the same length, which reads as much of the history as the context window takes. The mock
engine's summary does not grow, so this is the part of the prompt that the history could add to; a
real summary adds its own length, at most ALIGNX_SUMMARY__PAST_TOKENS.
"""

import tempfile
import time
from pathlib import Path

import httpx

from bench.harness import comparison, running_suite
from bench.page import Row
from tests.live.suite import mock_engine

LENGTHS = (10, 100, 1_000, 10_000)
CALL = 250
WAIT = {"Prefer": "wait=30"}


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as home, mock_engine(Path(home)) as engine:
        settings = {"ALIGNX_ENGINE__URL": f"{engine}/v1", "ALIGNX_SUMMARY__PREQUENTIAL_SAMPLE": "0"}
        with running_suite(settings) as suite, suite.client("cost") as client:
            streaming: dict[int, int] = {}
            rebuilt: dict[int, int] = {}
            sent = 0
            for length in LENGTHS:
                while sent < length:
                    count = min(CALL, length - sent)
                    events = [comparison(sent + number) for number in range(count)]
                    client.post("/v1/users/ada/events", json={"events": events}, headers=WAIT).raise_for_status()
                    sent += count
                one_more = {"events": [comparison(99_999)]}
                client.post("/v1/users/ada/events", json=one_more, headers=WAIT).raise_for_status()
                sent += 1
                streaming[length] = _last_prompt(engine)
                rebuilt[length] = _rebuild(client, engine)
    rows = [Row(f"prompt tokens of an update after {length} events", streaming[length], "tokens") for length in LENGTHS]
    rows.append(Row("update after 10 000 / after 10", streaming[10_000] / streaming[10], "ratio", "≤ 1.1"))
    rows.append(Row("rebuild / update after 10 000", rebuilt[10_000] / streaming[10_000], "ratio"))
    return rows


def _last_prompt(engine: str) -> int:
    """Characters / 4, so that the cost of one prompt can be compared with that of another."""
    seen = httpx.get(f"{engine}/seen?prompts").json()
    return len(seen["prompts"][seen["calls"] - 1]) // 4


def _rebuild(client: httpx.Client, engine: str) -> int:
    before = client.get("/v1/users/ada/preferences").json()["version"]
    client.post("/v1/users/ada/preferences/rebuild").raise_for_status()
    deadline = time.monotonic() + 30
    while client.get("/v1/users/ada/preferences").json()["version"] == before:
        assert time.monotonic() < deadline, "the rebuild does not end"
        time.sleep(0.05)
    return _last_prompt(engine)
