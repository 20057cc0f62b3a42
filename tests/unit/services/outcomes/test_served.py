"""Records of answers, and what is counted for them."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from alignx.schemas.interactions import ClickInteraction, PurchaseInteraction, RatingInteraction
from alignx.schemas.outcomes import FeedbackRequest, Kind
from alignx.schemas.tenants import TenantSettings
from services.errors import InvalidRequest, ResponseUnknown
from services.outcomes.served import MOST_KEPT, OutcomeMetrics, Outcomes
from services.outcomes.uplift import read_uplift
from services.settings import RedisSettings
from services.storage.connection import open_redis
from services.storage.timed_cache import TimedCache
from services.storage.users import Store
from tests.unit.services.preference.rig import opened

pytestmark = pytest.mark.anyio
PROSE = "A reply that is far too long to be the title of anything. " * 5


class Shop:
    """A tenant whose answers are kept for an hour."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store, self.registry = store, CollectorRegistry()
        self.settings = TenantSettings(**settings)
        metrics = OutcomeMetrics(self.registry, ("acme",))
        self.outcomes = Outcomes(store.redis, store.keys, TimedCache(self.read), metrics)

    async def read(self, _: str) -> TenantSettings:
        return self.settings

    async def serve(self, kind: Kind, *items: str, user: str = "ada", choice: int | None = None) -> str:
        serving = await self.outcomes.open("acme", user, kind)
        await self.outcomes.record(serving, dict(enumerate(items)), choice=choice)
        assert serving.response_id is not None
        return serving.response_id

    async def take(self, *items: str, user: str = "ada", **fields: Any) -> None:
        events = [PurchaseInteraction(item=item, **fields) for item in items]
        await self.outcomes.count_events("acme", user, events)

    async def feedback(self, response_id: str, user: str = "ada", **fields: Any) -> None:
        await self.outcomes.take_feedback("acme", user, FeedbackRequest(response_id=response_id, **fields))

    async def counts(self) -> dict[str, tuple[int, int]]:
        """Successes and trials by measure."""
        figures = (await read_uplift(self.store, "acme", self.settings.holdout_share)).arms["personalized"]
        rates = {name: getattr(figures, name) for name in ("accuracy", "click_rate", "feedback_rate")}
        return {name: (rate.successes, rate.trials) for name, rate in rates.items()}


@pytest.fixture
async def shop(redis_url: str) -> AsyncIterator[Shop]:
    async with open_redis(RedisSettings(url=redis_url)) as redis:
        yield Shop(Store(redis, 4), feedback_s=3600)


async def test_a_selection_is_counted_by_the_next_choice_of_its_items(shop: Shop) -> None:
    await shop.serve("selection", "tea", PROSE, choice=1)
    await shop.take("milk")
    assert (await shop.counts())["accuracy"] == (0, 0)
    await shop.take(PROSE)
    await shop.take("tea", PROSE)  # the answer is counted already
    assert (await shop.counts())["accuracy"] == (1, 1)
    await shop.serve("selection", "tea", "milk", choice=1)
    await shop.outcomes.count_events("acme", "ada", [ClickInteraction(clicked="Tea", shown=("milk",))])
    assert (await shop.counts())["accuracy"] == (1, 2)


async def test_a_recommendation_counts_when_served_and_when_clicked(shop: Shop) -> None:
    await shop.serve("recommendation", "tea", "milk")
    await shop.serve("recommendation", "rum", "gin")
    await shop.outcomes.count_events("acme", "ada", [RatingInteraction(item="rum", value=1, scale=(1, 5))])  # a dislike
    assert (await shop.counts())["click_rate"] == (0, 2)
    await shop.take("milk", "milk")
    assert (await shop.counts())["click_rate"] == (1, 2)


async def test_an_event_of_before_the_answer_is_no_outcome_of_it(shop: Shop) -> None:
    await shop.serve("selection", "tea", "milk", choice=0)
    await shop.take("tea", occurred_at=time.time() - 60)
    assert (await shop.counts())["accuracy"] == (0, 0)


async def test_feedback_is_counted_once_and_a_later_thumb_replaces_it(shop: Shop) -> None:
    chat = await shop.serve("chat")
    for thumb in ("up", "up", "down", "up"):
        await shop.feedback(chat, thumb=thumb)
    assert (await shop.counts())["feedback_rate"] == (1, 1)
    await shop.feedback(await shop.serve("chat"), chosen="Short.", rejected="Long.")  # it was asked for anew
    assert (await shop.counts())["feedback_rate"] == (1, 2)
    metrics = generate_latest(shop.registry).decode()
    assert 'alignx_arm_thumbs_total{arm="personalized",kind="chat",tenant="acme",thumb="up"} 1.0' in metrics
    assert "ada" not in metrics


