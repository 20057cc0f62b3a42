"""What an acknowledgement is worth, and what it costs those who only read."""

from redis import Redis

from tests.live.suite import Suite


def test_reads_write_nothing_to_disk(suite: Suite) -> None:
    event = {"type": "statement", "text": "I like to read."}
    with suite.client("durability") as client, Redis.from_url(suite.redis_url) as redis:
        client.post("/v1/users/ada/events", json={"events": [event]}, headers={"Prefer": "wait=10"}).raise_for_status()
        before = redis.info("persistence")["aof_current_size"]
        for _ in range(50):
            client.get("/v1/users/ada/preferences").raise_for_status()
        assert redis.info("persistence")["aof_current_size"] == before
