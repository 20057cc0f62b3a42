"""The name of every key in Redis that holds a user's history or summary.

All keys of a user carry the hash tag of the user's shard, so that one script can cover the user and
the shard's queue, on a Redis Cluster too. Tenant and user are percent-encoded, so no id can forge a
separator or a hash tag.

    pi:shards                 STRING  number of shards this deployment was started with
    pi:{s}:ready              ZSET    member -> when its update is due (ms)
    pi:{s}:leases             ZSET    member -> when its worker counts as dead (ms)
    pi:{s}:tok                STRING  the latest fencing token; shard-wide, so it outlives an erased user
    pi:{s}:quality            HASH    prequential sums of each tenant
    pi:{s}:arms               HASH    what became of answers: sums by tenant, holdout share, arm and measure
    pi:{s}:chats              ZSET    member -> when its conversations are due to become events (ms)
    pi:{s}:erasures           STRING  erasures of users of the shard, those of unknown users too
    pi:{s}:expiry             STRING  who sweeps the shard for old events, or has; expires when the next sweep is due
    pi:{s}:users:<tenant>     ZSET    the tenant's users of the shard, all of score 0: Redis orders them by name
    pi:rebuild:…              STRING  the latest user that an operator's rebuild has asked for
    pi:engine-fault           STRING  what a worker says of a degraded engine, as JSON; expires
    pi:settings:<tenant>      HASH    what is set for the tenant: field -> JSON value
    pi:tokens:{<tenant>}:<month>  HASH  tokens spent: day -> sum, `month` -> sum, reservation -> day and tokens; expires
    pi:trials:<tenant>        HASH    the trial of a new model or prompt template (updates/trials.py)
    pi:weights:<tenant>       HASH    fading sums from which the scorers of a selection are weighed (choice/fusion.py)
    pi:mixture:<tenant>       HASH    what the profile's and the traffic's features weigh (traffic/mixture.py)
    pi:i:{<tenant>:<bucket>}:counts   HASH    item or category -> its counts over all users (traffic/counts.py)
                             :applied ZSET    batch of changes that is in the counts -> when it was settled (ms)
                             :catalogue HASH  item -> its fields as JSON (traffic/catalogue.py)
                             :<item>  HASH    item -> users who liked both
    pi:{s}:unread             ZSET    member -> since when its items are to be counted (ms)
    pi:{s}:unread-all         STRING  that the histories of an earlier release are marked so
    pi:webhooks:<tenant>      HASH    endpoint -> its record as JSON, and `.failing` and `.disabled` of it (webhooks/)
    pi:{s}:hooks              ZSET    <tenant>:<endpoint> -> when the first of its events is due (ms)
    pi:{s}:hook:<tenant>:<endpoint>:due   ZSET  event that waits -> when it is due (ms)
                                   :log   HASH  event -> its record
                                   :done  ZSET  event that has ended -> when (ms)
    pi:{s}:gone:…             HASH    journal of an erased user, until it is subtracted from the counts
    pi:{s}:u:<tenant>:<user>:log      STREAM  interactions, oldest first
                             :st       HASH    cursor, version, backlog, lease, prequential sums
                             :profile  STRING  fast profile
                             :base     STRING  first and last id of the events that left the log, their profile
                             :sum      STRING  current summary version
                             :vers     HASH    older versions, by number
                             :dlq      STREAM  events set aside
                             :rej      LIST    rejected drafts, newest first
                             :log:copy, :dlq:copy  what forgetting has copied of them so far; expire
                             :idem     HASH    Idempotency-Key -> outcome
                             :live     STREAM  the summary as it is written; expires; a channel of the same name tells
                                               of what is new in it
                             :from     STRING  the calls that asked for the update that waits
                             :hooks    SET     the user's events in outboxes of webhooks
                             :served   HASH    response id -> what feedback may be about; expires
                             :chats    HASH    response id -> conversation that is to become an event
                             :outcomes HASH    the user's trials and successes; expires
                             :items    HASH    what the user adds to the tenant's counts (traffic/journal.py)

API keys belong to the gateway (gateway/keys.py); a backup holds their records too, and not the audit log.
"""

import zlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote
from uuid import uuid4

ALL_API_KEYS = "gw:keys"
"""Sorted set of the ids of all API keys."""
TENANTS = "gw:tenants"
"""Sorted set of the tenants that have had an API key."""
GONE = "gone"
"""Ends the name that an erased user's journal has in `unread`."""
ENGINE_FAULT = "pi:engine-fault"
WORKER_SEEN = "pi:worker-seen"
"""There while a worker has reported lately."""
WRITE_PROBE = "pi:write-probe"
"""Written to see whether Redis takes writes."""
TENANT_SETTINGS = "pi:settings:"
"""What the names of all tenants' settings begin with."""


def tenant_settings_key(tenant: str) -> str:
    return TENANT_SETTINGS + quote(tenant, safe="")


def tenant_settings_owner(key: str) -> str:
    """The tenant whose settings have this name."""
    return unquote(key.removeprefix(TENANT_SETTINGS))


def api_key(key_id: str) -> str:
    """The record of an API key."""
    return f"gw:key:{{{key_id}}}"


def tenant_api_keys(tenant: str) -> str:
    """Sorted set of the ids of a tenant's API keys."""
    return f"gw:tenant-keys:{tenant}"


def audit_log(tenant: str) -> str:
    """The stream of a tenant's administrative calls (audit_log.py)."""
    return f"gw:audit:{tenant}"


WEBHOOKS = "pi:webhooks:"
"""What the names of all tenants' webhook endpoints begin with."""


def webhooks_key(tenant: str) -> str:
    """The tenant's webhook endpoints."""
    return f"{WEBHOOKS}{quote(tenant, safe='')}"


def trial_key(tenant: str) -> str:
    """The trial of a new model or prompt template; it is no part of a backup."""
    return f"pi:trials:{quote(tenant, safe='')}"


def tokens_key(tenant: str, month: str) -> str:
    """What the tenant's calls to the engine have spent in a month, such as 2026-11; it is no part of a backup."""
    return f"pi:tokens:{{{quote(tenant, safe='')}}}:{month}"


def weights_key(tenant: str) -> str:
    """The sums from which the scorers of a tenant's selections are weighed."""
    return f"pi:weights:{quote(tenant, safe='')}"


def mixture_key(tenant: str) -> str:
    """What the features of a tenant's items weigh."""
    return f"pi:mixture:{quote(tenant, safe='')}"


TENANT_SUMS: Final = {"weights": weights_key, "mixture": mixture_key}
"""What a tenant's choices have taught, by its name in a backup."""


def item_keys(tenant: str, bucket: int) -> str:
    """What the names of a bucket of a tenant's items begin with."""
    return f"pi:i:{{{quote(tenant, safe='')}:{bucket}}}:"


@dataclass(frozen=True, slots=True)
class UserKeys:
    """Every key that concerns one user, and the user's name in the shard's queues."""

    member: str
    ready: str
    leases: str
    token: str
    quality: str
    arms: str
    log: str
    state: str
    profile: str
    checkpoint: str
    summary: str
    versions: str
    dead: str
    idempotency: str
    rejected: str
    live: str
    calls: str
    served: str
    chats: str
    outcomes: str
    journal: str
    unread: str
    index: str
    """The tenant's users of the shard."""
    erasures: str
    waiting_chats: str
    """The shard's users with conversations in `chats`."""
    hooks: str

    @property
    def tenant(self) -> str:
        """The tenant as in `member`."""
        return self.member.split(":")[0]

    @property
    def copies(self) -> tuple[str, str]:
        """Hold the log and the dead letters while these are written anew, part by part; they expire."""
        return self.log + ":copy", self.dead + ":copy"

    @property
    def permanent(self) -> list[str]:
        """The user's own keys that a backup holds."""
        return [
            self.state,
            self.log,
            self.profile,
            self.summary,
            self.versions,
            self.dead,
            self.idempotency,
            self.rejected,
            self.checkpoint,
        ]

    @property
    def rewritten(self) -> list[str]:
        """What forgetting single events writes anew."""
        return [
            *(self.state, self.ready, self.leases, self.unread, self.journal, self.log, self.dead, self.profile),
            *(self.checkpoint, self.summary, self.versions, self.rejected, self.live, *self.copies),
        ]

    @property
    def own(self) -> list[str]:
        """All keys of this user alone, but for the journal: it is to be subtracted first."""
        return [*self.permanent, self.live, self.calls, self.served, self.outcomes, self.chats]


