"""Any order of appends, claims, commits, faults, crashes, edits and erasures against a plain model.

Events surprise by some bits, are due or are a backfill; what is due must stay so until a commit.

Events are numbers and a summary is the list of the numbers it was made from, so whatever is lost,
doubled or out of order shows.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from alignx.schemas.interactions import StatementInteraction
from alignx.schemas.tenants import UpdateCadence
from services.errors import IdempotencyMismatch, StaleVersion, UserUnknown
from services.preference.cadence import News
from services.preference.queue_records import AppendResult, Claim
from services.storage.users import event_time
from tests.unit.services.preference.rig import opened, record

USERS = (("t0", "ada"), ("t0", "bob"), ("t1", "ada"))
SHARDS = 2
DATA_RETRIES = 2
MAX_BITS = 3.0
DUE_WITHIN_MS = 20_000
"""Longer than a lease, and shorter than calm events wait."""
Result = TypeVar("Result")
users = st.sampled_from(USERS)
CALM = News(cadence=UpdateCadence(update_bits=MAX_BITS, update_events=1_000))
NEWS = (CALM, replace(CALM, bits=1.6), replace(CALM, is_due=True), replace(CALM, is_backfill=True))


@dataclass
class User:
    """What must be true of one user."""

    log: list[int] = field(default_factory=list)
    """Numbers accepted and not set aside."""
    dead: list[int] = field(default_factory=list)
    applied: int = 0
    """How many of `log` the cursor has passed."""
    version: int = 0
    summary: list[int] = field(default_factory=list)
    holder: str | None = None
    expired: bool = False
    rebuild: str = ""
    """Which rebuild was asked for last and is not done."""
    postponed: str = ""
    """Which rebuild waits until no event waits."""
    keys: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = field(default_factory=dict)
    born: bool = False
    bits: float = 0.0
    """Surprise of the events since the latest claim."""
    due: bool = False
    """Whether they, or a rebuild, wait for nothing more."""


class QueueMachine(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.context = opened(
            self.url,
            {"shards": SHARDS, "data_retries": DATA_RETRIES, "event_failures": 2, "backoff_ms": 1, "backoff_max_ms": 1},
            {"batch_events": 4},
        )
        self.rig = self.call(self.context.__aenter__())
        self.users = {name: User() for name in USERS}
        self.claims: list[Claim] = []
        self.next = 0

    def call(self, pending: Awaitable[Result]) -> Result:
        async def main() -> Result:
            return await pending

        return self.runner.run(main())

    def put(self, name: tuple[str, str], numbers: tuple[int, ...], key: str, news: News = CALM) -> AppendResult:
        options: dict[str, Any] = {"idempotency_key": key, "digest": "-".join(map(str, numbers))} if key else {}
        options["news"] = news
        return self.call(self.rig.put(*map(str, numbers), tenant=name[0], user=name[1], **options))

    @initialize(known=st.sets(users))
    def empty(self, known: set[tuple[str, str]]) -> None:
        """Those who are known have a version; of the others each event is due."""
        self.call(self.rig.redis.flushall())
        for name in known:
            assert self.call(self.rig.queue.edit(*name, 0, record("")))
            self.users[name] = User(born=True, version=1)

    # --- rules -----------------------------------------------------------------------------------

    @rule(name=users, count=st.integers(1, 5), key=st.sampled_from(["", "k0", "k1", "k2"]), news=st.sampled_from(NEWS))
    def append(self, name: tuple[str, str], count: int, key: str, news: News) -> None:
        user = self.users[name]
        numbers = tuple(range(self.next, self.next + count))
        if key in user.keys:
            with pytest.raises(IdempotencyMismatch):
                self.put(name, numbers, key)
            return
        self.next += count
        appended = self.put(name, numbers, key, news)
        assert not appended.replayed
        user.bits += news.bits
        user.due |= not news.is_backfill and (news.is_due or not user.version or user.bits >= MAX_BITS)
        if news.is_backfill and not user.due:  # too long for one update: read as a whole
            user.rebuild = self.call(self.rig.fields(name[1], name[0])).get("rebuild", "")
        user.born = True
        user.log += numbers
        assert appended.pending == len(user.log) - user.applied
        if key:
            user.keys[key] = (numbers, appended.ids)

    @rule()
    def append_calm_events(self) -> None:
        """They put off no update that is due."""
        for name in USERS:
            self.append(name, 1, "", CALM)

    @rule(name=users, key=st.sampled_from(["k0", "k1", "k2"]))
    def repeat(self, name: tuple[str, str], key: str) -> None:
        user = self.users[name]
        if key in user.keys:
            numbers, ids = user.keys[key]
            appended = self.put(name, numbers, key)
            assert appended.replayed
            assert appended.ids == ids

    @rule(shard=st.integers(0, SHARDS - 1))
    def claim(self, shard: int) -> None:
        self.call(self.rig.make_due())
        expired, claim = self.call(self.rig.queue.claim(shard, "worker"))
        reaped = [name for name in USERS if self.users[name].expired and self.rig.store.keys.shard(*name) == shard]
        assert expired == len(reaped)
        for name in reaped:
            self.users[name].holder, self.users[name].expired, self.users[name].due = None, False, True
        if claim is None:
            assert not any(self.waits(name) for name in USERS if self.rig.store.keys.shard(*name) == shard)
            return
        user = self.users[claim.tenant, claim.user]
        assert self.waits((claim.tenant, claim.user)) or (claim.tenant, claim.user) in reaped
        assert (claim.version, claim.pending) == (user.version, len(user.log) - user.applied)
        assert claim.rebuild == user.rebuild
        assert all(int(claim.token) > int(other.token) for other in self.claims if self.same_shard(claim, other))
        user.holder, user.due, user.bits = claim.token, False, 0.0
        self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        user, valid = self.users[claim.tenant, claim.user], self.valid(claim)
        events = self.call(self.rig.store.events(claim.tenant, claim.user, claim.cursor, claim.cap or 4))
        numbers = [
            int(event.interaction.text) for event in events if isinstance(event.interaction, StatementInteraction)
        ]
        if claim.rebuild:
            summary, cursor, applied = user.log[: user.applied + claim.pending], claim.last_id, claim.pending
        else:
            summary, cursor, applied = (
                user.summary + numbers,
                events[-1].event_id if events else claim.cursor,
                len(events),
            )
        text = " ".join(map(str, summary))
        done = self.call(self.rig.queue.commit(claim, record(text, claim.version + 1), cursor, applied))
        assert done == (valid and claim.version == user.version)
        if done:
            user.summary, user.version, user.holder, user.expired = summary, user.version + 1, None, False
            user.applied += applied
            user.rebuild = "" if claim.rebuild == user.rebuild else user.rebuild
            user.due |= applied < claim.pending
            self.resume(user)
            if not self.waits((claim.tenant, claim.user)):
                user.due, user.bits = False, 0.0
        elif valid:
            assert self.call(self.rig.queue.fail(claim, "release")) == "RETRY"
            user.holder, user.expired = None, False
            user.due |= self.waits((claim.tenant, claim.user))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), kind=st.sampled_from(["engine", "refusal", "data", "release"]))
    def fail(self, data: st.DataObject, kind: Any) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        user, valid = self.users[claim.tenant, claim.user], self.valid(claim)
        first = self.call(self.rig.store.first_id(claim.tenant, claim.user, claim.cursor))
        size = max(1, min(claim.cap or 4, claim.pending))
        options: dict[str, Any] = {"first_id": first, "batch": size, "error": "e"}
        word = self.call(self.rig.queue.fail(claim, kind, **options))
        assert word in ("FENCED", "RETRY") or kind in ("data", "refusal")
        assert (word == "FENCED") == (not valid)
        if not valid:
            return
        user.holder, user.expired = None, False
        if word == "DEAD":
            user.dead.append(user.log.pop(user.applied))
            self.resume(user)
        if word in ("DROPPED", "POSTPONED"):
            assert (word == "POSTPONED") == (len(user.log) > user.applied)
            if claim.rebuild == user.rebuild:
                user.rebuild, user.postponed = "", user.rebuild if word == "POSTPONED" else user.postponed
        user.due |= self.waits((claim.tenant, claim.user))

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def go_silent(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self.call(self.rig.expire(claim))
        user = self.users[claim.tenant, claim.user]
        user.expired = user.holder is not None

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        valid = self.valid(claim)
        assert self.call(self.rig.queue.beat(claim)) == valid
        if valid:
            self.users[claim.tenant, claim.user].expired = False

    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        held = [name for name in USERS if self.users[name].holder]
        name = data.draw(st.sampled_from(held or USERS))
        user = self.users[name]
        text = " ".join(map(str, user.summary))
        assert self.call(self.rig.queue.edit(*name, user.version, record(text, user.version + 1)))
        with pytest.raises(StaleVersion):
            self.call(self.rig.queue.edit(*name, user.version, record("late")))
        user.version, user.born = user.version + 1, True
        user.due |= len(user.log) > user.applied

    @rule(name=users)
    def ask_rebuild(self, name: tuple[str, str]) -> None:
        user = self.users[name]
        if not user.born:
            with pytest.raises(UserUnknown):
                self.call(self.rig.queue.request_rebuild(*name))
            return
        user.log, user.dead = user.log + user.dead, []
        assert self.call(self.rig.queue.request_rebuild(*name)) == len(user.log) - user.applied
        user.rebuild = self.call(self.rig.fields(name[1], name[0]))["rebuild"]
        user.postponed, user.due = "", True

    @rule(name=users, every=st.booleans(), data=st.data())
    def retry(self, name: tuple[str, str], every: bool, data: st.DataObject) -> None:
        user = self.users[name]
        if not user.born:
            with pytest.raises(UserUnknown):
                self.call(self.rig.queue.retry_dead_letters(*name, ()))
            return
        letters = [letter for _, letter in self.call(self.rig.store.dead_letters(*name, None, 1_000))]
        wanted = (
            range(len(letters)) if every or not letters else data.draw(st.sets(st.sampled_from(range(len(letters)))))
        )
        ids = () if every else ("9-9", *(letters[place].event_id for place in wanted))
        pending, retried = self.call(self.rig.queue.retry_dead_letters(*name, ids))
        assert [old for old, _ in retried] == [letters[place].event_id for place in sorted(wanted)]
        user.log += [user.dead[place] for place in sorted(wanted)]
        user.dead = [number for place, number in enumerate(user.dead) if place not in wanted]
        assert pending == len(user.log) - user.applied
        user.due |= bool(wanted)

    @rule(name=users)
    def forget(self, name: tuple[str, str]) -> None:
        assert self.call(self.rig.queue.forget(*name)) == self.users[name].born
        self.users[name] = User()

    # --- what is true at any time ----------------------------------------------------------------

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        self.call(self.compare())

    async def compare(self) -> None:
        for name, user in self.users.items():
            keys = self.rig.keys(name[1], name[0])
            events = await self.rig.store.events(*name, None, 1_000)
            assert [int(getattr(event.interaction, "text", "")) for event in events] == user.log
            letters = await self.rig.store.dead_letters(*name, None, 1_000)
            assert [int(getattr(letter.interaction, "text", "")) for _, letter in letters] == user.dead
            due_at = await self.rig.redis.zscore(keys.ready, keys.member)
            waiting = due_at is not None
            assert not waiting or not user.due or due_at <= await self.rig.now() + DUE_WITHIN_MS
            leased = await self.rig.redis.zscore(keys.leases, keys.member) is not None
            assert leased == (user.holder is not None)
            assert not (waiting and leased)
            assert waiting or leased or not self.waits(name)
            if not user.born:
                assert not [key for key in await self.rig.user_keys() if keys.member in key]
                continue
            current = await self.rig.store.preferences(*name)
            assert (current.version, current.pending) == (user.version, len(user.log) - user.applied)
            if user.version:
                assert current.text.split() == list(map(str, user.summary))
            assert all(event.received_at == event_time(event.event_id) for event in events)

    def teardown(self) -> None:
        """Whatever happened, a worker that now works brings everything in."""
        try:
            self.claims.clear()
            for name, user in self.users.items():
                if user.holder:
                    keys = self.rig.keys(name[1], name[0])
                    self.call(self.rig.redis.zadd(keys.leases, {keys.member: 1}))
                    user.expired = True
            for _ in range(400):
                before = len(self.claims)
                for shard in range(SHARDS):
                    self.claim(shard)
                if len(self.claims) == before:
                    break
                while self.claims:
                    self.commit_last()
            for name, user in self.users.items():
                assert user.applied == len(user.log), name
                if not user.dead:
                    assert user.summary == user.log
            self.redis_holds_what_the_model_holds()
        finally:
            self.call(self.context.__aexit__(None, None, None))
            self.runner.close()

    def commit_last(self) -> None:
        class Last:
            @staticmethod
            def draw(_: object) -> Claim:
                return self.claims[-1]

        self.commit(Last())
        self.claims.pop()

    # --- words of the model ----------------------------------------------------------------------

    def resume(self, user: User) -> None:
        """A rebuild that was put off is asked for again once no event waits."""
        if len(user.log) == user.applied and not user.rebuild:
            user.rebuild, user.postponed, user.due = user.postponed, "", user.due or bool(user.postponed)

    def waits(self, name: tuple[str, str]) -> bool:
        user = self.users[name]
        return user.holder is None and (len(user.log) > user.applied or bool(user.rebuild))

    def valid(self, claim: Claim) -> bool:
        return self.users[claim.tenant, claim.user].holder == claim.token

    def same_shard(self, claim: Claim, other: Claim) -> bool:
        shard = self.rig.store.keys.shard
        return shard(claim.tenant, claim.user) == shard(other.tenant, other.user)


def test_the_queue_agrees_with_the_model(redis_url: str) -> None:
    machine = type("QueueMachineHere", (QueueMachine,), {"url": redis_url})
    bounds = settings(
        max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(machine, settings=bounds)
