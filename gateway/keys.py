"""API keys: their form, and their records in Redis.

A key is `ax_<id>_<secret>`. The id finds the record; the secret is 256 random bits. Redis keeps the
SHA-256 of the whole key and never the key, so a copy of the database opens nothing.

    gw:key:{<id>}           hash: digest tenant admin name created_at [scopes] [expires_at] [revoked_at] [rate] [burst],
                                  and once rotated: generation previous_digest previous_until
    gw:bucket:{<id>}        hash: the key's token bucket (lua/admit.lua)
    gw:bucket:{<id>}:<user> the same for one user's tokens; the user as a keyed hash
    gw:keys                 sorted set of all ids, in the order of the alphabet
    gw:tenant-keys:<tenant> the same for one tenant
    gw:tenants              sorted set of tenants

`{…}` is the cluster hash tag that keeps a key's record and buckets together. A record without scopes is of a key
that may do everything, but administer only with `admin`: so are all keys from before there were scopes.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from redis.exceptions import RedisError, ResponseError

from alignx.schemas.tenants import (
    SCOPES,
    KeyCreated,
    KeyInfo,
    KeyList,
    KeyRequest,
    RotateRequest,
    Scope,
    TenantInfo,
    TenantList,
)
from gateway.headers import Allowance
from gateway.liveness import Hung, Watched
from services.errors import InvalidRequest, KeyEnded, KeyUnknown, StoreUnavailable
from services.server.app import STORE_FAULTS
from services.settings import Settings
from services.storage.connection import RedisClient, Script, is_refusal, ping, read_script, refusal_words
from services.storage.key_names import ALL_API_KEYS, TENANTS, api_key, tenant_api_keys

_KEY_FORM = re.compile(r"ax_([a-z0-9]{4,32})_([A-Za-z0-9-]{32,128})", re.ASCII)
_MOST_DEBTS = 10_000


class ApiKey(NamedTuple):
    id: str
    digest: str
    """SHA-256 of the whole key, in hexadecimal."""


def parse_key(text: str) -> ApiKey | None:
    """None unless `text` has the form of a key."""
    match = _KEY_FORM.fullmatch(text)
    return ApiKey(match[1], _digest(text)) if match else None


def new_key(key_id: str | None = None) -> tuple[str, ApiKey]:
    """A fresh key, or a fresh secret for one: its text, and its id and digest."""
    key_id = key_id or secrets.token_hex(6)
    secret = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    text = f"ax_{key_id}_{secret}"
    return text, ApiKey(key_id, _digest(text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def as_stored(moment: datetime) -> str:
    """A time as a record holds it; the order of times is that of the alphabet."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@lru_cache(maxsize=1_000)
def granted_scopes(scopes: str, *, admin: bool) -> frozenset[Scope]:
    """The scopes of a record, separated by spaces; of one that names none, all, and `admin` only if it says so."""
    named = scopes.split()
    return frozenset(scope for scope in SCOPES if (scope in named if named else admin or scope != "admin"))


@dataclass(frozen=True, slots=True)
class Admission:
    """The result of checking a key and of asking its buckets for a token."""

    state: Literal["open", "wrong", "revoked", "expired"]
    tenant: str
    scopes: frozenset[Scope]
    expires_at: str
    """As in the record; "" for a key that does not expire."""
    generation: int
    """How often the key had been rotated when it got the secret that was sent."""
    allowance: Allowance | None
    """Null when no token was asked for: the key is not open."""


class UserBucket(NamedTuple):
    """The rate limit of one user's tokens."""

    name: str
    rate: float
    burst: int


async def ask_redis(command: Awaitable[Any]) -> Any:
    """What Redis answers. Raises StoreUnavailable when it does not, or writes nothing now."""
    try:
        return await command
    except (*STORE_FAULTS, OSError) as error:
        raise StoreUnavailable(refusal_words(error), retry_after=1.0) from error
    except ResponseError as error:
        if is_refusal(error):
            raise StoreUnavailable(refusal_words(error), retry_after=1.0) from error
        raise


