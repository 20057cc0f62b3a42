"""What an acknowledgement is worth, and what it costs those who only read."""

import time

from redis import Redis

from tests.live.suite import Suite


def test_reads_write_nothing_to_disk(suite: Suite) -> None:
    suite.tell("ada", "I like to read.", tenant="durability")
    with suite.client("durability") as client, Redis.from_url(suite.redis_url) as redis:
        before = _settled_size(redis)
        for _ in range(50):
            client.get("/v1/users/ada/preferences").raise_for_status()
        assert redis.info("persistence")["aof_current_size"] == before


def _settled_size(redis: Redis) -> int:
    """The size of the log once the items of the events are counted, which happens behind the append."""
    size = -1
    while size != (now := redis.info("persistence")["aof_current_size"]):
        size = now
        time.sleep(2)
    return size
