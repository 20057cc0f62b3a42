"""The gateway: the only public entry of the suite.

    python -m gateway            # listens on 127.0.0.1:8080

REST under /v1 goes to the services (proxy.py), /mcp offers some of it as an agent's tools (mcp/tool_server.py), /admin
manages API keys and /v1/tokens mints user tokens (admin.py), /console is the web console and /docs the reference of all
of it. Configuration: services/settings.py.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from redis.exceptions import RedisError
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Mount, Route
from starlette.types import Scope

from alignx.schemas.status import EngineState, Readiness
from gateway import admin
from gateway.auth import Authenticator, AuthMetrics, known_refusals, presented_key
from gateway.headers import RateLimitHeaders
from gateway.keys import ApiKey, KeyStore, ask_redis, parse_key
from gateway.mcp.tool_server import HEADERS, PATH, ToolServer
from gateway.pages import DocsMerger, add_pages
from gateway.proxy import Proxy, ProxyState
from gateway.routing import OWN_PATHS, SERVICES, Service
from gateway.shares import CallersSeen
from gateway.upstreams import Upstreams, open_session, readiness
from gateway.user_tokens import UserTokens
from services.errors import StoreUnavailable, Unavailable, UpstreamUnavailable
from services.server.app import create_app, serve
from services.server.bounds import CrossOrigin, Fields
from services.server.health import Check
from services.server.metrics import create_registry
from services.server.state import Process, state_of
from services.settings import GatewaySettings, Settings, load_settings
from services.storage.audit_log import AuditLog
from services.storage.connection import RedisClient, check_writes, open_redis
from services.storage.key_names import ENGINE_FAULT, WORKER_SEEN
from services.storage.tenant_settings import TenantSettingsStore, default_settings

PORT = 8080
BOOTSTRAP_TENANT = "default"
_RETRY_S = 1.0
Answer = TypeVar("Answer")

_READY_TIMEOUT_S = 2.0
_LOOK_S = 1.0
"""How long an answer about the services holds, so that nobody can have them asked without end."""
_ALLOWED_HEADERS = (
    "Anthropic-Version", "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match",
    "Last-Event-ID", "Prefer", "X-Api-Key", "X-Request-Id", "X-User-Id", *HEADERS,
)  # fmt: skip
_EXPOSED_HEADERS = (
    "ETag", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Request-Id", "Retry-After", "Server-Timing",
    "X-AlignX-Mode", "X-AlignX-Response-Id", "X-AlignX-Summary-Version", "X-Request-Id",
)  # fmt: skip


class BootstrapKeyInvalid(ValueError):
    """The configured bootstrap key does not have the form of a key."""


class Bootstrap:
    """Registers the configured first admin key once Redis answers."""

    def __init__(self, store: KeyStore, key: ApiKey | None) -> None:
        self._store = store
        self._key = key
        self._done = key is None

    async def run(self) -> None:
        while not self._done:
            try:
                await self.check()
            except (StoreUnavailable, RedisError) as error:  # an ACL's refusal is the latter
                fault = type(error.__cause__ or error).__name__
                logging.getLogger("alignx.gateway").warning("Redis cannot serve; trying again", extra={"error": fault})
                await asyncio.sleep(_RETRY_S)

    async def check(self) -> None:
        """Readiness of the store: it answers, and the first key is in it."""
        await self._store.ping()
        if not self._done and self._key is not None:
            await self._store.register(self._key, tenant=BOOTSTRAP_TENANT, name="bootstrap")
            self._done = True


def bootstrap_key(settings: GatewaySettings) -> ApiKey | None:
    """The first admin key, if one is configured. Raises BootstrapKeyInvalid."""
    if settings.bootstrap_key is None:
        return None
    key = parse_key(settings.bootstrap_key.get_secret_value())
    if key is None:
        raise BootstrapKeyInvalid(
            "ALIGNX_GATEWAY__BOOTSTRAP_KEY must have the form ax_<id>_<secret>: an id of 4 to 32 small letters and "
            "digits, a secret of 32 to 128 letters, digits and hyphens."
        )
    return key


@dataclass(frozen=True, slots=True)
class GatewayState(ProxyState):
    """What the lifespan opens."""

    docs: DocsMerger
    bootstrap: Bootstrap
    redis: RedisClient
    engines: dict[str, EngineState | None]
    """What the response service and the workers last said of their engine."""
    looks: dict[str, tuple[float, "asyncio.Task[Any]"]]
    """The latest questions to the services and to Redis, and when they were asked."""

    def engine(self) -> EngineState | None:
        """A degraded one before one that is well."""
        known = (state for state in self.engines.values() if state)
        return min(known, key=lambda state: state.state, default=None)

    def refuse_hung(self) -> None:
        """Readiness does not wait for a Redis that hangs."""
        if self.keys.watched.is_hung:
            raise StoreUnavailable("Redis takes connections and does not answer.")

    async def check_redis(self) -> None:
        self.refuse_hung()
        await self.bootstrap.check()
        report = await ask_redis(self.redis.get(ENGINE_FAULT))
        try:
            self.engines["worker"] = EngineState.model_validate_json(report) if report else None
        except ValidationError:  # of a worker of another release
            self.engines["worker"] = None

    async def check_writes(self) -> None:
        """By a write, which each caller of /readyz would else cause."""
        self.refuse_hung()
        await self._look("writes", lambda: check_writes(self.redis))

    async def check_worker(self) -> None:
        self.refuse_hung()
        if not await ask_redis(self.redis.exists(WORKER_SEEN)):
            raise Unavailable("No worker has reported lately: events are kept, and no summary is brought up to date.")

    async def check_service(self, service: Service) -> None:
        """Asks the service's replicas for their own readiness; one that is ready is enough. Notes what they say of the
        engine, a degraded one before one that is well."""
        answers = await self.ask(service)
        engines = (answer.engine for answer in answers if answer.engine)
        self.engines[service] = min(engines, key=lambda engine: engine.state, default=None)
        if not answers:
            raise UpstreamUnavailable(f"The {service} service does not answer.")
        if all(answer.status != "ready" for answer in answers):
            raise Unavailable(f"The {service} service is not ready.")

    async def ask(self, service: Service) -> list[Readiness]:
        """What the replicas that answer say of themselves."""
        return await self._look(service, lambda: self._ask(self.upstreams.urls()[service]))

    async def _look(self, name: str, work: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """The result of `work`, at most `_LOOK_S` old, however many ask."""
        asked_at, look = self.looks.get(name, (0.0, None))
        if look is None or time.monotonic() - asked_at >= _LOOK_S:
            look = asyncio.create_task(work())
            self.looks[name] = time.monotonic(), look
        answer: Answer = await asyncio.shield(look)
        return answer

    async def _ask(self, urls: Sequence[str]) -> list[Readiness]:
        answers = await asyncio.gather(*(readiness(self.session, url, timeout_s=_READY_TIMEOUT_S) for url in urls))
        return [answer for answer in answers if answer is not None]


class ServicesMount(Mount):
    """All of /v1 but the gateway's own calls; it stands first, since nearly every request is for it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.NONE, {}) if scope["path"] in OWN_PATHS else super().matches(scope)