class KeyStore:
    """Keys and tenants in Redis. Every method raises StoreUnavailable when Redis does not answer."""

    def __init__(self, redis: RedisClient, settings: Settings) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._defaults = settings.gateway
        self._slots = asyncio.Semaphore(settings.redis.max_connections)
        self.watched = Watched()
        """Redis, for requests that ask to be let in: one that hangs must not let them pile up."""
        self._debts: dict[str, float] = {}
        """Tokens that buckets owe, until they are next asked for one."""
        self._admit = Script(redis, read_script("gateway", "admit"))
        self._rotate = Script(redis, read_script("gateway", "rotate"))

    async def ping(self) -> None:
        await ask_redis(ping(self._redis))

    async def watch(self) -> None:
        """Looks whether Redis answers, until it is cancelled."""

        async def responds(timeout_s: float) -> bool:
            try:
                async with asyncio.timeout(timeout_s):
                    await self.ping()
            except TimeoutError:
                return False
            except (StoreUnavailable, RedisError):  # away, or not for us: neither hangs
                return True
            return True

        limits = self._defaults
        await self.watched.watch(responds, hung_after_s=limits.hung_after_s, every_s=limits.replica_check_s)

    async def admit(self, key: ApiKey) -> Admission | None:
        """Checks the key and takes a token, in one round trip; None for an unknown id."""
        reply = await self._ask_admission(key.id, key.digest, (None,))
        if reply is None:
            return None
        if not hmac.compare_digest(reply[1], key.digest):
            reply[0] = "wrong"
        return _admission(reply)

    async def admit_user(self, key_id: str, generation: int, bucket: UserBucket) -> Admission | None:
        """The same for a token of one user, whose signature has been checked, by the key that minted it."""
        reply = await self._ask_admission(key_id, f"generation:{generation}", (None, bucket))
        return None if reply is None else _admission(reply)

    async def is_open(self, key_id: str, generation: int) -> bool:
        """Whether the key still opens with its secret of that generation; takes no token."""
        reply = await self._ask_admission(key_id, f"generation:{generation}", ())
        return reply is not None and reply[0] == "open"

    def charge(self, key_id: str, user: str | None, cost: float) -> None:
        """Has a request of a key, or of the token of a user (a keyed hash), count as more than one."""
        for bucket in (None, user) if user else (None,):
            name = _bucket(key_id, bucket)
            self._debts[name] = self._debts.pop(name, 0.0) + cost
        while len(self._debts) > _MOST_DEBTS:
            del self._debts[next(iter(self._debts))]

    async def _ask_admission(self, key_id: str, proof: str, buckets: Sequence[UserBucket | None]) -> Any:
        """`buckets` are those to take a token from; None is the key's own."""
        keys, limits = [api_key(key_id)], list[float]()
        for bucket in buckets:
            keys.append(name := _bucket(key_id, bucket and bucket.name))
            limits += (bucket.rate, bucket.burst) if bucket else (self._defaults.rate, self._defaults.burst)
            limits.append(self._debts.pop(name, 0.0))
        try:
            with self.watched.wait():
                async with self._slots:
                    return await ask_redis(self._admit(keys, (proof, _now(), *limits)))
        except Hung as error:
            raise StoreUnavailable(retry_after=1.0) from error

    async def create(self, request: KeyRequest) -> KeyCreated:
        """Raises InvalidRequest for a key that has expired already, or at no time of UTC."""
        _check_future(request.expires_at)
        text, key = new_key()
        await self._write(key, request)
        info = await self._info(key.id)
        return KeyCreated(**info.model_dump(), key=text)

    async def register(self, key: ApiKey, *, tenant: str, name: str) -> None:
        """Makes `key` an admin key. Idempotent; a revoked key stays revoked, and a rotated one keeps its secrets."""
        if not await ask_redis(self._redis.hexists(api_key(key.id), "generation")):
            await self._write(key, KeyRequest(name=name, tenant=tenant, admin=True))

    async def _write(self, key: ApiKey, request: KeyRequest) -> None:
        record = api_key(key.id)
        fields: dict[str, Any] = {
            "digest": key.digest,
            "tenant": request.tenant,
            "admin": int(request.admin or "admin" in (request.scopes or ())),
            "name": request.name,
        }
        if request.scopes is not None:
            fields["scopes"] = " ".join(scope for scope in SCOPES if scope in request.scopes)
        if request.expires_at is not None:
            fields["expires_at"] = as_stored(request.expires_at)
        fields |= {name: value for name in ("rate", "burst") if (value := getattr(request, name)) is not None}
        await ask_redis(self._redis.hsetnx(record, "created_at", _now()))
        await ask_redis(self._redis.hset(record, mapping=fields))
        # The indexes come last: a key that is listed has its whole record.
        await ask_redis(self._redis.zadd(tenant_api_keys(request.tenant), {key.id: 0}))
        await ask_redis(self._redis.zadd(ALL_API_KEYS, {key.id: 0}))
        await ask_redis(self._redis.zadd(TENANTS, {request.tenant: 0}))

    async def rotate(self, key_id: str, request: RotateRequest) -> KeyCreated:
        """Gives the key a new secret; its id stays. Raises KeyUnknown, KeyEnded, InvalidRequest."""
        _check_future(request.expires_at)
        text, key = new_key(key_id)
        now = datetime.now(UTC)
        arguments = {
            "digest": key.digest,
            "now": as_stored(now),
            "until": as_stored(now + timedelta(seconds=request.overlap_s)),
            "expires_at": as_stored(request.expires_at) if request.expires_at else "",
        }
        outcome = await ask_redis(self._rotate.run((api_key(key_id),), **arguments))
        if outcome != "rotated":
            raise KeyUnknown if outcome == "unknown" else KeyEnded
        return KeyCreated(**(await self._info(key_id)).model_dump(), key=text)

    async def revoke(self, key_id: str) -> str:
        """From the next request on the key is refused. Gives its tenant. Raises KeyUnknown."""
        record = api_key(key_id)
        tenant: str | None = await ask_redis(self._redis.hget(record, "tenant"))
        if tenant is None:
            raise KeyUnknown
        await ask_redis(self._redis.hsetnx(record, "revoked_at", _now()))
        return tenant

    async def keys(self, tenant: str | None, after: str | None, limit: int) -> KeyList:
        """Keys in the order of their ids, of one tenant or of all."""
        index = tenant_api_keys(tenant) if tenant else ALL_API_KEYS
        ids, following = await self._page(index, after, limit)
        return KeyList(keys=tuple([await self._info(key_id) for key_id in ids]), next=following)

    async def tenants(self, after: str | None, limit: int) -> TenantList:
        names, following = await self._page(TENANTS, after, limit)
        counts = [int(await ask_redis(self._redis.zcard(tenant_api_keys(name)))) for name in names]
        tenants = tuple(TenantInfo(tenant=name, keys=count) for name, count in zip(names, counts, strict=True))
        return TenantList(tenants=tenants, next=following)

    async def _page(self, index: str, after: str | None, limit: int) -> tuple[list[str], str | None]:
        start = f"({after}" if after else "-"
        members = await ask_redis(self._redis.zrangebylex(index, start, "+", 0, limit + 1))
        names = list(map(str, members))
        return names[:limit], names[limit - 1] if len(names) > limit else None

    async def _info(self, key_id: str) -> KeyInfo:
        record: dict[str, str] = await ask_redis(self._redis.hgetall(api_key(key_id)))
        times = ("created_at", "expires_at", "previous_until", "revoked_at")
        scopes = granted_scopes(record.get("scopes", ""), admin=record["admin"] == "1")
        if record.get("previous_until", "") <= _now():
            record.pop("previous_until", None)
        return KeyInfo(
            id=key_id,
            name=record["name"],
            tenant=record["tenant"],
            admin="admin" in scopes,
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            rate=float(record.get("rate", self._defaults.rate)),
            burst=int(record.get("burst", self._defaults.burst)),
            **{name: datetime.fromisoformat(record[name]) for name in times if name in record},
        )


def _bucket(key_id: str, user: str | None) -> str:
    own = f"gw:bucket:{{{key_id}}}"
    return f"{own}:{user}" if user else own


def _admission(reply: list[Any]) -> Admission:
    """The answer of lua/admit.lua."""
    allowance = None
    if reply[0] == "open":
        taken, tokens, rate, burst, bucket = reply[7:]
        name = "key" if bucket == 1 else "user"
        allowance = Allowance(bool(taken), float(tokens), rate=float(rate), burst=int(float(burst)), name=name)
    return Admission(
        state=reply[0],
        tenant=reply[2],
        scopes=granted_scopes(reply[4], admin=reply[3] == "1"),
        expires_at=reply[5],
        generation=int(reply[6]),
        allowance=allowance,
    )


def _check_future(expires_at: datetime | None) -> None:
    if expires_at is None:
        return
    try:
        message = "" if as_stored(expires_at) > _now() else "must be in the future"
    except OverflowError:  # the last or the first hours of the calendar, in another zone
        message = "is no time of UTC"
    if message:
        raise InvalidRequest(f"expires_at: {message}", errors=[{"field": "expires_at", "message": message}])
