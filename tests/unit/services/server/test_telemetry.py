"""Logs, metrics and the request id: what they tell, and that they never tell a user's words."""

import asyncio
import io
import logging
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alignx import __version__
from alignx.schemas.summaries import TokenCounts
from services.engine.limits import EngineCall, EngineMetrics
from services.server.logging import ARRIVED, JsonFormatter, configure_logging
from services.server.metrics import HttpMetrics, RequestTelemetry, create_registry

CANARY = "a canary of the user's"


class Log:
    """What the process has written."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    written = Log()
    handler = logging.StreamHandler(written.stream)
    handler.setFormatter(JsonFormatter("test"))
    logger = logging.getLogger("alignx")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield written
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Server:
    """The middleware around `app`, with its own registry."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.scope: Scope = {}

        def on_crash(_: Scope, error: Exception) -> ASGIApp:
            return PlainTextResponse(type(error).__name__, 500)

        self.app = RequestTelemetry(app, metrics=HttpMetrics(self.registry), on_crash=on_crash, **options)

    async def messages(self, headers: Sequence[tuple[bytes, bytes]] = ()) -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        self.scope = {"type": "http", "method": "GET", "path": f"/v1/users/{CANARY}", "headers": list(headers)}
        await self.app(self.scope, receive, send)
        return sent

    def get(self, **headers: bytes) -> Answer:
        named = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
        start, *body = asyncio.run(self.messages(named))
        return Answer(start["status"], dict(start["headers"]), b"".join(part["body"] for part in body))

    def count(self, route: str, status: int) -> float | None:
        labels = {"method": "GET", "route": route, "status": str(status)}
        return self.registry.get_sample_value("alignx_http_requests_total", labels)


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    scope["route"] = SimpleNamespace(path="/v1/users/{user}")
    logging.getLogger("alignx.test").info("inside")
    await PlainTextResponse("fine")(scope, receive, send)


