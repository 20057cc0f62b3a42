import asyncio
import os
import re
import signal
import subprocess
import sys
from typing import cast
from urllib.parse import urljoin

import orjson
import pytest
from prometheus_client import CollectorRegistry
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from starlette.responses import PlainTextResponse

from gateway import __main__ as gateway_process
from gateway.__main__ import Bootstrap, GatewayState, _running, cross_origin
from gateway.keys import ApiKey, KeyStore, ask_redis
from services.server.bounds import HEAD_LINES
from services.server.load_shedding import FEW, LoadShedding
from services.server.state import state_of
from services.settings import GatewaySettings
from services.storage.key_names import ENGINE_FAULT
from tests.unit.gateway.conftest import ADMIN_KEY, Suite, http_answer, running_suite
from tests.unit.services.server.test_bounds import exchange, running
from tests.unit.with_settings import with_settings

pytestmark = pytest.mark.anyio


async def test_readiness_asks_redis_and_both_services(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_process, "_LOOK_S", 0.0)
    status, _, body = await suite.json("GET", "/readyz", key="")
    assert status == 200
    assert body["checks"].pop("worker").startswith("No worker has reported lately")
    assert body["checks"] == dict.fromkeys(("drain", "redis", "redis_writes", "preference", "response"), "ok")
    assert suite.preference.seen[-1].line.startswith("GET /readyz ")
    suite.response.answer(http_answer(b"", "503 x"))
    status, _, body = await suite.json("GET", "/readyz", key="")
    assert (status, body["status"]) == (200, "ready")  # events and summaries are still served
    assert body["checks"]["response"] == "The response service is not ready."
    suite.preference.handler = suite.response.handler
    status, _, body = await suite.json("GET", "/readyz", key="")
    assert (status, body["status"]) == (503, "not_ready")
    assert body["checks"]["preference"] == "The preference service is not ready."


async def test_readiness_passes_on_what_the_services_and_the_workers_say_of_their_engine(suite: Suite) -> None:
    assert "engine" not in (await suite.json("GET", "/readyz", key=""))[2]
    engine = {"dialect": "no system role", "context_tokens": 2048, "letters": True, "reasons": False}
    engine |= {"state": "ok", "words": "no system", "protocol": "letters", "accuracies": {}}
    body = orjson.dumps({"status": "ready", "checks": {}, "engine": engine})
    suite.response.answer(http_answer(body, "200 OK", "Content-Type: application/json"))
    fault = engine | {"state": "degraded", "detail": "no", "words": "bad input"}
    state_of(suite.app, GatewayState).looks.clear()
    redis = state_of(suite.app, GatewayState).redis
    for shown, report in ((engine, ""), (fault, orjson.dumps(fault)), (engine, "of another release")):
        await ask_redis(redis.set(ENGINE_FAULT, report, ex=9))
        assert (await suite.json("GET", "/readyz", key=ADMIN_KEY))[2]["engine"] == shown
        for key in ("", suite.key, "ax_wrong"):
            status, _, document = await suite.json("GET", "/readyz", key=key)
            assert (status, document["engine"] | {"words": shown["words"]}) == (200, shown)
            assert "words" not in document["engine"]
    assert 'auth_failures_total{reason="missing"} 0.0' in await suite.metrics()
    await ask_redis(redis.delete(ENGINE_FAULT))


async def test_many_who_ask_for_readiness_are_one_question_to_the_services_and_one_write(
    suite: Suite, redis_url: str
) -> None:
    await suite.json("GET", "/readyz", key="")
    before = len(suite.preference.seen)
    with Redis.from_url(redis_url) as redis:
        redis.config_resetstat()
        state_of(suite.app, GatewayState).looks.clear()
        await asyncio.gather(*(suite.json("GET", "/readyz", key="") for _ in range(50)))
        assert redis.info("commandstats")["cmdstat_set"]["calls"] == 1
    assert len(suite.preference.seen) - before <= 2


