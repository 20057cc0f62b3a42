"""What a Redis holds and what its scripts answer, as text that is the same in every run.

What differs from run to run (times, ids of stream entries, durations, a key's secret) gets a placeholder;
ids are numbered in the order in which they stand in the text, so that it shows which are the same one.
Nothing is left out, and values are as they are stored.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
from redis.asyncio import Redis

GIVEN_YEAR = 2001
"""Times of this year are the scenario's own and stay."""

_ROOT = Path(__file__).parents[2]
_LIVE = "live:"
"""Set before the ids of live streams, which may by chance be those of other entries of the same millisecond."""
_ENTRY_ID = re.compile(rf"(?:{_LIVE})?\b\d{{13}}-\d+\b")
_PLACEHOLDERS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?<![\w.])\d{16}\b"), "<us>"),
    (re.compile(r"(?<![\w.])\d{13}\b"), "<ms>"),
    (re.compile(r"\b\d{10}\.\d{1,6}\b"), "<s.us>"),
    (
        re.compile(rf"(?!{GIVEN_YEAR})\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d+))?"),
        lambda match: "<time.3>" if match[1] and len(match[1]) == 3 else "<time>",  # of six digits, those of 0 go
    ),
    (re.compile(r'(\[\d+,\d+,|"(?:en)?\\*",)7(?:39|4\d)\d{3}\]'), r"\1<day>]"),  # of the profile: days from year 1
    (re.compile(r'("z\\*":)\d+'), r"\1<seconds>"),
    (re.compile(r'(latency_ms\\*":)(?!0\.0[,}])[\d.]+'), r"\1<duration>"),
    (re.compile(r"'(\d+)\.\d{6}'"), r"'\1.<fraction>'"),  # tokens left in a bucket
)


def with_placeholders(text: str, known: Mapping[str, str]) -> str:
    """`known` are random texts with what stands for them."""
    for random, name in known.items():
        text = text.replace(random, name)
    numbers: dict[str, int] = {}
    text = _ENTRY_ID.sub(lambda match: f"<id {numbers.setdefault(match[0], len(numbers) + 1)}>", text)
    for pattern, placeholder in _PLACEHOLDERS:
        text = pattern.sub(placeholder, text)
    return text


def _sort_fields(answer: Any) -> Any:
    """An answer with the fields of its JSON in order: Lua's tables have an order of their own in each server."""
    if isinstance(answer, str) and answer.startswith("{"):
        return orjson.dumps(orjson.loads(answer), option=orjson.OPT_SORT_KEYS).decode()
    return answer


@contextmanager
def recorded_scripts() -> Iterator[list[str]]:
    """A line for each answer of a Lua script. The server must not know the scripts yet: their names are told
    by their sources, which it is sent once."""
    lines: list[str] = []
    names: dict[str, str] = {}
    files = [path for folder in ("services", "gateway") for path in (_ROOT / folder).rglob("*.lua")]
    sources = {path.read_text(encoding="utf-8"): path.stem for path in files}
    execute = Redis.execute_command

    async def recording(self: Any, *args: Any, **options: Any) -> Any:
        answer = await execute(self, *args, **options)
        if args[0] == "EVAL" and (own := [text for text in sources if args[1].endswith(text)]):
            names[sha1(args[1].encode(), usedforsecurity=False).hexdigest()] = sources[max(own, key=len)]
        if args[0] in ("EVAL", "EVALSHA"):
            sha = args[1] if args[0] == "EVALSHA" else sha1(args[1].encode(), usedforsecurity=False).hexdigest()
            lines.append(f"{names.get(sha, 'unknown')} -> {_sort_fields(answer)!r}")
        return answer

    with patch.object(Redis, "execute_command", recording):
        yield lines


async def describe_keys(redis: Any) -> list[str]:
    """Every key with its type, its lifetime to the minute, and what it holds."""
    lines = []
    for key in sorted(await redis.keys("*")):
        kind, lifetime = await redis.type(key), await redis.pttl(key)
        lines.append(f"{key} {kind}" + (f" expires in {round(lifetime / 60_000)} min" if lifetime >= 0 else ""))
        lines += [f"  {line}" async for line in _values(redis, key, kind)]
    return lines


async def _values(redis: Any, key: str, kind: str) -> AsyncIterator[str]:
    match kind:
        case "string":
            yield repr(await redis.get(key))
        case "hash":
            for name, value in sorted((await redis.hgetall(key)).items()):
                yield f"{name!r} = {value!r}"
        case "zset":
            for member, score in await redis.zrange(key, 0, -1, withscores=True):
                yield f"{member!r} at {score:.17g}"
        case "stream":
            for entry, fields in await redis.xrange(key):
                yield f"{_LIVE if key.endswith(':live') else ''}{entry} {fields!r}"
        case _:
            raise AssertionError(f"{key} is a {kind}, which nothing here writes")
