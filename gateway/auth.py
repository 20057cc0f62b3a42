"""Who is calling and what they may do: an API key or a user token, checked and charged in one Redis call.

    Authorization: Bearer ax_<id>_<secret>        or        x-api-key: ax_<id>_<secret>

The tenant comes from the key's record and from nowhere else. There is no cache of keys: a key that is revoked is
refused from the next request on, by every gateway, and so are the user tokens it minted; a stream that never ends by
itself ends then too. A token's signature is
checked before Redis is asked. Refusals of keys look the same to the caller, so that nobody learns which ids exist; a
metric counts them by reason. Only who holds the right secret is told that it has expired.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hmac import compare_digest

from prometheus_client import CollectorRegistry, Counter
from pydantic import SecretStr
from redis.exceptions import RedisError
from starlette.types import Scope as AsgiScope

from alignx.schemas.tenants import Scope
from gateway.guessing import Guesses
from gateway.headers import Allowance, note_allowance
from gateway.keys import Admission, KeyStore, UserBucket, ask_redis, parse_key
from gateway.shares import CallersSeen
from gateway.user_tokens import UserClaims, UserTokens, is_user_token
from services.errors import (
    AlignXError,
    CredentialExpired,
    Forbidden,
    RateLimited,
    StoreUnavailable,
    TooManyFailures,
    Unauthenticated,
)
from services.server.bounds import group_of
from services.settings import GatewaySettings
from services.storage.audit_log import AuditLog
from services.storage.tenant_settings import TenantSettingsStore

RECHECK_S = 30.0
"""How often the key behind endless streams is looked at, once for all of them."""
_REASONS = ("missing", "malformed", "unknown", "wrong_secret", "revoked", "expired", "token", "scope", "other_user")
_ENDED = "The API key that minted this user token is revoked, has expired or was rotated."


@dataclass(frozen=True, slots=True)
class Caller:
    key_id: str
    generation: int
    """Rotations of the key before the secret that was sent, or that minted the token."""
    tenant: str
    scopes: frozenset[Scope]
    expires_at: str
    """Of the key, as in its record; "" for never."""
    user: str | None = None
    """The one user whom a user token is for; null for a key."""
    token_ends: int | None = None
    """When that token ends, in seconds since 1970."""


class AuthMetrics:
    """Requests refused before they reach a service, and calls that are not logged."""

    def __init__(self, registry: CollectorRegistry) -> None:
        failures = Counter(
            "alignx_gateway_auth_failures", "Requests refused as 401 or 403, by reason", ("reason",), registry=registry
        )
        self.failures = {reason: failures.labels(reason) for reason in _REASONS}
        self.limited = Counter("alignx_gateway_rate_limited", "Requests refused as 429", registry=registry)
        self.unaudited = Counter(
            "alignx_gateway_audit_failures", "Calls that the audit log could not take: Redis did not", registry=registry
        )


class _KeyWatch:
    """The open streams of one key, or of tokens that it minted."""

    task: "asyncio.Task[None]"

    def __init__(self) -> None:
        self.ends = set[Callable[[], None]]()


class Authenticator:
    """Turns a request's headers into a Caller."""

    def __init__(
        self, store: KeyStore, tokens: UserTokens, metrics: AuthMetrics, settings: GatewaySettings, seen: CallersSeen
    ) -> None:
        self._store = store
        self._seen = seen
        self._tokens = tokens
        self._metrics = metrics
        self._metrics_token: SecretStr | None = settings.metrics_token
        self._user_limit = settings.user_rate, settings.user_burst
        self._guesses = Guesses()
        self._watches: dict[tuple[str, int], _KeyWatch] = {}
        """By id and generation of the key."""

    async def admit(self, scope: AsgiScope) -> Caller:
        """Whoever calls, with whatever scopes. Raises Unauthenticated, RateLimited, TooManyFailures,
        StoreUnavailable."""
        presented = presented_key(scope)
        if presented is None:
            raise self._refusal("missing", "Send your API key as 'Authorization: Bearer ax_…'.")
        if is_user_token(presented):
            caller, allowance = await self._admit_token(presented, [_address(scope)])
        else:
            caller, allowance = await self._admit_key(presented, [_address(scope)])
        self._seen.note(presented, caller.tenant)
        if not allowance.granted:
            self._metrics.limited.inc()
            what = "This API key may send" if allowance.name == "key" else "One user's tokens may send"
            refusal = RateLimited(
                f"{what} {allowance.rate:g} requests a second, {allowance.burst} in a burst; one of many events or "
                "candidates, or of a large body, counts as several.",
                retry_after=allowance.retry_after,
                headers={name.decode(): value.decode() for name, value in allowance.headers()},
            )
            self._seen.note_limited(presented, refusal, allowance.wait_s)
            raise refusal
        note_allowance(scope, allowance)
        return caller

    def require(self, caller: Caller, needed: Scope) -> None:
        """Raises Forbidden without the scope."""
        if needed not in caller.scopes:
            self._metrics.failures["scope"].inc()
            what = "API key" if caller.user is None else "user token"
            raise Forbidden(f"This call needs the scope {needed}, which this {what} does not have.", scope=needed)

    async def authenticate_scraper(self, scope: AsgiScope) -> None:
        """Checks the metrics token, or else an admin key. Raises as `authenticate_key`."""
        token = self._metrics_token
        presented = presented_key(scope) or ""
        if token is None or not compare_digest(presented.encode(), token.get_secret_value().encode()):
            await self.authenticate_key(scope, "admin")

    async def authenticate_key(self, scope: AsgiScope, needed: Scope) -> Caller:
        """For calls that are not for one user: user tokens are refused. Raises as `admit` and `require`."""
        caller = await self.admit(scope)
        self.require(caller, needed)
        if caller.user is not None:
            raise self.other_user()
        return caller

    def charge(self, caller: Caller, cost: float) -> None:
        """Has a request that cost as much as several others count as `cost` further ones."""
        user = None if caller.user is None else self._tokens.hash_user(caller.key_id, caller.user)
        self._store.charge(caller.key_id, user, cost)

    @contextmanager
    def watch(self, caller: Caller, end: Callable[[], None]) -> Iterator[None]:
        """Calls `end` once the caller's key or token has ended, `RECHECK_S` late at most while Redis answers."""
        name = caller.key_id, caller.generation
        watch = self._watches.get(name)
        if watch is None:
            watch = self._watches[name] = _KeyWatch()
            watch.task = asyncio.create_task(self._end_with_key(name, watch))
        watch.ends.add(end)
        timer = None
        if caller.token_ends is not None:
            timer = asyncio.get_running_loop().call_later(max(0.0, caller.token_ends - time.time()), end)
        try:
            yield
        finally:
            if timer:
                timer.cancel()
            watch.ends.discard(end)
            if not watch.ends:
                watch.task.cancel()
                self._forget(name, watch)

    async def _end_with_key(self, name: tuple[str, int], watch: "_KeyWatch") -> None:
        is_open = True
        while is_open and watch.ends:
            await asyncio.sleep(RECHECK_S)
            with suppress(StoreUnavailable):
                is_open = await self._store.is_open(*name)
        self._forget(name, watch)
        for end in tuple(watch.ends):
            end()

    def _forget(self, name: tuple[str, int], watch: "_KeyWatch") -> None:
        if self._watches.get(name) is watch:
            del self._watches[name]

    def other_user(self) -> Forbidden:
        self._metrics.failures["other_user"].inc()
        return Forbidden("This user token is for the calls of its own user alone.")

    async def _admit_key(self, presented: str, names: list[str]) -> tuple[Caller, Allowance]:
        key = parse_key(presented)
        if key is None:
            await asyncio.sleep(self._guesses.delay_s(names, presented))
            raise self._failure(self._refusal("malformed"), names, presented)
        names.append(f"key {key.id}")
        if delay_s := self._guesses.delay_s(names, key.digest):
            await asyncio.sleep(delay_s)
        admission = await self._store.admit(key)
        if admission is None:
            raise self._failure(self._refusal("unknown"), names, key.digest)
        if admission.state == "expired":
            raise self._failure(self._expiry("This API key has expired."), names, key.digest)
        if admission.allowance is None:
            reason = "wrong_secret" if admission.state == "wrong" else "revoked"
            raise self._failure(self._refusal(reason), names, key.digest)
        self._guesses.note_success(key.digest)
        return _caller(key.id, admission), admission.allowance

    async def _admit_token(self, presented: str, names: list[str]) -> tuple[Caller, Allowance]:
        claims = self._tokens.read(presented)
        if claims is None:
            await asyncio.sleep(self._guesses.delay_s(names, presented))
            raise self._failure(self._refusal("token", "The user token is not valid."), names, presented)
        if claims.expired:
            raise self._expiry("This user token has expired.")
        bucket = UserBucket(self._tokens.hash_user(claims.key_id, claims.user), *self._user_limit)
        admission = await self._store.admit_user(claims.key_id, claims.generation, bucket)
        if admission is None or admission.allowance is None:
            raise self._failure(self._refusal("token", _ENDED), names, presented)
        return _caller(claims.key_id, admission, claims), admission.allowance

    def _failure(self, refusal: AlignXError, names: Collection[str], digest: str) -> AlignXError:
        """A refusal that counts as a guess."""
        retry_after = self._guesses.note_failure(names, digest)
        if retry_after is None:
            return refusal
        self._metrics.limited.inc()
        return TooManyFailures(retry_after=retry_after)

    def _expiry(self, detail: str) -> Unauthenticated:
        self._metrics.failures["expired"].inc()
        return CredentialExpired(detail)

    def _refusal(self, reason: str, detail: str = "The API key is not valid.") -> Unauthenticated:
        self._metrics.failures[reason].inc()
        return Unauthenticated(detail)