async def test_a_picked_item_confirms_once(shop: Shop) -> None:
    selection = await shop.serve("selection", "tea", "milk", choice=1)
    await shop.feedback(selection, picked=1)
    await shop.feedback(selection, picked=0)
    await shop.take("tea")
    assert (await shop.counts())["accuracy"] == (1, 1)
    with pytest.raises(InvalidRequest, match="no item of this index"):
        await shop.feedback(selection, picked=7)


async def test_only_the_user_of_an_answer_can_name_it(shop: Shop) -> None:
    chat = await shop.serve("chat")
    for user, response_id in (("bob", chat), ("ada", "0" * 32)):
        with pytest.raises(ResponseUnknown):
            await shop.feedback(response_id, user, thumb="up")
    assert (await shop.counts())["feedback_rate"] == (0, 0)


async def test_answers_end_with_their_time_and_make_room(shop: Shop) -> None:
    answers = [await shop.serve("chat") for _ in range(MOST_KEPT + 3)]
    keys = shop.store.keys.user("acme", "ada")
    assert await shop.store.redis.hlen(keys.served) == MOST_KEPT
    assert 0 < await shop.store.redis.ttl(keys.served) <= 3600
    shop.settings = TenantSettings(feedback_s=1)
    shop.outcomes._tenants.drop("acme")  # what a second does
    old = f"{int(time.time() * 1000) - 1_500:012x}" + "0" * 20
    await shop.store.redis.hset(keys.served, old, await shop.store.redis.hget(keys.served, answers[-1]))
    with pytest.raises(ResponseUnknown):
        await shop.feedback(old, thumb="up")


async def test_the_period_is_that_of_the_answers_counted(shop: Shop) -> None:
    async def period() -> tuple[datetime | None, datetime | None]:
        figures = await read_uplift(shop.store, "acme", shop.settings.holdout_share)
        return figures.since, figures.until

    assert await period() == (None, None)
    served = []
    for number in range(6):
        response_id = await shop.serve("chat", user=f"user-{number}")  # of several shards
        served.append(datetime.fromtimestamp(int(response_id[:12], 16) / 1000, UTC))
        await asyncio.sleep(0.002)
    assert await period() == (served[0], served[-1])


async def test_nothing_is_kept_by_default(redis_url: str) -> None:
    async with open_redis(RedisSettings(url=redis_url)) as redis:
        shop = Shop(Store(redis, 4))
        serving = await shop.outcomes.open("acme", "ada", "selection")
        shown = await shop.outcomes.record(serving, {0: "tea"}, choice=0)
        await shop.take("tea")
        assert shown == {"response_id": None, "arm": None}
        assert await redis.dbsize() == 0


async def test_an_answer_is_served_though_redis_takes_no_writes(shop: Shop) -> None:
    serving = await shop.outcomes.open("acme", "ada", "selection")
    await shop.store.redis.config_set("min-replicas-to-write", 1)
    try:
        shown = await shop.outcomes.record(serving, {0: "tea", 1: "milk"}, choice=0)
    finally:
        await shop.store.redis.config_set("min-replicas-to-write", 0)
    assert shown == {"response_id": None, "arm": None}
    assert "alignx_arm_served_total{" not in generate_latest(shop.registry).decode()


@pytest.mark.parametrize("is_known", [True, False])
async def test_an_answer_brings_nothing_of_an_erased_user_back(redis_url: str, is_known: bool) -> None:
    async with opened(redis_url, shards=4) as rig:
        shop = Shop(rig.store, feedback_s=3600)
        if is_known:
            await rig.put("I like tea.", user="ada")
        kept, late = [await shop.outcomes.open("acme", "ada", "recommendation") for _ in range(2)]
        assert (await shop.outcomes.record(kept, {0: "tea"}))["response_id"] == kept.response_id
        assert await rig.queue.forget("acme", "ada")
        assert await shop.outcomes.record(late, {0: "tea"}) == {"response_id": None, "arm": None}
        assert await rig.user_keys() == []
        assert (await shop.counts())["click_rate"] == (0, 1)
        if is_known:  # the name has a new user
            await rig.put("I like milk.", user="ada")
            assert (await shop.outcomes.record(late, {0: "tea"}))["response_id"] is None
        await shop.serve("recommendation", "tea")


async def test_an_answer_that_a_users_first_event_overtakes_is_kept(redis_url: str) -> None:
    async with opened(redis_url, shards=4) as rig:
        shop = Shop(rig.store, feedback_s=3600)
        serving = await shop.outcomes.open("acme", "ada", "chat")
        await rig.put("I like tea.", user="ada")
        assert (await shop.outcomes.record(serving))["response_id"] == serving.response_id
