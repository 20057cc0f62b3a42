"""What other users took, in the scores of items; nothing of fewer users than the tenant's least number."""

from typing import Any

import pytest

from alignx.schemas.interactions import ClickInteraction, RatingInteraction
from services.storage.key_names import mixture_key
from services.traffic.mixture import FIXED, Features, Mixture
from services.traffic.signals import Mixed, Signals
from tests.unit.services.preference.rig import TENANT
from tests.unit.services.traffic.counting import Shop, bought, item, shop

pytestmark = pytest.mark.anyio
LEARNED = Mixture(choices=100.0, weights=Features(1.0, 1.0, 1.0, 0.5, 0.0, 2.0, 0.0))


async def mix(here: Shop, user: str, *numbers: int, tenant: str = TENANT, **options: Any) -> Mixed:
    signals = Signals(here.rig.redis, here.rig.store.keys, here.consumer._tenants)
    offered = [item(number) for number in numbers]
    return await signals.mix(tenant, user, offered, [0.0] * len(offered), **({"is_cold": False} | options))


async def teach(here: Shop, tenant: str = TENANT) -> None:
    await here.rig.redis.hset(mixture_key(tenant), "items", LEARNED.text())


async def test_what_others_took_beside_what_the_user_took_comes_first(redis_url: str) -> None:
    async with shop(redis_url) as here:
        await teach(here)
        for user in range(6):
            await here.send(f"a{user}", bought(1, 2))
            await here.send(f"b{user}", bought(3, 4))
        for user, own in (("ada", 1), ("ben", 3)):
            await here.send(user, bought(own))
        await here.count()
        ada, ben = await mix(here, "ada", 2, 4), await mix(here, "ben", 2, 4)
        assert ada.values[0] > ada.values[1] + 1
        assert ben.values[1] > ben.values[0] + 1
        assert ada.is_known


async def test_nothing_of_fewer_users_is_used(redis_url: str) -> None:
    """Two tenants of three users; and in a larger one, two items that few users liked both."""
    async with shop(redis_url) as here:
        for tenant in ("acme", "books"):
            await teach(here, tenant)
            for user in range(3):
                await here.send(f"u{user}", bought(1, 2), tenant=tenant)
        await here.count()
        for tenant in ("acme", "books"):
            answer = await mix(here, "u0", 2, 7, tenant=tenant)
            assert answer.values[0] == answer.values[1]
            assert not answer.is_known
        for user in range(10):  # 1 and 8 have users enough, but nobody else has both
            await here.send(f"one{user}", bought(1, 5))
            await here.send(f"two{user}", bought(8, 9))
        await here.count()
        before = await mix(here, "one0", 8, 9)
        await here.send("two0", bought(1))
        await here.count()
        after = await mix(here, "one0", 8, 9)
        assert before.is_known
        differences = [answer.values[0] - answer.values[1] for answer in (before, after)]
        assert differences[0] == pytest.approx(differences[1])


async def test_the_weights_are_learned_from_events_before_they_are_counted(redis_url: str) -> None:
    """Of two items shown together all take the first: after some users that is foreseen, for those unknown too."""
    async with shop(redis_url) as here:
        for user in range(60):
            await here.send(f"u{user}", [ClickInteraction(clicked=item(1), shown=(item(1), item(2)))])
            if user % 3 == 0:
                await here.count()
        await here.count()
        mixture = Mixture.parse(await here.rig.redis.hget(mixture_key(TENANT), "items"))
        assert mixture.choices > 40
        assert mixture.gain > 15
        known, cold = await mix(here, "u0", 1, 2), await mix(here, "nobody", 1, 2, is_cold=True)
        assert known.values[0] > known.values[1] + 1
        assert cold.values[0] > cold.values[1] + 1
        assert here.metric("alignx_mixture_correct_total") > 40


async def test_items_taken_alone_teach_against_items_of_others(redis_url: str) -> None:
    async with shop(redis_url) as here:
        for user in range(30):
            await here.send(f"u{user}", bought(user + 100))
        await here.count()
        for user in range(60):
            await here.send(f"v{user}", bought(1, user + 100))
            await here.count()
        mixture = Mixture.parse(await here.rig.redis.hget(mixture_key(TENANT), "drawn"))
        assert mixture.choices > 40
        assert mixture.weights.popularity > 0.1


async def test_a_tenant_that_turns_it_off_or_has_learned_nothing_is_scored_as_before(redis_url: str) -> None:
    async with shop(redis_url) as here, shop(redis_url, traffic=False) as off:
        for user in range(10):
            await here.send(f"u{user}", bought(1))
        await here.count()
        assert await mix(here, "u0", 1, 2) == Mixed([0.0, 0.0], FIXED)
        await teach(here)
        assert (await mix(here, "u0", 1, 2)).values[0] > 0
        assert await mix(off, "u0", 1, 2) == Mixed([0.0, 0.0], FIXED)


async def test_the_like_of_one_item_goes_by_the_user_and_by_the_others(redis_url: str) -> None:
    async with shop(redis_url) as here:
        for user in range(12):
            await here.send(
                f"u{user}", [RatingInteraction(item=item(1), value=5), RatingInteraction(item=item(2), value=1)]
            )
        for user, value in (("fond", 5), ("hard", 1)):
            await here.send(user, [RatingInteraction(item=item(number), value=value) for number in range(10, 30)])
        await here.count()
        signals = Signals(here.rig.redis, here.rig.store.keys, here.consumer._tenants)
        offered = [item(1), item(2), item(10)]
        fond, hard, new = [await signals.estimate_likes(TENANT, user, offered) for user in ("fond", "hard", "nobody")]
        assert fond[2] is hard[2] is new[2] is None  # two users alone have met it
        for first, second in ((fond[0], new[0]), (new[0], hard[0]), (fond[1], hard[1]), (new[0], new[1])):
            assert first is not None
            assert second is not None
            assert 0 < second < first < 1
