"""The response service for a test: real uvicorn and Redis, and an engine made by hand.

It runs in a thread of its own, so that the tests are plain functions with a plain HTTP client.
"""

import asyncio
import json
import math
import re
import string
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from alignx.schemas.interactions import INTERACTION
from alignx.schemas.items import CatalogueItem
from services.engine.choice.fusion import Comparison, Kind, LogOdds, add, additions
from services.engine.conventions.sessions import HEADER
from services.outcomes.chats import ChatOutbox
from services.preference.edits import create_edit
from services.preference.ingest import Ingest
from services.preference.queue import Queue
from services.preference.updates.update_metrics import IngestMetrics
from services.response.__main__ import create_response_app
from services.server.app import TENANT_HEADER, TOKEN_HEADER, create_server
from services.settings import (
    AxesSettings,
    EngineSettings,
    LimitSettings,
    LogSettings,
    RedisSettings,
    ResponseSettings,
    ServerSettings,
    Settings,
)
from services.storage.connection import open_redis
from services.storage.key_names import tenant_settings_key, weights_key
from services.storage.users import Store
from services.traffic.catalogue import Catalogue
from tests.contract.declared import problems_watched
from tests.unit.running_server import running_server
from tests.unit.services.engine import fake_engine
from tests.unit.services.engine.fake_engine import Answer, answers, is_canary

