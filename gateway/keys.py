"""API keys: their form, and their records in Redis.

A key is `ax_<id>_<secret>`. The id finds the record; the secret is 256 random bits. Redis keeps the
SHA-256 of the whole key and never the key, so a copy of the database opens nothing.

    gw:key:{<id>}           hash: digest tenant admin name created_at [rate] [burst] [revoked_at]
    gw:bucket:{<id>}        hash: the key's token bucket (lua/admit.lua)
    gw:keys                 sorted set of all ids, in the order of the alphabet
    gw:tenant-keys:<tenant> the same for one tenant
    gw:tenants              sorted set of tenants

`{…}` is the cluster hash tag that keeps a key's record and bucket together.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from alignx.schemas.tenants import KeyCreated, KeyInfo, KeyList, KeyRequest, TenantInfo, TenantList
from gateway.headers import Allowance
from services.errors import KeyUnknown, StoreUnavailable
from services.server.app import STORE_FAULTS
from services.settings import Settings
from services.storage.connection import RedisClient, Script, is_refusal, ping, read_script
from services.storage.key_names import ALL_API_KEYS, TENANTS, api_key, tenant_api_keys

_KEY_FORM = re.compile(r"ax_([a-z0-9]{4,32})_([A-Za-z0-9-]{32,128})", re.ASCII)


class ApiKey(NamedTuple):
    id: str
    digest: str
    """SHA-256 of the whole key, in hexadecimal."""


def parse_key(text: str) -> ApiKey | None:
    """None unless `text` has the form of a key."""
    match = _KEY_FORM.fullmatch(text)
    return ApiKey(match[1], _digest(text)) if match else None


def new_key() -> tuple[str, ApiKey]:
    """A fresh key: its text, and its id and digest."""
    key_id = secrets.token_hex(6)
    secret = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    text = f"ax_{key_id}_{secret}"
    return text, ApiKey(key_id, _digest(text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class Admission:
    """The result of checking a key and of asking its bucket for a token."""

    tenant: str
    admin: bool
    genuine: bool
    """The secret is the right one."""
    revoked: bool
    allowance: Allowance | None
    """Null when no token was asked for: the secret is wrong or the key is revoked."""


async def ask_redis(command: Awaitable[Any]) -> Any:
    """What Redis answers. Raises StoreUnavailable when it does not, or writes nothing now."""
    try:
        return await command
    except (*STORE_FAULTS, OSError) as error:
        raise StoreUnavailable(retry_after=1.0) from error
    except ResponseError as error:
        if is_refusal(error):
            raise StoreUnavailable(retry_after=1.0) from error
        raise


class KeyStore:
    """Keys and tenants in Redis. Every method raises StoreUnavailable when Redis does not answer."""

    def __init__(self, redis: RedisClient, settings: Settings) -> None:
        self._redis: Any = redis  # its methods are typed for the blocking client and this one at once
        self._defaults = settings.gateway
        self._slots = asyncio.Semaphore(settings.redis.max_connections)
        self._admit = Script(redis, read_script("gateway", "admit"))

    async def ping(self) -> None:
        await ask_redis(ping(self._redis))

    async def admit(self, key: ApiKey) -> Admission | None:
        """Checks the key and takes a token, in one round trip; None for an unknown id."""
        keys = (api_key(key.id), f"gw:bucket:{{{key.id}}}")
        async with self._slots:
            reply = await ask_redis(self._admit(keys, (key.digest, self._defaults.rate, self._defaults.burst)))
        if reply is None:
            return None
        genuine = hmac.compare_digest(reply[0], key.digest)
        allowance = None
        if genuine and len(reply) > 4:
            allowance = Allowance(bool(reply[4]), float(reply[5]), rate=float(reply[6]), burst=int(float(reply[7])))
        return Admission(
            tenant=reply[1],
            admin=reply[2] == "1",
            genuine=genuine,
            revoked=bool(reply[3]),
            allowance=allowance,
        )

    async def create(self, request: KeyRequest) -> KeyCreated:
        text, key = new_key()
        await self._write(key, request)
        info = await self._info(key.id)
        return KeyCreated(**info.model_dump(), key=text)

    async def register(self, key: ApiKey, *, tenant: str, name: str) -> None:
        """Makes `key` an admin key. Idempotent; a revoked key stays revoked."""
        await self._write(key, KeyRequest(name=name, tenant=tenant, admin=True))

    async def _write(self, key: ApiKey, request: KeyRequest) -> None:
        record = api_key(key.id)
        fields: dict[str, Any] = {
            "digest": key.digest,
            "tenant": request.tenant,
            "admin": int(request.admin),
            "name": request.name,
        }
        fields |= {name: value for name in ("rate", "burst") if (value := getattr(request, name)) is not None}
        await ask_redis(self._redis.hsetnx(record, "created_at", _now()))
        await ask_redis(self._redis.hset(record, mapping=fields))
        # The indexes come last: a key that is listed has its whole record.
        await ask_redis(self._redis.zadd(tenant_api_keys(request.tenant), {key.id: 0}))
        await ask_redis(self._redis.zadd(ALL_API_KEYS, {key.id: 0}))
        await ask_redis(self._redis.zadd(TENANTS, {request.tenant: 0}))

    async def revoke(self, key_id: str) -> None:
        """From the next request on the key is refused. Raises KeyUnknown."""
        record = api_key(key_id)
        if not await ask_redis(self._redis.exists(record)):
            raise KeyUnknown
        await ask_redis(self._redis.hsetnx(record, "revoked_at", _now()))

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
        return KeyInfo(
            id=key_id,
            name=record["name"],
            tenant=record["tenant"],
            admin=record["admin"] == "1",
            rate=float(record.get("rate", self._defaults.rate)),
            burst=int(record.get("burst", self._defaults.burst)),
            created_at=datetime.fromisoformat(record["created_at"]),
            revoked_at=datetime.fromisoformat(record["revoked_at"]) if "revoked_at" in record else None,
        )
