"""What was served to whom, and what became of it.

A user's arm is a hash of tenant and user, so it stays the same and takes no room. An answer's record holds its arm,
its kind and hashes of the items shown, never a text; it ends with its time, or with the user. The outcome of a
selection or recommendation is the user's next event that takes one of its items, or feedback.
"""

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote

import orjson
from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import Item
from alignx.schemas.outcomes import Arm, FeedbackRequest, Kind
from alignx.schemas.tenants import DAY_S, TenantSettings
from services.errors import InvalidRequest, ResponseUnknown
from services.storage.connection import RedisClient, Script, read_script
from services.storage.key_names import KeySpace
from services.storage.timed_cache import TimedCache
from services.traffic.items import find_choice, item_key

NOBODY: Final = ""
"""No user has this id: who is served as this one is served as one of whom nothing is known."""
MOST_KEPT: Final = 50
"""Answers known of a user at once."""
MOST_SHOWN: Final = 100
"""Items of a recommendation that count as shown."""
MOST_CHATS: Final = 100
"""Conversations of a user that wait to become events."""
CHAT_OUTCOMES: Final = ("kept", "shortened", "too_long", "full", "erased", "failed", "refused")
OUTCOMES_TTL_S: Final = 90 * DAY_S
"""After so long without an answer a user counts as another one."""
_OTHER: Final = "other"

logger = logging.getLogger("alignx.outcomes")


class OutcomeMetrics:
    """`tenants` are those that are counted by name. A service declares what it counts."""

    def __init__(self, registry: CollectorRegistry, tenants: Sequence[str] = ()) -> None:
        self._tenants = frozenset(tenants)
        labels = ("arm", "kind", "tenant")
        self._served = Counter("alignx_arm_served", "Answers served, by arm", labels, registry=registry)
        self._taken = Counter(
            "alignx_arm_taken",
            "Selections and recommendations of which the user took an item",
            labels,
            registry=registry,
        )
        self._confirmed = Counter(
            "alignx_arm_confirmed", "Selections whose choice the user took, by arm", labels, registry=registry
        )
        self._thumbs = Counter(
            "alignx_arm_thumbs", "Answers that got a thumb, by the first one", (*labels, "thumb"), registry=registry
        )
        self.chats = Counter(
            "alignx_chats_learned",
            f"Chats that were to become events of their users, by what became of them ({', '.join(CHAT_OUTCOMES)})",
            ("outcome",),
            registry=registry,
        )

    def count_served(self, tenant: str, arm: Arm, kind: Kind) -> None:
        self._served.labels(arm, kind, self._label(tenant)).inc()

    def count_taken(self, tenant: str, arm: Arm, kind: Kind, *, hit: bool) -> None:
        self._taken.labels(arm, kind, self._label(tenant)).inc()
        if hit and kind == "selection":
            self._confirmed.labels(arm, kind, self._label(tenant)).inc()

    def count_thumb(self, tenant: str, arm: Arm, kind: Kind, thumb: str) -> None:
        self._thumbs.labels(arm, kind, self._label(tenant), thumb).inc()

    def _label(self, tenant: str) -> str:
        return tenant if tenant in self._tenants else _OTHER


@dataclass(frozen=True, slots=True)
class UserStamp:
    """By which a script tells whether the user has been erased since."""

    born: str = ""
    """As in the user's state; "" where there is none."""
    erasures: str = ""
    """Of the shard."""


@dataclass(frozen=True, slots=True)
class Serving:
    """One answer to a user."""

    tenant: str
    user: str
    kind: Kind
    arm: Arm = "personalized"
    share: float = 0.0
    ttl_s: int = 0
    response_id: str | None = None
    stamp: UserStamp = UserStamp()
    """Of the user as the answer was begun."""
    learn: bool = False
    """Whether the conversation is to become an event of the user."""

    @property
    def known_user(self) -> str:
        """Whose history may be used."""
        return NOBODY if self.arm == "control" else self.user

    @property
    def shown_fields(self) -> dict[str, Any]:
        """What the answer says of it, once it is kept: the fields of `Served`."""
        return {
            "response_id": self.response_id if self.ttl_s else None,
            "arm": self.arm if self.share else None,
        }


