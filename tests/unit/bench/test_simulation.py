"""The simulated queue on arrivals whose updates can be counted by hand, and on its own random ones."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from bench import scale
from bench.scale import BUSY, Demand, bill, bill_rows, demanded
from bench.simulation import Policy, Simulation, Traffic, arrivals

EXACT = Policy(debounce_s=1.0, max_wait_s=5.0, poll_s=0.0, places=10)


def simulated(events: list[tuple[float, int]], update_s: float = 1.0, policy: Policy = EXACT) -> Simulation:
    simulation = Simulation(policy, update_s, random.Random(1))
    simulation.run(events)
    return simulation


@pytest.mark.parametrize(
    ("times", "updates", "delays"),
    [
        ([0.0], 1, [2.0]),  # debounce, update
        ([0.0, 0.5], 1, [2.5]),  # the second puts the update off
        ([0.0, 3.0], 2, [2.0, 2.0]),  # too far apart
        ([0.0, 1.5], 2, [2.0, 1.5]),  # during the update: due with its end
        ([n * 0.9 for n in range(7)], 2, [6.0, 1.6]),  # put off until the longest wait, then during the update
    ],
)
def test_updates_of_one_user_are_those_of_the_queue(times: list[float], updates: int, delays: list[float]) -> None:
    outcome = simulated([(at, 1) for at in times]).outcome
    assert (outcome.events, outcome.updates) == (len(times), updates)
    assert outcome.delays == pytest.approx(delays)


def test_without_a_free_place_a_user_waits() -> None:
    outcome = simulated([(0.0, 1), (0.0, 2)], policy=replace(EXACT, places=1)).outcome
    assert outcome.delays == pytest.approx([2.0, 3.0])
    assert outcome.waits == pytest.approx([0.0, 1.0])


def test_a_batch_has_a_limit() -> None:
    outcome = simulated([(0.0, 1)] * 5, policy=replace(EXACT, batch_events=2)).outcome
    assert (outcome.events, outcome.updates) == (5, 3)


def test_every_event_ends_in_an_update_and_nobody_is_left() -> None:
    events = arrivals(Traffic(users=200, gap_s=1.0), 50.0, 60.0, random.Random(3))
    simulation = simulated(events, policy=replace(EXACT, poll_s=0.1, places=20))
    assert simulation.outcome.events == len(events)
    assert simulation._users == {}
    assert simulation._free == 20


def test_arrivals_are_steady_and_as_many_as_asked_for() -> None:
    traffic = Traffic(users=5_000, zipf=0.8, gap_s=5.0)
    events = arrivals(traffic, 100.0, 200.0, random.Random(5))
    assert len(events) == pytest.approx(20_000, rel=0.05)
    first, last = (sum(start <= at < start + 50 for at, _ in events) for start in (0, 150))
    assert first == pytest.approx(last, rel=0.15)
    assert [at for at, _ in events] == sorted(at for at, _ in events)
    often = Counter(user for _, user in events).most_common(50)
    assert sum(user < 200 for user, _ in often) > 40


def test_a_sample_of_users_is_that_share_of_the_events() -> None:
    traffic = Traffic(users=5_000, zipf=0.4, gap_s=5.0)
    whole, tenth = (len(arrivals(traffic, 100.0, 200.0, random.Random(5), one_in)) for one_in in (1, 10))
    assert tenth == pytest.approx(whole / 10, rel=0.1)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Demand:
    """Every price is 1 ms, 1 command or 1 token, and the simulation is short."""
    monkeypatch.setattr(scale, "price", lambda figure: 1.0)
    monkeypatch.setattr(scale, "SAMPLE", 5_000)
    demand, write = demanded(["--events", "100", "--chats", "10", "--reads", "50", "--users", "2000", "--swing", "1"])
    assert not write
    return demand


def test_the_bill_is_the_formula(listed: Demand) -> None:
    found = bill(listed)
    assert found.calls_per_s == pytest.approx(2 * (100 + 10 + 50))
    assert found.cores["gateway"] == pytest.approx(0.32)
    assert found.cores["preference"] == pytest.approx(0.3)
    assert found.reply_tokens_per_s == pytest.approx(300 * found.updates_per_s + 2 * 10 * 300)
    assert found.replicas["gateway"] == 2
    assert found.updates_per_s <= 200


def test_one_tenant_with_all_users_is_told_what_it_needs_in_a_shard(listed: Demand) -> None:
    few, many = (bill(replace(listed, shards=shards)) for shards in (2, 4096))
    under_way = few.updates_per_s * listed.update_s
    assert few.tenant_in_flight == math.ceil(under_way / 2 / BUSY) > 16
    assert ("ALIGNX_QUEUE__TENANT_IN_FLIGHT, all users one tenant's", str(few.tenant_in_flight)) in bill_rows(few)
    assert many.tenant_in_flight == 16


def test_a_longer_debounce_costs_fewer_updates_and_more_delay(listed: Demand) -> None:
    short, long = (bill(replace(listed, policy=Policy(*waits))) for waits in ((0.2, 2.0), (30.0, 120.0)))
    assert long.updates_per_s < short.updates_per_s / 1.5
    assert long.gpus < short.gpus
    assert sum(long.outcome.delays) / long.outcome.updates > sum(short.outcome.delays) / short.outcome.updates


def test_a_price_that_is_missing_is_named() -> None:
    with pytest.raises(SystemExit, match="no 'the price of tea'"):
        scale.price("the price of tea")
