"""The shipped checkpoint on a real engine: summaries of people, topics and phrasings that it has never
met help it to foresee what they choose."""

import asyncio
import random
import statistics

from services.core.engine import Engine
from services.core.errors import EngineError
from services.core.judge import judge
from services.core.prompts import update_prompt
from services.core.replies import parse_summary
from services.core.schemas import ComparisonInteraction
from services.core.settings import EngineSettings
from training.corpus import rows
from training.corpus.rows import Row, World

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


def test_summaries_of_held_out_users_raise_selection_accuracy(mini_url: str) -> None:
    users = [rows.upi(random.Random(f"live-{index}"), World("heldout"), HISTORY, f"u{index}") for index in range(USERS)]

    async def measured() -> list[tuple[float, float]]:
        async with Engine.open(EngineSettings(url=mini_url, concurrency=32)) as engine:
            return await asyncio.gather(*(_chances(engine, user) for user in users))

    chances = asyncio.run(measured())
    gains = [hit(after) - hit(before) for before, after in chances]
    error = statistics.stdev(gains) / USERS**0.5
    accuracy = statistics.mean(hit(after) for _, after in chances)
    # Three standard errors above nothing gained, so that chance does not pass.
    assert statistics.mean(gains) > 3 * error, (accuracy, statistics.mean(gains), error)
