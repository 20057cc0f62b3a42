"""One key that floods a suite: a process of its own, so that its work does not delay who measures.

    python -m bench.traffic.flooder KIND URL KEY SECONDS

Many connections call on and on, and heed no Retry-After. Prints the answers by status, as JSON.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import aiohttp

from bench.harness import comparison

_PAUSE_S = 0.05
"""After a refusal."""
_EVENTS = json.dumps({"events": [comparison(number, 120) for number in range(1_000)]}).encode()
_WORDS = "Candidate {0} with a few words on topic {1} and more"
_CANDIDATES = json.dumps(
    {"query": "something", "candidates": [_WORDS.format(number, number * 7) for number in range(1_000)]}
).encode()
_CHAT = json.dumps(
    {"model": "any", "user": "f1", "messages": [{"role": "user", "content": "Tell me of basil."}]}
).encode()

Session = aiohttp.ClientSession
Flood = Callable[[Session, int], Awaitable[int]]
"""Makes the n-th call; the answer's status."""


async def _post(session: Session, path: str, body: bytes) -> int:
    async with session.post(path, data=body) as answer:
        await answer.read()
        return answer.status


async def _stream(session: Session, number: int) -> int:
    async with session.get(f"/v1/users/f{number % 5}/preferences/stream") as answer:
        await answer.read()
        return answer.status


async def _trickle(session: Session, number: int) -> int:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b" "
            await asyncio.sleep(0.2)

    async with session.post(f"/v1/users/f{number % 5}/events", data=pieces()) as answer:
        return answer.status


FLOODS: Mapping[str, tuple[Flood, int]] = {
    "appends of 1,000 events": (lambda session, n: _post(session, f"/v1/users/f{n % 500}/events", _EVENTS), 50),
    "recommends of 1,000": (lambda session, n: _post(session, f"/v1/users/f{n % 5}/recommend", _CANDIDATES), 50),
    "streams": (_stream, 1_500),
    "chats": (lambda session, _: _post(session, "/v1/chat/completions", _CHAT), 200),
    "slow bodies": (_trickle, 400),
}
"""What each does, and how many of it at once."""


async def flood(kind: str, url: str, key: str, seconds: float) -> Counter[str]:
    """The answers by status; those that were still open at the end as "open"."""
    make, parallel = FLOODS[kind]
    met, numbers = Counter[str](), iter(range(10**9))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    async def go_on() -> None:
        while True:
            try:
                status = str(await make(session, next(numbers)))
            except asyncio.CancelledError:
                met["open"] += 1
                raise
            except (aiohttp.ClientError, OSError) as error:
                status = type(error).__name__
            met[status] += 1
            if not status.startswith("2"):
                await asyncio.sleep(_PAUSE_S)

    async with Session(url, connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        tasks = [asyncio.create_task(go_on()) for _ in range(parallel)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return met


if __name__ == "__main__":
    kind, url, key, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(flood(kind, url, key, float(seconds)))))
