"""Which protocol of choices suits an engine: both are tried on pairs that the project ships.

`probe_pairs.json` has queries with two answers, and for each answer a preference that it fits: an engine that ignores
the preference is right half of the time.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from services.engine.capabilities import Capabilities
from services.engine.choice.choice_client import ChoiceClient
from services.engine.judge import judge
from services.engine.refusals import is_away
from services.errors import EngineError, EngineUnavailable
from services.profile.scoring import interval

_PRIORITY = 20
"""At the engine; updates run at 10, and lower goes first."""
_LONGEST_S = 180.0

logger = logging.getLogger("alignx.engine")


class ProbePair(NamedTuple):
    query: str
    preference: str
    fitting: str
    other: str


@cache
def probe_pairs() -> list[ProbePair]:
    rows = json.loads(Path(__file__).with_name("probe_pairs.json").read_text())
    return [
        ProbePair(row["query"], row["preferences"][index], row["answers"][index], row["answers"][1 - index])
        for row in rows
        for index in (0, 1)
    ]


async def measure_protocol(
    open_client: Callable[[], ChoiceClient], choose: Literal["auto", "letters", "likelihood"], record: Capabilities
) -> Capabilities:
    """The record with the protocol of choices and what was measured. Likelihood it is where the engine tells it and,
    by `auto`, foresees more pairs by it than by letters, and than a coin by the interval; else letters. Each
    time by a new client, which asks what model is there. Raises EngineUnavailable where the engine is away."""
    record = replace(record, protocol="letters", accuracies={})
    by_likelihood = replace(record, protocol="likelihood")
    if choose == "letters":
        return record
    client = open_client()
    client.capabilities = record
    try:
        async with asyncio.timeout(_LONGEST_S):
            await client.likelihood([{"role": "user", "content": "Hello."}], "Hello.", tenant="", priority=_PRIORITY)
            if choose == "likelihood":
                return by_likelihood
            measured = [by_likelihood] if record.letters == "none" else [record, by_likelihood]
            accuracies = {each.protocol: await _accuracy(client, each) for each in measured}
    except (EngineUnavailable, EngineError, TimeoutError) as error:
        if is_away(error):
            raise
        logger.info("the engine chooses by letters: it tells no likelihoods", extra={"error": type(error).__name__})
        return record
    share = accuracies["likelihood"]
    is_better = share > accuracies.get("letters", 0.0) and interval(share, len(probe_pairs()))[0] > 0.5
    return replace(by_likelihood if is_better else record, accuracies=accuracies)


async def _accuracy(client: ChoiceClient, record: Capabilities) -> float:
    """The share of the pairs that the engine foresees by the record's protocol; a tie counts half."""
    client.capabilities = record
    hits = 0.0
    for query, preference, *answers in probe_pairs():
        judgement = await judge(client, query, answers, preference, tenant="", priority=_PRIORITY)
        first, second = judgement.probabilities
        hits += (first > second) + 0.5 * (first == second)
    return hits / len(probe_pairs())