def build_app(settings: Settings, registry: CollectorRegistry) -> FastAPI:
    """The gateway's app. Raises BootstrapKeyInvalid."""
    first_key = bootstrap_key(settings.gateway)
    metrics = AuthMetrics(registry)
    tokens, seen = UserTokens(settings.internal_token.get_secret_value()), CallersSeen()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[GatewayState]:
        async with open_redis(settings.redis) as redis, open_session(settings.gateway) as session:
            keys, upstreams = KeyStore(redis, settings), Upstreams(settings.gateway)
            state = GatewayState(
                keys=keys,
                tenant_settings=TenantSettingsStore(redis, default_settings(settings)),
                authenticator=Authenticator(keys, tokens, metrics, settings.gateway, seen),
                tokens=tokens,
                audit=AuditLog(redis, settings.gateway),
                metrics=metrics,
                session=session,
                upstreams=upstreams,
                docs=DocsMerger(app.openapi, session, upstreams.urls()),
                bootstrap=Bootstrap(keys, first_key),
                redis=redis,
                engines={},
                looks={},
            )
            async with _running(
                state.bootstrap.run(), proxy.end_streams_on_drain(), upstreams.watch(session), keys.watch()
            ):
                yield state

    async def operators_only(request: Request) -> None:
        await state_of(app, GatewayState).authenticator.authenticate_scraper(request.scope)

    app = create_app(
        service="gateway",
        title="AlignX Serve",
        description="Learns what each user prefers, in plain text, and personalizes answers and recommendations.",
        settings=settings,
        registry=registry,
        checks=_readiness_checks,
        lifespan=lifespan,
        openapi_url=None,
        operator_guard=operators_only,
        one_of=SERVICES,
        advisory=("redis_writes", "worker"),  # meanwhile what is stored can be read
        engine=lambda app: state_of(app, GatewayState).engine(),
        holder_of=lambda scope: seen.tenant_of(presented_key(scope)),
        known_refusal=known_refusals(seen, metrics),
    )
    proxy = Proxy(settings, registry, state_of(app, Process).drain)
    app.router.redirect_slashes = False
    app.include_router(admin.router)
    app.include_router(admin.v1_router)
    app.router.routes[:0] = [ServicesMount("/v1", app=proxy), Route(PATH, ToolServer(proxy, settings))]
    add_pages(app)
    _add_openapi(app)
    app.add_middleware(RateLimitHeaders)
    _allow_origins(app, settings.gateway)
    return app