@dataclass(frozen=True, slots=True)
class AuthState:
    """The part of the gateway's state that checks and manages API keys and tenants."""

    keys: KeyStore
    tenant_settings: TenantSettingsStore
    authenticator: Authenticator
    tokens: UserTokens
    audit: AuditLog
    metrics: AuthMetrics

    async def log_call(self, tenant: str, key_id: str, action: str, *targets: str) -> None:
        """Adds entries to the audit log, before the call is answered. One that cannot be logged is answered too (an
        erasure must not wait for room in Redis), and counted."""
        try:
            await ask_redis(self.audit.add(tenant, key_id, action, *targets))
        except (StoreUnavailable, RedisError) as error:
            self.metrics.unaudited.inc()
            fault = type(error.__cause__ or error).__name__
            logging.getLogger("alignx.gateway").warning("no audit entry", extra={"action": action, "error": fault})


def _caller(key_id: str, admission: Admission, claims: UserClaims | None = None) -> Caller:
    scopes = admission.scopes if claims is None else admission.scopes & claims.scopes
    return Caller(
        key_id=key_id,
        generation=admission.generation,
        tenant=admission.tenant,
        scopes=scopes,
        expires_at=admission.expires_at,
        user=claims.user if claims else None,
        token_ends=claims.expires_at if claims else None,
    )


def _address(scope: AsgiScope) -> str:
    client = scope.get("client")
    return group_of(str(client[0])) if client else ""


def known_refusals(seen: CallersSeen, metrics: AuthMetrics) -> Callable[[AsgiScope], RateLimited | None]:
    """What a caller gets whose rate limit is used up for the moment."""

    def refusal_of(scope: AsgiScope) -> RateLimited | None:
        if refusal := seen.refusal_of(presented_key(scope)):
            metrics.limited.inc()
        return refusal

    return refusal_of


def presented_key(scope: AsgiScope) -> str | None:
    """The bearer token, else `x-api-key`; "" for an Authorization header of another scheme."""
    key: str | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
        if name == b"x-api-key":
            key = value.decode("latin-1").strip()
    return key