async def crashing(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError(CANARY)


# --- log lines ---------------------------------------------------------------------------------


def test_a_line_is_an_object_with_its_extra_fields(log: Log) -> None:
    logging.getLogger("alignx.x").warning("%d waiting", 3, extra={"shard": 7, "path": object})
    (line,) = log.lines
    assert line["time"].endswith("+00:00")
    fields = {"level": "WARNING", "service": "test", "logger": "alignx.x", "message": "3 waiting", "shard": 7}
    assert (fields | {"path": "<class 'object'>"}).items() <= line.items()
    assert "request_id" not in line


def test_an_exception_is_its_class_and_frames_and_never_its_message(log: Log) -> None:
    def broken() -> None:
        raise ValueError(CANARY) from KeyError(CANARY)

    try:
        broken()
    except ValueError:
        logging.getLogger("alignx.x").exception("failed")
    (line,) = log.lines
    assert (line["exception"], line["level"]) == ("ValueError", "ERROR")
    assert [frame.split()[-1] for frame in line["trace"]] == [
        "test_an_exception_is_its_class_and_frames_and_never_its_message",
        "broken",
    ]
    assert "canary" not in log.text


def test_every_logger_of_the_process_writes_json_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    try:
        configure_logging("gateway", "WARNING")
        for name in ("uvicorn.error", "uvicorn.access", "third.party"):
            logging.getLogger(name).warning("hello")
            logging.getLogger(name).info("too quiet")
        lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
    assert [(line["service"], line["logger"]) for line in lines] == [
        ("gateway", "uvicorn.error"),
        ("gateway", "third.party"),
    ]


# --- the request id ----------------------------------------------------------------------------


def test_a_callers_request_id_is_kept_in_answer_log_and_state(log: Log) -> None:
    server = Server(fine)
    assert server.get(x_request_id=b"from-the.caller_1").headers[b"x-request-id"] == b"from-the.caller_1"
    assert server.scope["state"]["request_id"] == "from-the.caller_1"
    assert [(line["message"], line["request_id"]) for line in log.lines] == [
        ("inside", "from-the.caller_1"),
        ("request", "from-the.caller_1"),
    ]
    logging.getLogger("alignx.x").info("after")
    assert "request_id" not in log.lines[-1]


@pytest.mark.parametrize("value", [b"", b"a b", b"x" * 129, "ä".encode(), b"a\nb", b'"'])
def test_a_request_id_that_is_not_valid_is_replaced(value: bytes) -> None:
    first, second = (Server(fine).get(x_request_id=value).headers[b"x-request-id"] for _ in range(2))
    assert all(len(request_id) == 32 and request_id.isalnum() for request_id in (first, second))
    assert first != second


# --- the access line and the metrics -----------------------------------------------------------


def test_a_request_is_counted_and_logged_by_its_route_template(log: Log) -> None:
    server = Server(fine)
    assert server.get().status == 200
    line = log.lines[-1]
    fields = {"message": "request", "method": "GET", "route": "/v1/users/{user}", "status": 200}
    assert fields.items() <= line.items()
    assert line["ms"] >= 0
    assert server.count("/v1/users/{user}", 200) == 1
    seconds = {"method": "GET", "route": "/v1/users/{user}"}
    assert server.registry.get_sample_value("alignx_http_request_duration_seconds_count", seconds) == 1
    assert server.registry.get_sample_value("alignx_http_requests_in_flight") == 0
    assert "canary" not in log.text + generate_latest(server.registry).decode()


def test_a_path_without_a_route_is_unmatched_and_the_access_line_can_be_off(log: Log) -> None:
    server = Server(PlainTextResponse("?", 404), access_log=False)
    server.get()
    assert server.count("unmatched", 404) == 1
    assert log.lines == []


# --- when it goes wrong ------------------------------------------------------------------------


def test_a_crash_is_answered_and_logged_without_its_words(log: Log) -> None:
    server = Server(crashing)
    answer = server.get(x_request_id=b"r1")
    assert (answer.status, answer.body, answer.headers[b"x-request-id"]) == (500, b"ValueError", b"r1")
    failed, request = log.lines
    assert (failed["message"], failed["exception"], failed["request_id"]) == ("request failed", "ValueError", "r1")
    assert request["status"] == 500
    assert server.count("unmatched", 500) == 1
    assert "canary" not in log.text


def test_a_crash_in_the_middle_of_an_answer_breaks_it_off(log: Log) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError(CANARY)

    server = Server(app)
    with pytest.raises(ValueError, match="canary"):
        server.get()
    assert (log.lines[0]["exception"], log.lines[1]["status"]) == ("ValueError", 200)
    assert "canary" not in log.text


@pytest.mark.anyio
async def test_a_caller_who_leaves_is_counted_as_499(log: Log) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(30)

    server = Server(silent)
    call = asyncio.create_task(server.messages())
    await asyncio.sleep(0)
    assert server.registry.get_sample_value("alignx_http_requests_in_flight") == 1
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert server.count("unmatched", 499) == 1
    assert server.registry.get_sample_value("alignx_http_requests_in_flight") == 0
    assert [line["status"] for line in log.lines] == [499]


# --- the engine's metrics ----------------------------------------------------------------------


def test_a_call_to_the_engine_is_measured() -> None:
    registry = CollectorRegistry()
    metrics = EngineMetrics(registry)
    metrics.observe(EngineCall("stream", "ok", 2.0, 0.5, TokenCounts(prompt=9, completion=3, cached=4)))
    metrics.observe(EngineCall("stream", "unavailable", 0.1, None, TokenCounts()))
    sample = registry.get_sample_value
    assert sample("alignx_engine_calls_total", {"kind": "stream", "outcome": "ok"}) == 1
    assert sample("alignx_engine_calls_total", {"kind": "stream", "outcome": "unavailable"}) == 1
    assert sample("alignx_engine_call_duration_seconds_sum", {"kind": "stream"}) == 2.1
    assert sample("alignx_engine_time_to_first_token_seconds_count", {"kind": "stream"}) == 1
    for token, count in (("prompt", 9), ("completion", 3), ("cached", 4)):
        assert sample("alignx_engine_tokens_total", {"kind": "stream", "token": token}) == count


@pytest.mark.parametrize(
    ("listed", "tenant", "label"), [(("acme", "shop"), "shop", "shop"), (("acme",), "shop", "other"), ((), "", "other")]
)
def test_tokens_are_counted_for_listed_tenants_alone(listed: tuple[str, ...], tenant: str, label: str) -> None:
    registry = CollectorRegistry()
    tokens = TokenCounts(prompt=9, completion=3, cached=4)
    EngineMetrics(registry, listed).observe(EngineCall("stream", "ok", 2.0, 0.5, tokens, tenant))
    samples = next(family for family in registry.collect() if family.name == "alignx_tenant_tokens").samples
    counted = {tuple(sample.labels.values()): sample.value for sample in samples if sample.name.endswith("_total")}
    assert counted == {(label, "prompt"): 9, (label, "completion"): 3, (label, "cached"): 4}


def test_a_registry_holds_the_figures_of_the_process_and_what_it_is() -> None:
    text = generate_latest(create_registry("test")).decode()
    assert "process_resident_memory_bytes" in text
    assert f'alignx_build_info{{service="test",version="{__version__}"}} 1.0' in text


# --- traces ------------------------------------------------------------------------------------


def test_the_callers_trace_is_current_in_logs_and_gone_afterwards(log: Log) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    server = Server(fine)
    server.get(traceparent=f"00-{trace}-00f067aa0ba902b7-01".encode())
    server.get(traceparent=b"nonsense")
    server.get()
    assert [line.get("trace_id") for line in log.lines] == [trace, trace, None, None, None, None]


def test_when_a_request_came_is_known_within_it() -> None:
    async def arrived(scope: Scope, receive: Receive, send: Send) -> None:
        times.append(ARRIVED.get())
        await PlainTextResponse("fine")(scope, receive, send)

    times: list[float] = []
    before = time.perf_counter()
    Server(arrived).get()
    assert before <= times[0] <= time.perf_counter()
    assert ARRIVED.get() == 0.0
