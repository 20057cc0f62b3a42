"""The shipped checkpoint on a real engine: summaries of people, topics and phrasings that it has never
met help it to foresee what they choose."""

import asyncio
import random
import statistics

import pytest

from alignx.schemas.interactions import ComparisonInteraction
from services.engine.judge import judge
from services.engine.limits import Engine
from services.errors import EngineError
from services.prompts.build import update_prompt
from services.prompts.replies.parse_summary import parse_summary
from services.settings import EngineSettings
from training.corpus import world_rows
from training.corpus.world_rows import Row, World

USERS = 240
HISTORY = 12
SUMMARY_TOKENS = 320


def hit(probability: float) -> float:
    """1 for a choice foreseen, a half for a tie."""
    return 0.5 if abs(probability - 0.5) < 1e-6 else float(probability > 0.5)


def usable(reply: str) -> str | None:
    """The summary, or none where the reply holds none: serving keeps no such reply either."""
    try:
        return parse_summary(reply, max_chars=4000).text
    except EngineError:
        return None


async def _chances(engine: Engine, user: Row) -> tuple[float, float]:
    """The probability that the engine gives to the user's choice without and with a summary."""
    history = [ComparisonInteraction(**triple) for triple in user["history"]]
    prompt = update_prompt(None, history, past_tokens=1024)
    reply = await engine.complete(
        prompt.messages, tenant="test", max_tokens=SUMMARY_TOKENS, temperature=0.0, top_p=1.0, top_k=0
    )
    summary = usable(reply.text)
    target = user["target"]
    pair = [target["chosen"], target["rejected"]]
    before = await judge(engine, target["query"], pair, None, tenant="test")
    after = await judge(engine, target["query"], pair, summary, tenant="test")
    return before.probabilities[0], after.probabilities[0]


@pytest.mark.anyio
async def test_summaries_of_held_out_users_raise_selection_accuracy(mini_url: str) -> None:
    users = [
        world_rows.upi(random.Random(f"live-{index}"), World("heldout"), HISTORY, f"u{index}") for index in range(USERS)
    ]
    async with Engine.open(EngineSettings(url=mini_url, concurrency=32)) as engine:
        chances = await asyncio.gather(*(_chances(engine, user) for user in users))
    gains = [hit(after) - hit(before) for before, after in chances]
    error = statistics.stdev(gains) / USERS**0.5
    accuracy = statistics.mean(hit(after) for _, after in chances)
    # Three standard errors above nothing gained, so that chance does not pass.
    assert statistics.mean(gains) > 3 * error, (accuracy, statistics.mean(gains), error)
