"""Who is calling: an API key from the request's headers, checked and charged in one Redis call.

    Authorization: Bearer ax_<id>_<secret>        or        x-api-key: ax_<id>_<secret>

The tenant comes from the key's record and from nowhere else. All refusals look the same to the caller, so
that nobody learns which ids exist; a metric counts them by reason.
"""

from dataclasses import dataclass
from hmac import compare_digest

from prometheus_client import CollectorRegistry, Counter
from pydantic import SecretStr
from starlette.types import Scope

from gateway.headers import note_allowance
from gateway.keys import KeyStore, parse_key
from services.errors import Forbidden, RateLimited, Unauthenticated
from services.storage.tenant_settings import TenantSettingsStore

_REASONS = ("missing", "malformed", "unknown", "wrong_secret", "revoked")


@dataclass(frozen=True, slots=True)
class Caller:
    key_id: str
    tenant: str
    admin: bool


class AuthMetrics:
    """Requests refused before they reach a service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        failures = Counter(
            "alignx_gateway_auth_failures", "Requests refused as 401 or 403, by reason", ("reason",), registry=registry
        )
        self.failures = {reason: failures.labels(reason) for reason in (*_REASONS, "not_admin")}
        self.limited = Counter("alignx_gateway_rate_limited", "Requests refused as 429", registry=registry)


class Authenticator:
    """Turns a request's headers into a Caller."""

    def __init__(self, store: KeyStore, metrics: AuthMetrics, metrics_token: SecretStr | None = None) -> None:
        self._store = store
        self._metrics = metrics
        self._metrics_token = metrics_token

    async def authenticate(self, scope: Scope) -> Caller:
        """Raises Unauthenticated, RateLimited, StoreUnavailable."""
        presented = _presented_key(scope)
        if presented is None:
            raise self._refusal("missing", "Send your API key as 'Authorization: Bearer ax_…'.")
        key = parse_key(presented)
        if key is None:
            raise self._refusal("malformed")
        admission = await self._store.admit(key)
        if admission is None:
            raise self._refusal("unknown")
        if not admission.genuine:
            raise self._refusal("wrong_secret")
        if admission.revoked or admission.allowance is None:
            raise self._refusal("revoked")
        allowance = admission.allowance
        note_allowance(scope, allowance)
        if not allowance.granted:
            self._metrics.limited.inc()
            raise RateLimited(
                f"This API key may send {allowance.rate:g} requests a second, {allowance.burst} in a burst.",
                retry_after=allowance.retry_after,
            )
        return Caller(key.id, admission.tenant, admission.admin)

    async def authenticate_admin(self, scope: Scope) -> Caller:
        """Raises Forbidden as well, for a key that is not an admin key."""
        caller = await self.authenticate(scope)
        if not caller.admin:
            self._metrics.failures["not_admin"].inc()
            raise Forbidden("This call needs an admin key.")
        return caller

    async def authenticate_scraper(self, scope: Scope) -> None:
        """Checks the metrics token, or else an admin key. Raises as `authenticate_admin`."""
        token = self._metrics_token
        presented = _presented_key(scope) or ""
        if token is None or not compare_digest(presented.encode(), token.get_secret_value().encode()):
            await self.authenticate_admin(scope)

    def _refusal(self, reason: str, detail: str = "The API key is not valid.") -> Unauthenticated:
        self._metrics.failures[reason].inc()
        return Unauthenticated(detail)


@dataclass(frozen=True, slots=True)
class AuthState:
    """The part of the gateway's state that checks and manages API keys and tenants."""

    keys: KeyStore
    tenant_settings: TenantSettingsStore
    authenticator: Authenticator


def _presented_key(scope: Scope) -> str | None:
    """The bearer token, else `x-api-key`; "" for an Authorization header of another scheme."""
    key: str | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
        if name == b"x-api-key":
            key = value.decode("latin-1").strip()
    return key