async def test_the_console_and_the_docs_load_nothing_from_elsewhere(suite: Suite) -> None:
    async with suite.call("GET", "/", key="") as answer:
        assert (answer.status, answer.headers["Location"]) == (307, "/console")
    names = set()
    for path in ("/console", "/docs"):
        async with suite.call("GET", path, key="") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            etag, html = answer.headers["ETag"], await answer.text()
        async with suite.call("GET", path, key="", headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304
        assert "<style" not in html
        assert not re.search(r"<script(?![^>]* src=)", html)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', html)
        names |= set(re.findall(r'(?:src|href)="(/console/[^"]+)"', html))
    assert names
    waiting, size = sorted(names), 0
    while waiting:
        name = waiting.pop()
        async with suite.call("GET", name, key="") as answer:
            assert answer.status == 200, name
            assert not name.endswith(".js") or answer.content_type == "text/javascript"
            text = await answer.text()
        size += len(text.encode())
        assert len(text.splitlines()) <= 250, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|console\.", text), name
        modules = {urljoin(name, module) for module in re.findall(r'from "([^"]+)"', text)} - names
        names |= modules
        waiting += sorted(modules)
    assert size <= 200_000
    assert (await suite.json("GET", "/console/app.py", key=""))[0] == 404
    assert (await suite.json("GET", "/console/..%2fapp.py", key=""))[0] == 404


PREFLIGHT = {
    "Origin": "https://shop.example",
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization,if-match",
}


async def test_cors_is_off_unless_configured(suite: Suite) -> None:
    async with suite.call("OPTIONS", "/v1/users/ann/preferences", key="", headers=PREFLIGHT) as answer:
        assert answer.status == 405
    async with suite.call("GET", "/v1/quality", headers=PREFLIGHT) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers


@with_settings(gateway={"cors_origins": ("https://shop.example",)})
async def test_cors_is_for_the_origins_that_are_configured(suite: Suite) -> None:
    async with suite.call("OPTIONS", "/v1/users/ann/preferences", key="", headers=PREFLIGHT) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    async with suite.call("GET", "/v1/quality", headers=PREFLIGHT) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert "RateLimit" in answer.headers["Access-Control-Expose-Headers"]
    foreign = {**PREFLIGHT, "Origin": "https://evil.example"}
    async with suite.call("GET", "/v1/quality", headers=foreign) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "is_allowed"), [("https://shop.example", True), ("https://evil.example", False), ("", False)]
)
async def test_an_allowed_origin_may_read_what_is_refused_before_the_app(origin: str, is_allowed: bool) -> None:
    load = LoadShedding(CollectorRegistry(), holder_of=lambda _: "", refuse=lambda *_: PlainTextResponse("later", 503))
    load.calls.limit = 0
    load.calls.take("", FEW)
    settings = GatewaySettings(cors_origins=("https://shop.example",))
    head = f"GET /v1/users/ann/preferences HTTP/1.1\r\nHost: x\r\n{f'Origin: {origin}' if origin else 'A: b'}\r\n"
    async with running(shedding=load, cross_origin=cross_origin(settings)) as port:
        shed = await exchange(port, head.encode() + b"\r\n")
        long = await exchange(port, head.encode() + b"X-A: 1\r\n" * HEAD_LINES + b"\r\n")
    for answer, status in ((shed, b"503"), (long, b"431")):
        fields = answer.lower().partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert fields[0].split()[1] == status
        assert (f"access-control-allow-origin: {origin}".encode() in fields) is is_allowed
        assert (b"vary: origin" in fields) is is_allowed
        exposed = [line for line in fields if line.startswith(b"access-control-expose-headers:")]
        assert [b"retry-after" in line for line in exposed] == [True] * is_allowed


async def test_the_bootstrap_key_is_registered_again_and_again_and_stays_revoked(redis_url: str) -> None:
    for _ in range(2):
        async with running_suite(redis_url) as suite:
            _, _, listed = await suite.json("GET", "/admin/keys?tenant=default", key=ADMIN_KEY)
            (info,) = listed["keys"]
            assert (info["id"], info["name"], info["admin"]) == ("root", "bootstrap", True)
    async with running_suite(redis_url) as suite, suite.call("DELETE", "/admin/keys/root", key=ADMIN_KEY) as answer:
        assert answer.status == 204
    with pytest.raises(AssertionError, match="unauthenticated"):  # the suite makes its own key with it
        async with running_suite(redis_url):
            pass


async def test_a_rotated_bootstrap_key_keeps_its_new_secret(redis_url: str) -> None:
    async with running_suite(redis_url) as suite:
        _, _, rotated = await suite.json("POST", "/admin/keys/root/rotate", key=ADMIN_KEY, json={"overlap_s": 60})
    async with running_suite(redis_url) as suite:
        assert (await suite.json("GET", "/admin/keys", key=rotated["key"]))[0] == 200


@pytest.mark.parametrize(
    "fault", [AuthenticationError("WRONGPASS"), NoPermissionError("NOPERM")], ids=["password", "acl"]
)
async def test_a_redis_that_refuses_the_gateway_is_told_by_the_error_s_class(
    fault: RedisError, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_process, "_RETRY_S", 0.0)

    class Store:
        def __init__(self) -> None:
            self.faults = [fault]
            self.registered = 0

        async def ping(self) -> None:
            if self.faults:
                await ask_redis(self.refuse(self.faults.pop()))

        async def refuse(self, error: RedisError) -> None:
            raise error

        async def register(self, *_: object, **__: object) -> None:
            self.registered += 1

    store = Store()
    await Bootstrap(cast("KeyStore", store), ApiKey("root", "digest")).run()
    assert store.registered == 1
    (record,) = caplog.records
    assert (record.levelname, vars(record)["error"]) == ("WARNING", type(fault).__name__)


def environment(**variables: str) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("ALIGNX_")}
    return {**others, "ALIGNX_INTERNAL_TOKEN": "0123456789abcdef", **variables}


def test_the_process_refuses_a_malformed_bootstrap_key() -> None:
    command = (sys.executable, "-m", "gateway")
    variables = environment(ALIGNX_GATEWAY__BOOTSTRAP_KEY="ax_nonsense")
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("ALIGNX_GATEWAY__BOOTSTRAP_KEY must have the form ax_<id>_<secret>")
    assert "nonsense" not in done.stderr


async def test_the_process_starts_and_ends(redis_url: str) -> None:
    variables = environment(
        ALIGNX_REDIS__URL=redis_url, ALIGNX_SERVER__PORT="0", ALIGNX_GATEWAY__BOOTSTRAP_KEY=ADMIN_KEY
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env=variables, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = b""
    async with asyncio.timeout(20):
        while b"running on" not in line:
            line = await process.stdout.readline()
            assert line.startswith(b"{"), line
        process.send_signal(signal.SIGTERM)
        await process.stdout.read()
        assert await process.wait() in (0, -signal.SIGTERM)
    with Redis.from_url(redis_url) as redis:
        assert redis.hget("gw:key:{root}", "tenant") == b"default"


async def test_background_work_that_loses_a_cancellation_is_cancelled_again() -> None:
    losses: list[str] = []

    async def lose_one() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            losses.append("lost")
        await asyncio.Event().wait()

    async with asyncio.timeout(30):
        async with _running(lose_one()):
            await asyncio.sleep(0)
    assert losses == ["lost"]