@dataclass(frozen=True, slots=True)
class OutboxKeys:
    """The keys of what waits for one webhook endpoint in one shard."""

    hooks: str
    member: str
    """Of the endpoint in `hooks`."""
    own: str
    """What the names of the others begin with."""

    @property
    def queue(self) -> list[str]:
        return [self.hooks, *(self.own + part for part in ("due", "log", "done"))]


@dataclass(frozen=True, slots=True)
class KeySpace:
    """Names keys for a deployment of `shards` shards."""

    shards: int

    def shard(self, tenant: str, user: str) -> int:
        return zlib.crc32(f"{tenant}/{user}".encode()) % self.shards

    def shard_prefix(self, shard: int) -> str:
        return f"pi:{{{shard}}}:"

    def user(self, tenant: str, user: str) -> UserKeys:
        shard = self.shard_prefix(number := self.shard(tenant, user))
        member = f"{quote(tenant, safe='')}:{quote(user, safe='')}"
        own = f"{shard}u:{member}:"
        return UserKeys(
            member=member,
            ready=shard + "ready",
            leases=shard + "leases",
            token=shard + "tok",
            quality=shard + "quality",
            arms=shard + "arms",
            log=own + "log",
            state=self.state(tenant, user),
            profile=own + "profile",
            checkpoint=own + "base",
            summary=own + "sum",
            versions=own + "vers",
            dead=own + "dlq",
            idempotency=own + "idem",
            rejected=own + "rej",
            live=own + "live",
            calls=own + "from",
            served=own + "served",
            chats=own + "chats",
            outcomes=own + "outcomes",
            journal=own + "items",
            unread=shard + "unread",
            index=self.user_index(tenant, number),
            erasures=shard + "erasures",
            waiting_chats=shard + "chats",
            hooks=own + "hooks",
        )

    def state(self, tenant: str, user: str) -> str:
        """The key of a user's state, for who reads those of many."""
        shard = self.shard_prefix(self.shard(tenant, user))
        return f"{shard}u:{quote(tenant, safe='')}:{quote(user, safe='')}:st"

    def user_index(self, tenant: str, shard: int) -> str:
        """Sorted set of the tenant's users of a shard, by their ids; one script writes user and entry."""
        return f"{self.shard_prefix(shard)}users:{quote(tenant, safe='')}"

    def expiry(self, shard: int) -> str:
        """Who sweeps the shard for events past their age, or that it was swept lately."""
        return self.shard_prefix(shard) + "expiry"

    def outbox(self, shard: int, tenant: str, endpoint: str) -> OutboxKeys:
        prefix, member = self.shard_prefix(shard), f"{quote(tenant, safe='')}:{endpoint}"
        return OutboxKeys(prefix + "hooks", member, f"{prefix}hook:{member}:")

    def gone(self, tenant: str, user: str) -> dict[str, str]:
        """New names for the journal of a user who is erased: as a key, and in the shard's `unread`."""
        member = f"{quote(tenant, safe='')}:{uuid4().hex}:{GONE}"
        return {"key": self.gone_key(self.shard(tenant, user), member), "member": member}

    def gone_key(self, shard: int, member: str) -> str:
        return f"{self.shard_prefix(shard)}gone:{member}"

    @staticmethod
    def split_unread(member: str) -> list[str]:
        """Tenant and user of a member of `unread`; of an erased user, tenant, a name by chance and GONE."""
        return [unquote(part) for part in member.split(":")]

    @staticmethod
    def split_member(member: str) -> tuple[str, str]:
        """(tenant, user) of a queue member."""
        tenant, user = member.split(":")
        return unquote(tenant), unquote(user)
