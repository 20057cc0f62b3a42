"""Moments against a slow search for the same."""

from hypothesis import given
from hypothesis import strategies as st

from evaluation.cases.benchmark import NEGATIVES, UNMATCHED, Negatives, Plan, Tally
from evaluation.cases.timeline import Moment, Timeline

Event = tuple[str, str, int, int]
EVENTS = st.lists(
    st.tuples(st.sampled_from("uvw"), st.sampled_from("abcdef"), st.integers(0, 8), st.integers(1, 5)), max_size=40
)


def moments(events: list[Event], plan: Plan) -> tuple[Timeline, list[Moment], Tally]:
    timeline, tally = Timeline(), Tally()
    for event in events:
        timeline.add(*event)
    return timeline, list(timeline.moments(plan, tally)), tally


def list_targets(events: list[Event], user: str) -> list[Event]:
    """A user's possible targets: liked, of a new item, after other events."""
    own = [event for event in sorted(events, key=lambda event: event[2]) if event[0] == user]
    return [
        event
        for index, event in enumerate(own)
        if event[3] >= 4 and event[2] > own[0][2] and event[1] not in {item for _, item, _, _ in own[:index]}
    ]


@given(EVENTS, st.integers(1, 3), st.sampled_from(NEGATIVES))
def test_moments_are_what_a_slow_search_finds(events: list[Event], targets: int, negatives: Negatives):
    plan = Plan(targets=targets, history=4, negatives=negatives)
    timeline, found, tally = moments(events, plan)
    once = list({(user, item, at): (user, item, at, value) for user, item, at, value in reversed(events)}.values())
    once.sort(key=lambda event: events.index(event))
    lost = tally.left_out[UNMATCHED if negatives == "matched" else "targets without another item to draw"]
    targets_of = {user: list_targets(once, user)[-targets:] for user, _, _, _ in events}
    assert len(found) + lost == sum(map(len, targets_of.values()))
    assert tally.left_out["repeated events"] == len(events) - len(once)
    for moment in found:
        chosen, rejected = timeline.names[moment.chosen], timeline.names[moment.rejected]
        (now,) = {event[2] for event in targets_of[moment.user] if event[1] == chosen}
        earlier = [event for event in once if event[2] < now]
        own = sorted((event for event in earlier if event[0] == moment.user), key=lambda event: event[2])
        assert [events[number] for number in moment.history] == own[-4:]
        assert rejected not in {item for user, item, _, _ in events if user == moment.user}
        counts = [sum(item == name for _, item, _, _ in earlier) for name in (chosen, rejected)]
        assert list(moment.popularity) == counts
        if negatives == "popular":
            assert any(item == rejected and value >= 4 for _, item, _, value in earlier)
        if negatives == "matched":
            assert counts[0] == counts[1]


@given(EVENTS, st.integers(0, 3))
def test_a_moment_depends_on_its_user_and_the_seed_alone(events: list[Event], seed: int):
    plan = Plan(seed=seed)
    _, found, _ = moments(events, plan)
    assert moments(events, plan)[1] == found
    if events:
        more = [*events, ("another", events[0][1], 0, 1)]
        assert [moment.rejected for moment in moments(more, plan)[1]] == [moment.rejected for moment in found]


def test_a_popular_negative_is_drawn_as_often_as_it_was_liked():
    events = [(f"other{n}", "much" if n < 80 else "little", n, 5) for n in range(100)]
    events += [event for n in range(300) for event in ((f"u{n}", "first", 200, 3), (f"u{n}", f"own{n}", 300, 5))]
    timeline, found, _ = moments(events, Plan(negatives="popular"))
    drawn = [timeline.names[moment.rejected] for moment in found if moment.user.startswith("u")]
    assert len(drawn) == 300
    assert 0.72 < drawn.count("much") / 300 < 0.88
