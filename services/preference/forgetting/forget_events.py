"""Forgets single events of a user: one by its id, all that are about something, or all past their age.

With an event goes all that came of it: its dead letter, the versions since with their reasoning and claims, rejected
drafts, its share of the profile and of the counts of items. Versions are removed, not edited; the profile, made anew
from what is left, writes the next one, and an update from the whole history follows. A text that the user wrote over
the summary stays where it shares no sentence with a removed version and no word with a removed event alone; where
events have only aged it stays in any case.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Final

from alignx.schemas.forgetting import Forgotten
from alignx.schemas.interactions import Interaction
from alignx.schemas.summaries import DeadLetter, RejectedDraft, StoredInteraction, SummaryVersion
from services.errors import EventUnknown, UserUnknown
from services.preference.edits import split_sentences
from services.preference.forgetting.about import About, read_texts
from services.preference.forgetting.age_limits import AgeLimits
from services.preference.queue import Queue
from services.preference.queue_records import Remainder, Removal
from services.profile.serialize import dumps
from services.profile.statistics import Profile
from services.profile.style_features import STOP, words
from services.storage.user_profile import USER_SOURCE, Checkpoint, HistoryFold, parse_event_id, tell_profile
from services.storage.users import NO_STAMP, Store, encode_record, event_time, reply

Target = str | About | AgeLimits
"""The id of an event, what events are about, or how old they may be."""
_PAGE: Final = 1_000
_REPEATING: Final = frozenset(("stated", "fact", "topic", "change"))
"""Kinds of claims that gather words of their events."""
_EVIDENCE: Final = 200
"""Newest events whose ids claims may name."""


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept of a user, as of one stamp."""

    tenant: str
    user: str
    stamp: str
    seen: Sequence[str]
    """What else must be as it was: version, cursor, pending events, the newest rejected draft."""
    version: int
    pending: int
    events: Sequence[StoredInteraction]
    dead_letters: Sequence[tuple[str, DeadLetter]]
    versions: Sequence[SummaryVersion]
    drafts: Sequence[tuple[str, RejectedDraft]]
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes of it, and what is left."""

    events: Sequence[StoredInteraction]
    rest: Sequence[StoredInteraction]
    dead_letters: Sequence[tuple[str, DeadLetter]]
    versions: Sequence[SummaryVersion]
    left: Sequence[SummaryVersion]
    drafts: Sequence[str]
    """As they are stored."""
    drops_checkpoint: bool

    def receipt(self, kept: Kept) -> Forgotten:
        ids = {event.event_id for event in self.events} | {one.event_id for _, one in self.dead_letters}
        is_rewritten = any(version.version == kept.version for version in self.versions)
        return Forgotten(
            event_ids=tuple(sorted(ids, key=parse_event_id)),
            dead_letters=len(self.dead_letters),
            versions=len(self.versions),
            own_texts=sum(version.source == USER_SOURCE for version in self.versions),
            claims=sum(len(version.claims) for version in self.versions),
            rejected_drafts=len(self.drafts),
            checkpoint=self.drops_checkpoint and bool(kept.checkpoint.last),
            version=kept.version + is_rewritten,
            pending=kept.pending,
            update_queued=is_rewritten and bool(self.rest),
        )


async def forget_events(
    store: Store, queue: Queue, tenant: str, user: str, target: Target, *, dry_run: bool = False
) -> Forgotten:
    """Forgets the event of an id, all events about something, or all that are too old. Raises UserUnknown, and
    EventUnknown for an id that is not kept."""
    while True:
        kept = await _read(store, tenant, user)
        choice = await _choose(store, kept, target)
        receipt = choice.receipt(kept)
        if isinstance(target, str) and not receipt.event_ids and not receipt.checkpoint:
            raise EventUnknown
        if dry_run or receipt == Forgotten(version=kept.version, pending=kept.pending):
            return receipt.model_copy(update={"dry_run": dry_run})
        removal = await _prepare(store, kept, choice, is_urgent=not isinstance(target, AgeLimits))
        pending = await queue.forget_events(tenant, user, removal)
        if pending is not None:
            return receipt.model_copy(update={"pending": pending})


async def _read(store: Store, tenant: str, user: str) -> Kept:
    stamp, _ = await store.profile(tenant, user)
    if stamp == NO_STAMP:
        raise UserUnknown
    state, keys = await store.state(tenant, user), store.keys.user(tenant, user)
    drafts = await reply(store.redis.lrange(keys.rejected, 0, -1))
    return Kept(
        tenant=tenant,
        user=user,
        stamp=stamp,
        seen=[str(state.version), state.cursor, str(state.pending), drafts[0] if drafts else ""],
        version=state.version,
        pending=state.pending,
        events=[event async for event in store.history(tenant, user)],
        dead_letters=[letter async for letter in _read_dead_letters(store, tenant, user)],
        versions=await store.versions(tenant, user, None, None),
        drafts=[(raw, RejectedDraft.model_validate_json(raw)) for raw in drafts],
        checkpoint=await store.checkpoint(tenant, user),
    )


async def _read_dead_letters(store: Store, tenant: str, user: str) -> AsyncIterator[tuple[str, DeadLetter]]:
    after = None
    while page := await store.dead_letters(tenant, user, after, _PAGE):
        for letter in page:
            yield letter
        after = page[-1][0]


async def _choose(store: Store, kept: Kept, target: Target) -> Choice:
    about = target if isinstance(target, About) else None
    event_ids = await _find(store, kept, target)
    events = [event for event in kept.events if event_ids & {event.event_id, event.first_id}]
    rest = [event for event in kept.events if not event_ids & {event.event_id, event.first_id}]
    dead = [(entry_id, one) for entry_id, one in kept.dead_letters if event_ids & {one.event_id, one.first_id}]
    tried_again = {*(event.first_id for event in events), *(one.first_id for _, one in dead)} - {""}
    drops = any(map(kept.checkpoint.holds, event_ids)) or bool(about and kept.checkpoint.last)
    first = min(event_ids | tried_again, key=parse_event_id, default="") if events or dead or drops else ""
    said = None
    if not isinstance(target, AgeLimits):
        removed = [*(event.interaction for event in events), *(one.interaction for _, one in dead if one.interaction)]
        said = await _collect_words(removed) - await _collect_words(event.interaction for event in rest) - STOP
    versions = _versions_to_remove(kept, first, about, said)
    own = kept.checkpoint.profile.own
    return Choice(
        events=events,
        rest=rest,
        dead_letters=dead,
        versions=versions,
        left=[version for version in kept.versions if version not in versions],
        drafts=[raw for raw, one in kept.drafts if _is_since(one, first) or (about and about.matches(one.text))],
        drops_checkpoint=drops or any(one.source == USER_SOURCE and one.text == own for one in versions),
    )


async def _prepare(store: Store, kept: Kept, choice: Choice, *, is_urgent: bool) -> Removal:
    """With the profile made anew; a long history takes as long as to fold it."""
    folding = HistoryFold(choice.left, Checkpoint().profile if choice.drops_checkpoint else kept.checkpoint.profile)
    for event in choice.rest:
        folding.add(event)
        await asyncio.sleep(0)  # a long history would keep others waiting
    profile = folding.end()
    numbers = sorted(version.version for version in choice.versions)
    removed, cursor = frozenset(event.event_id for event in choice.events), parse_event_id(kept.seen[1])
    return Removal(
        stamp=kept.stamp,
        seen=kept.seen,
        log=Remainder([event.event_id for event in kept.events], removed),
        dead_letters=Remainder([place for place, _ in kept.dead_letters], frozenset(dict(choice.dead_letters))),
        pending=sum(parse_event_id(event_id) > cursor for event_id in removed),
        versions=numbers,
        drafts=choice.drafts,
        drops_checkpoint=choice.drops_checkpoint,
        is_urgent=is_urgent,
        profile=dumps(profile),
        record=await _next_version(store, kept, choice, profile) if kept.version in numbers else "",
    )


async def _next_version(store: Store, kept: Kept, choice: Choice, profile: Profile) -> str:
    """The version that the profile writes in place of a removed one, as it is stored."""
    ids = [] if kept.dead_letters else [event.event_id for event in choice.rest[-_EVIDENCE:]]
    text, claims = tell_profile(profile, ids, await store.policy(kept.tenant))
    version = SummaryVersion(
        version=kept.version + 1,
        text=text,
        claims=claims,
        source="profile",
        parent=max((version.version for version in choice.left), default=None),
        created_at=datetime.now(UTC),
    )
    return encode_record(version)


async def _find(store: Store, kept: Kept, target: Target) -> set[str]:
    """The ids of the events that are meant; of events that left the log, that of the first."""
    match target:
        case str():
            return {target}
        case About():
            return await _find_about(store, kept, target)
        case AgeLimits():
            events = [event.event_id for event in kept.events if target.is_past(event.event_id, event.interaction.type)]
            dead = [one.event_id for _, one in kept.dead_letters if target.is_past_dead(one)]
            first = kept.checkpoint.first
            return {*events, *dead, *([first] if first and target.is_past(first) else [])}


async def _find_about(store: Store, kept: Kept, about: About) -> set[str]:
    """The ids of the events about it: by what they say, or by a claim that rests on them. Of a claim that repeats what
    several events say, those that say it."""
    letters = [letter for _, letter in kept.dead_letters if letter.interaction]
    found = {one.event_id for one in letters if one.interaction and about.matches(read_texts(one.interaction))}
    for event in kept.events:
        if about.matches(read_texts(event.interaction)):
            found.add(event.event_id)
        await asyncio.sleep(0)
    current = await store.preferences(kept.tenant, kept.user)
    claims = chain(current.claims, *(version.claims for version in kept.versions))
    named = [claim for claim in claims if about.matches(claim.text)]
    told = [one.support for one in named if one.kind not in _REPEATING or found.isdisjoint(one.support)]
    return found.union(*told)


def _versions_to_remove(
    kept: Kept, first: str, about: About | None, said: frozenset[str] | None
) -> list[SummaryVersion]:
    """Those since the event `first`, but for the user's own texts that hold none of the words `said`, and nothing of
    what goes; without `said`, but for all of the user's own."""
    since = min((one.version for one in kept.versions if _is_since(one, first)), default=kept.version + 1)
    removed = [one for one in kept.versions if one.version >= since or (about and about.matches(_all_text(one)))]
    inferred = [one for one in removed if one.source != USER_SOURCE]

    def is_clean(own: SummaryVersion) -> bool:
        if said is None:
            return True
        before = [one for one in inferred if one.version < (own.restored_from or own.version)]  # later ones repeat it
        repeated = {sentence for one in before for sentence in split_sentences(one.text)}
        shared = said.intersection(words(own.text)) or repeated.intersection(split_sentences(own.text))
        return not (shared or (about and about.matches(own.text)))

    return [version for version in removed if version.source != USER_SOURCE or not is_clean(version)]


async def _collect_words(events: Iterable[Interaction]) -> frozenset[str]:
    collected = set[str]()
    for event in events:
        collected.update(words(read_texts(event)))
        await asyncio.sleep(0)
    return frozenset(collected)


def _is_since(written: SummaryVersion | RejectedDraft, first: str) -> bool:
    """Whether it may tell of the event `first` or a later one; what is written reads the profile too."""
    if not first:
        return False
    last = written.events.last
    is_later = bool(last) and parse_event_id(last or "") >= parse_event_id(first)
    return is_later or written.created_at >= event_time(first)


def _all_text(version: SummaryVersion) -> str:
    return "\n".join([version.text, version.reasoning or "", *(claim.text for claim in version.claims)])