@asynccontextmanager
async def _running(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Runs what has no end by itself beside the requests."""
    tasks = {asyncio.create_task(coroutine) for coroutine in work}
    try:
        yield
    finally:
        # Again: in Python 3.11 `asyncio.wait_for`, which the client of Redis uses, can lose a cancellation.
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=_RETRY_S)


def _readiness_checks(app: FastAPI) -> Mapping[str, Check]:
    # A service that is away takes its own calls with it; the gateway still serves those of the other.
    state = state_of(app, GatewayState)
    services: dict[str, Check] = {service: partial(state.check_service, service) for service in SERVICES}
    own = {"redis": state.check_redis, "redis_writes": state.check_writes, "worker": state.check_worker}
    return own | services


def _allow_origins(app: FastAPI, settings: GatewaySettings) -> None:
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("DELETE", "GET", "PATCH", "POST", "PUT"),
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
            max_age=3_600,
        )


def cross_origin(settings: GatewaySettings) -> CrossOrigin:
    """The fields of the same rule for what is refused before the app: without them a page's fetch() fails as if there
    were no answer."""
    allowed = frozenset(origin.encode() for origin in settings.cors_origins)
    exposed = ", ".join(sorted(_EXPOSED_HEADERS)).encode()

    def fields(head: Fields) -> Fields:
        origin = next((value for name, value in head if name == b"origin"), b"")
        if origin not in allowed:
            return ()
        return (
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", exposed),
            (b"vary", b"Origin"),
        )

    return fields


def _add_openapi(app: FastAPI) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(await state_of(app, GatewayState).docs.document(), media_type="application/json")


def main() -> None:
    settings = load_settings()
    try:
        app = build_app(settings, create_registry("gateway"))
    except BootstrapKeyInvalid as error:
        raise SystemExit(str(error)) from error
    serve(app, settings, "gateway", port=PORT, cross_origin=cross_origin(settings.gateway))


if __name__ == "__main__":
    main()
