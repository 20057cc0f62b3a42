"""The whole way on public data: P-Soups histories in through the API, choices predicted from them.

Each user's four history pairs are streamed in as comparisons; then the service says which answer of
the target pair the user would choose. The persona and profile fields of the files are never read.
"""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.live.suite import Suite

pytestmark = pytest.mark.live

HISTORY = "Pair-wise Comparative Feedback"
LEAST = 0.74
CONNECTIONS = 16


def comparison(pair: dict[str, Any]) -> dict[str, Any]:
    return {"type": "comparison", "query": pair["prompt"], "chosen": pair["chosen"], "rejected": pair["rejected"]}


def hit(chosen: float, rejected: float) -> float:
    """1 if the chosen one is ahead; a tie counts half."""
    return (chosen > rejected) + 0.5 * (chosen == rejected)


async def post(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(path, json=body) as response:
        assert response.ok, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


async def foresee(session: aiohttp.ClientSession, number: int, row: dict[str, Any]) -> float:
    """Streams one user's history in; whether the target choice is then foreseen."""
    for pair in row[HISTORY]:
        await post(session, f"/v1/users/{number}/events", {"events": [comparison(pair)]})
    index = number % 2  # the chosen answer stands first for half of the users
    items = [row["rejected"], row["rejected"]]
    items[index] = row["chosen"]
    body = {"query": row["prompt"], "items": items, "method": "profile"}
    answer = await post(session, f"/v1/users/{number}/select", body)
    chosen, rejected = (answer["items"][item]["probability"] for item in (index, 1 - index))
    return hit(chosen, rejected)


async def accuracy(suite: Suite, tenant: str, rows: list[dict[str, Any]]) -> float:
    headers = {"Authorization": f"Bearer {suite.new_key(tenant)}"}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(suite.url, headers=headers, connector=connector) as session:
        users = (foresee(session, number, row) for number, row in enumerate(rows))
        return sum(await asyncio.gather(*users)) / len(rows)


@pytest.mark.parametrize("name", ["friendly_unfriendly", "student_phd"])
@pytest.mark.anyio
async def test_choices_are_foreseen_from_four_earlier_ones(
    suite: Suite, shared_data: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads((shared_data / "psoups" / f"{name}.json").read_text())
    profile = await accuracy(suite, f"psoups-{name}", rows)
    longer = sum(hit(len(row["chosen"]), len(row["rejected"])) for row in rows) / len(rows)
    source = random.Random(42)
    chance = sum(source.random() < 0.5 for _ in rows) / len(rows)
    with capsys.disabled():
        print(  # noqa: T201  # the figure is what the run is for
            f"\nP-Soups {name}, {len(rows)} users: profile {profile:.1%}, longer wins {longer:.1%}, random {chance:.1%}"
        )
    assert profile >= LEAST
    assert profile > max(longer, chance)
