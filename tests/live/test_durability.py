"""What an acknowledgement is worth, and what it costs those who only read."""

import re
import time
from pathlib import Path

from redis import Redis

from services.storage.key_names import WORKER_SEEN
from tests.live.suite import Suite


def test_reads_write_nothing_to_disk(suite: Suite) -> None:
    suite.tell("ada", "I like to read.", tenant="durability")
    with suite.client("durability") as client, Redis.from_url(suite.redis_url) as redis:
        _settle(redis)
        log = _log(redis)
        before = log.stat().st_size
        for _ in range(50):
            client.get("/v1/users/ada/preferences").raise_for_status()
        assert _log(redis) == log
        commands = re.split(rb"(?m)^\*\d+\r\n", log.read_bytes()[before:])
        assert [command for command in commands if command and WORKER_SEEN.encode() not in command] == []


def _settle(redis: Redis) -> None:
    """Waits until the items of the events are counted, which happens behind the append."""
    size = -1
    while size != (now := redis.info("persistence")["aof_current_size"]):
        size = now
        time.sleep(2)


def _log(redis: Redis) -> Path:
    """The file that Redis appends to now."""
    folder = Path(redis.config_get("dir")["dir"], redis.config_get("appenddirname")["appenddirname"])
    return max(folder.glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