INTERNAL_TOKEN = "internal-token-of-the-tests"
NOBODY = "http://127.0.0.1:9/v1"
"""Where no engine listens."""
ANSWER = {
    "id": "chatcmpl-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}


def earn(
    tenant_sums: dict[str, float], kind: Kind, right: Sequence[str] = ("profile", "text", "contrast")
) -> dict[str, float]:
    """The sums after 100 choices, of which each scorer of `right` foresees four fifths, and not the same; the others
    say nothing."""
    for number in range(100):
        signs = {name: 1.0 if number % 5 != place else -1.0 for place, name in enumerate(right)}
        odds = LogOdds(**{name: 4.0 * sign for name, sign in signs.items()})
        tenant_sums = add(tenant_sums, additions(tenant_sums, Comparison(kind, odds)))
    return tenant_sums


EARNED = earn(earn({}, "texts"), "items")
"""Of the tenant acme, where each scorer has a weight for choices of each kind."""
PATIENT: dict[str, Any] = {"keep_alive_after_s": 30, "select_timeout_s": 30}
"""So that a busy machine changes no answer."""
HERE = "the engine made by hand"
"""Stands for its URL in the settings of `serve`."""

LETTERS = tuple(string.ascii_uppercase)
Prefer = Callable[[Sequence[str]], Sequence[float]]
"""Items in the order shown -> log-probability of each place's letter."""


sends = partial(fake_engine.sends, pause_s=0.01)


def always_a(shown: Sequence[str]) -> list[float]:
    """Nine tenths for the first place, whatever stands there."""
    return [math.log(0.9)] + [math.log(0.1 / (len(shown) - 1))] * (len(shown) - 1)


class FakeEngine(fake_engine.FakeEngine):
    """Also knows the odds of letters and of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.choices: list[dict[str, Any]] = []
        """Bodies that ask for a letter; `bodies` has the others."""
        self.models = ["tiny"]
        self.chat = answers(ANSWER)
        self.prefer: Prefer = always_a
        self.choose: Answer = self.on_choice
        self.completion = self.on_text
        self.scored: list[tuple[str, str]] = []
        """Context and item of each."""
        self.left = threading.Event()
        """A caller has hung up on `silent`."""

    async def silent(self, _: web.Request) -> web.StreamResponse:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.left.set()
            raise
        raise AssertionError("unreachable")

    async def on_post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if is_canary(body) or not body.get("continue_final_message"):
            return await super().on_post(request)
        self.choices.append(body)
        self.sessions.append(request.headers.get(HEADER))
        return await self.choose(request)

    async def on_choice(self, request: web.Request) -> web.Response:
        body = await request.json()
        logprobs = self.prefer(items_shown(body))
        listed = [
            {"token": f"token_id:{token}", "logprob": logprob}
            for token, logprob in zip(body["logprob_token_ids"], logprobs, strict=True)
        ]
        return web.json_response({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]})

    async def on_models(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def on_tokenize(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if (letter := body.get("prompt", "").strip()) in LETTERS:
            return web.json_response({"tokens": [string.ascii_uppercase.index(letter) + 32]})
        turns = "".join(f"<{turn['role']}>{turn['content']}" for turn in body.get("messages", ()))
        return web.json_response({"tokens": list(map(ord, body.get("prompt") or turns + "<assistant>"))})

    async def on_text(self, request: web.Request) -> web.StreamResponse:
        """An item is likelier the more often its first word is in the context."""
        prompt = (await request.json())["prompt"]
        context, _, item = "".join(map(chr, prompt)).rpartition("<assistant>")
        self.scored.append((context, item))
        listed = [{str(token): {"logprob": 0.1 * context.count(item.split()[0]) - 9}} for token in prompt]
        return web.json_response({"choices": [{"prompt_logprobs": listed}]})


def items_shown(body: dict[str, Any]) -> list[str]:
    """The items of a selection prompt by their letters."""
    return re.findall(r'<(?:item letter="|Item )[A-Z]"?>\n(.*?)\n</[Ii]tem', body["messages"][1]["content"], re.DOTALL)


class Service:
    """A running response service, its engine, and the hand that writes users' histories."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, url: str, engine: FakeEngine, ingest: Ingest, redis: Any
    ) -> None:
        self.url = url
        self.engine = engine
        self.http = self.client("acme")
        self._loop = loop
        self._ingest = ingest
        self._redis = redis

    async def weigh(self, tenant: str, sums: Mapping[str, float]) -> None:
        await self._redis.delete(weights_key(tenant))
        await self._redis.hset(weights_key(tenant), mapping=dict(sums))

    def earn(self, tenant: str, sums: Mapping[str, float]) -> None:
        self._wait(self.weigh(tenant, sums))

    def configure(self, tenant: str, **settings: Any) -> None:
        """What is set for the tenant."""
        fields = {name: json.dumps(value) for name, value in settings.items()}
        self._wait(self._redis.hset(tenant_settings_key(tenant), mapping=fields))

    def client(self, tenant: str) -> httpx.Client:
        headers = {TOKEN_HEADER: INTERNAL_TOKEN, TENANT_HEADER: tenant}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10)

    def learn(self, user: str, *events: dict[str, Any], tenant: str = "acme") -> None:
        """Appends events, as the preference service does."""
        interactions = [INTERACTION.validate_python(event) for event in events]
        self._wait(self._ingest.append(tenant, user, interactions))

    def put_items(self, *items: dict[str, Any]) -> None:
        self._wait(Catalogue(self._redis).put("acme", [CatalogueItem.model_validate(item) for item in items]))

    def write_summary(self, user: str, text: str, tenant: str = "acme") -> None:
        """Makes `text` version 1."""
        self._wait(self._ingest.edit(tenant, user, 0, create_edit(text, 0)))

    def kept_chats(self, user: str) -> list[dict[str, Any]]:
        """The conversations that are to become events of the user."""
        waiting = ChatOutbox(self._redis, self._ingest.store.keys).waiting("acme", user)
        return [json.loads(event) for _, event in self._wait(waiting)]

    def erase(self, user: str) -> None:
        self._wait(self._ingest.queue.forget("acme", user))

    def refuse_writes(self, *, is_refused: bool) -> None:
        """Whether Redis takes no writes."""
        self._wait(self._redis.config_set("min-replicas-to-write", int(is_refused)))

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def chat(self, content: str = "Why is the sky blue?", **fields: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return self.http.post("/v1/chat/completions", json=body)

    def sent(self) -> list[dict[str, Any]]:
        """The messages of the last chat, as the engine got them."""
        messages: list[dict[str, Any]] = self.engine.bodies[-1]["messages"]
        return messages

    def select(self, user: str, items: Sequence[Any], **fields: Any) -> httpx.Response:
        return self.http.post(f"/v1/users/{user}/select", json={"items": items, **fields})

    def recommend(self, user: str, candidates: Sequence[Any], **fields: Any) -> httpx.Response:
        return self.http.post(f"/v1/users/{user}/recommend", json={"candidates": candidates, **fields})


@asynccontextmanager
async def running_service(redis_url: str, changes: dict[str, dict[str, Any]]) -> AsyncIterator[Service]:
    engine = FakeEngine()
    async with engine.serving() as engine_url:
        fields = {name: engine_url if value == HERE else value for name, value in changes.get("engine", {}).items()}
        settings = Settings(
            internal_token=INTERNAL_TOKEN,
            redis=RedisSettings(url=redis_url),
            engine=EngineSettings(**{"url": engine_url, "choose": "letters", **fields}),
            response=ResponseSettings(**PATIENT | changes.get("response", {})),
            limits=LimitSettings(**changes.get("limits", {})),
            axes=AxesSettings(**changes.get("axes", {})),
            server=ServerSettings(port=0, shutdown_s=1),
            log=LogSettings(access=False),
        )
        server = create_server(create_response_app(settings), settings, port=0)
        async with running_server(server) as url, open_redis(settings.redis) as redis:
            queue = Queue(redis, settings.queue, settings.summary)
            store = Store(redis, settings.queue.shards)
            ingest = Ingest(store, queue, settings.limits, IngestMetrics(CollectorRegistry()))
            service = Service(asyncio.get_running_loop(), url, engine, ingest, redis)
            await service.weigh("acme", EARNED)
            yield service


Serve = Callable[..., Service]


@pytest.fixture
def serve(redis_url: str) -> Iterator[Serve]:
    """`serve(engine={…}, response={…}, axes={…})`: the service with these settings; ends with the test."""
    loop, running = asyncio.new_event_loop(), AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    clients: list[httpx.Client] = []

    def start(**changes: dict[str, Any]) -> Service:
        service: Service = wait(running.enter_async_context(running_service(redis_url, changes)))
        clients.append(service.http)
        return service

    try:
        with problems_watched():
            yield start
    finally:
        for client in clients:
            client.close()
        wait(running.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def settings() -> dict[str, dict[str, Any]]:
    """What differs from the service's defaults, by block; see `with_settings`."""
    return {}


@pytest.fixture
def service(serve: Serve, settings: dict[str, dict[str, Any]]) -> Service:
    return serve(**settings)