class Outcomes:
    """Serves, and counts what came of it. One object a process."""

    def __init__(
        self, redis: RedisClient, keys: KeySpace, tenants: TimedCache[TenantSettings], metrics: OutcomeMetrics
    ) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._keys = keys
        self._tenants = tenants
        self._metrics = metrics
        self._scripts = {
            "record": Script(redis, read_script("services.outcomes", "record")),
            "take": Script(redis, read_script("services.outcomes", "take")),
            "feedback": Script(redis, read_script("services.outcomes", "feedback")),
            "keep_chat": Script(redis, read_script("services.outcomes", "keep_chat")),
        }

    async def open(self, tenant: str, user: str, kind: Kind, *, learn: bool | None = False) -> Serving:
        """In which arm the user is, and a new id where answers are kept or learned from: None leaves that to the
        tenant's settings."""
        settings = await self._tenants.read(tenant)
        ttl_s, share = kept_s(settings), settings.holdout_share
        is_learned = settings.learn_from_chats if learn is None else learn
        arm = arm_of(tenant, user, share)
        if not (ttl_s or is_learned):
            return Serving(tenant, user, kind, arm, share)
        response_id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
        stamp = await self._read_stamp(tenant, user)
        return Serving(tenant, user, kind, arm, share, ttl_s, response_id, stamp, is_learned)

    async def record(
        self,
        serving: Serving,
        shown: Mapping[int, Item] | None = None,
        *,
        choice: int | None = None,
        is_counted: bool = True,
    ) -> dict[str, Any]:
        """Keeps what feedback and events may be about: items by their `index` in the answer, and which was chosen.
        Answers the fields of `Served`: without an id where nothing is kept, also since Redis takes no writes or the
        user was erased meanwhile."""
        if not serving.ttl_s:
            return serving.shown_fields
        without_id = serving.shown_fields | {"response_id": None}
        keys = {str(index): shown_key(item) for index, item in list((shown or {}).items())[:MOST_SHOWN]}
        record: dict[str, Any] = {"kind": serving.kind, "share": f"{serving.share:g}", "shown": keys}
        if is_counted:
            record["arm"] = serving.arm
        if choice is not None:
            record["choice"] = str(choice)
        more = {"response_id": serving.response_id, "record": record, "most": MOST_KEPT, "stamp": asdict(serving.stamp)}
        try:
            is_recorded = await self._run("record", serving.tenant, serving.user, serving.ttl_s, **more)
        except RedisError as error:
            logger.warning("an answer is not kept", extra={"error": type(error).__name__})
            return without_id
        if not is_recorded:
            return without_id
        if is_counted:
            self._metrics.count_served(serving.tenant, serving.arm, serving.kind)
        return serving.shown_fields

    async def keep_chat(self, serving: Serving, event: str, *, is_whole: bool = True) -> None:
        """Has the conversation, as an event, be appended to the user's history (chats.py): once, also when this process
        dies next, and never for a user who was erased since `open`. Raises nothing: the answer has been given."""
        keys = self._keys.user(serving.tenant, serving.user)
        more = {"response_id": serving.response_id, "stamp": asdict(serving.stamp), "most": MOST_CHATS}
        names = [keys.state, keys.erasures, keys.chats, keys.waiting_chats]
        try:
            outcome = await self._scripts["keep_chat"].run(names, event, member=keys.member, **more)
        except RedisError as error:
            logger.warning("a chat is not learned", extra={"error": type(error).__name__})
            outcome = "failed"
        self.count_chat("shortened" if outcome == "kept" and not is_whole else outcome)

    def count_chat(self, outcome: str) -> None:
        """One of CHAT_OUTCOMES."""
        self._metrics.chats.labels(outcome).inc()

    async def count_events(self, tenant: str, user: str, events: Sequence[Interaction]) -> None:
        """Counts events of the user that have just been stored, once."""
        ttl_s = kept_s(await self._tenants.read(tenant))
        choices = [(event, item) for event in events if (item := find_choice(event)) is not None] if ttl_s else []
        if not choices:
            return
        taken = [
            {"key": shown_key(item), "latest": _time_id(event.occurred_at.timestamp() if event.occurred_at else None)}
            for event, item in choices
        ]
        for outcome in orjson.loads(await self._run("take", tenant, user, ttl_s, taken=taken)):
            self._metrics.count_taken(tenant, outcome["arm"], outcome["kind"], hit=outcome["hit"])

    async def take_feedback(self, tenant: str, user: str, feedback: FeedbackRequest) -> None:
        """Counts it; the same feedback again changes nothing. Raises ResponseUnknown, and InvalidRequest for an item
        that the answer did not show."""
        thumb = feedback.thumb or ("down" if feedback.rejected is not None else None)
        picked = {} if feedback.picked is None else {"picked": str(feedback.picked)}
        more = {"response_id": feedback.response_id, **picked} | ({"thumb": thumb} if thumb else {})
        ttl_s = kept_s(await self._tenants.read(tenant))
        answer = orjson.loads(await self._run("feedback", tenant, user, ttl_s, **more))
        if answer.get("unknown"):
            raise ResponseUnknown
        if answer.get("not_shown"):
            message = "the answer shows no item of this index"
            raise InvalidRequest(f"picked: {message}", errors=[{"field": "picked", "message": message}])
        if answer["taken"]:
            self._metrics.count_taken(tenant, answer["arm"], answer["kind"], hit=answer["hit"])
        if answer["thumb"] and thumb:
            self._metrics.count_thumb(tenant, answer["arm"], answer["kind"], thumb)

    async def _read_stamp(self, tenant: str, user: str) -> UserStamp:
        keys = self._keys.user(tenant, user)
        pipe = self._redis.pipeline(transaction=False)
        pipe.hget(keys.state, "born")
        pipe.get(keys.erasures)
        born, erasures = await pipe.execute()
        return UserStamp(born or "", erasures or "")

    async def _run(self, script: str, tenant: str, user: str, ttl_s: int, **arguments: Any) -> Any:
        keys = self._keys.user(tenant, user)
        return await self._scripts[script].run(
            [keys.served, keys.outcomes, keys.arms, keys.state, keys.erasures],
            tenant=quote(tenant, safe=""),
            ttl_s=ttl_s,
            oldest=_time_id(time.time() - ttl_s),
            outcomes_ttl_s=OUTCOMES_TTL_S,
            **arguments,
        )


def arm_of(tenant: str, user: str, share: float) -> Arm:
    """The same at each call, independent between tenants; a larger share keeps the users of a smaller one."""
    digest = blake2b(f"{tenant}\0{user}".encode(), digest_size=8, person=b"holdout").digest()
    return "control" if int.from_bytes(digest) < share * 2**64 else "personalized"


def kept_s(settings: TenantSettings) -> int:
    """Seconds for which a tenant's answers are kept."""
    return DAY_S if settings.holdout_share else settings.feedback_s


def shown_key(item: Item) -> str:
    """A hash of the item; of prose too, since the answers are one user's."""
    return item_key(item) or "p" + blake2b(f"{item}".encode(), digest_size=8).hexdigest()


def _time_id(seconds: float | None) -> str:
    """Sorts behind the ids of all answers before this time, in seconds since 1970; default: behind all."""
    return "g" if seconds is None else f"{max(0, int(seconds * 1000)):012x}"
