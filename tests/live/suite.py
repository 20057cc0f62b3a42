"""The suite as real processes of this test run: started, killed and started again by name."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from gateway.keys import new_key
from tests.conftest import free_port, redis_server_path, wait_until

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"
SERVICES = ("preference", "worker", "response", "gateway")
MODULES = {
    "preference": "services.preference",
    "worker": "services.preference.worker",
    "response": "services.response",
    "gateway": "gateway",
}
START_S = 120.0


class Suite:
    """Redis, services and gateway on free ports, with data and logs in `home`.

    `settings` are further environment variables, such as ALIGNX_ENGINE__URL; `root` is the checkout that runs.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None, root: Path = ROOT) -> None:
        self.home, self.root = home, root
        self.ports = {name: free_port() for name in ("redis", *SERVICES)}
        self.admin_key = new_key()[0]
        self.metrics_token = secrets.token_urlsafe(24)
        self.url = f"http://127.0.0.1:{self.ports['gateway']}"
        self.redis_url = f"redis://127.0.0.1:{self.ports['redis']}/0"
        self.redis_urls = [self.redis_url]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **os.environ,
            "ALIGNX_INTERNAL_TOKEN": secrets.token_urlsafe(24),
            "ALIGNX_REDIS__URL": self.redis_url,
            "ALIGNX_GATEWAY__PREFERENCE_URL": f"http://127.0.0.1:{self.ports['preference']}",
            "ALIGNX_GATEWAY__RESPONSE_URL": f"http://127.0.0.1:{self.ports['response']}",
            "ALIGNX_GATEWAY__BOOTSTRAP_KEY": self.admin_key,
            "ALIGNX_GATEWAY__METRICS_TOKEN": self.metrics_token,
            "ALIGNX_GATEWAY__RATE": "100000",
            "ALIGNX_GATEWAY__BURST": "100000",
            "ALIGNX_GATEWAY__TENANT_REQUESTS": "4096",  # a test's callers share one key
            "ALIGNX_GATEWAY__TENANT_BULK": "4096",
            "ALIGNX_GATEWAY__SERVICE_REQUESTS": "4096",
            "ALIGNX_GATEWAY__HUNG_AFTER_S": "15",  # among other tests a service is slow, and does not hang
            **(settings or {}),
        }
        if "ALIGNX_ENGINE__URL" in self.environment:  # what is measured at start would be random
            self.environment.setdefault("ALIGNX_ENGINE__CHOOSE", "letters")

    @contextmanager
    def running(self) -> Iterator[Self]:
        try:
            yield self.up()
        finally:
            self.down()

    def up(self) -> Self:
        """Starts everything and waits until the gateway is ready."""
        for name in ("redis", *SERVICES):
            self.start(name)
        self.wait_ready(SERVICES)
        return self

    def start(self, name: str) -> None:
        if name == "redis":
            address = f"--port {self.ports['redis']} --bind 127.0.0.1 --dir {self.home}"
            durable = "--appendonly yes --appendfsync always --save"
            command = [redis_server_path(), *address.split(), *durable.split(), ""]
            environment = dict(os.environ)
        else:
            command = [sys.executable, "-m", MODULES[name.partition("-")[0]]]
            environment = self.environment | {"ALIGNX_SERVER__PORT": str(self.ports[name])}
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=environment, cwd=self.root, stdout=log, stderr=log, restore_signals=name != "redis"
            )

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Ends the process by signal and waits until it is gone."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(60)

    def wait_ready(self, names: Iterable[str]) -> None:
        for name in names:
            self._wait_until_up(name, "readyz")

    def wait_alive(self, name: str) -> None:
        """Waits until a process runs, whether or not what it needs does."""
        self._wait_until_up(name, "livez")

    def _wait_until_up(self, name: str, page: str) -> None:
        url, process = f"http://127.0.0.1:{self.ports[name]}/{page}", self.processes[name]
        wait_until_up(url, process, START_S, lambda: f"{name}: {self.log(name)[-2000:]}")

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def metrics(self, name: str) -> str:
        """What a process exports; only the gateway asks who reads it."""
        url, headers = f"http://127.0.0.1:{self.ports[name]}/metrics", {"Authorization": f"Bearer {self.metrics_token}"}
        answer = httpx.get(url, headers=headers if name == "gateway" else {})
        assert answer.status_code == 200, answer.text
        return answer.text

    def new_key(self, tenant: str, **fields: object) -> str:
        """A fresh API key of `tenant`."""
        body = {"name": "test", "tenant": tenant, **fields}
        answer = httpx.post(f"{self.url}/admin/keys", json=body, headers={"Authorization": f"Bearer {self.admin_key}"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def client(self, tenant: str = "acme") -> httpx.Client:
        """An HTTP client of the gateway with a key of `tenant`."""
        headers = {"Authorization": f"Bearer {self.new_key(tenant)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def tell(self, user: str, *events: Mapping[str, Any] | str, tenant: str = "acme") -> Any:
        """Appends events, of which a text is a statement, and waits until they are part of the summary."""
        said = [{"type": "statement", "text": event} if isinstance(event, str) else event for event in events]
        with self.client(tenant) as client:
            answer = client.post(f"/v1/users/{user}/events", json={"events": said}, headers={"Prefer": "wait=30"})
        assert answer.status_code == 202, answer.text
        return answer.json()

    def admin(self, *arguments: object, code: int = 0) -> str:
        """What `python -m services.admin` says, started as an operator would: it needs to know Redis alone."""
        redis: dict[str, Any] = {key: text for key, text in self.environment.items() if key.startswith("ALIGNX_REDIS")}
        return run(sys.executable, "-m", "services.admin", *arguments, code=code, **redis).stderr

    def down(self) -> None:
        # SIGTERM, so that the processes write their coverage.
        for name in reversed(list(self.processes)):
            self.kill(name, signal.SIGTERM)


def wait_until_up(
    url: str, process: "subprocess.Popen[bytes]", within_s: float = START_S, otherwise: Callable[[], object] = str
) -> None:
    """Waits until the process answers at the address with a success; `otherwise` says what it wrote if it does not."""

    def is_up() -> bool:
        assert process.poll() is None, otherwise()
        try:
            return httpx.get(url, timeout=2).is_success
        except httpx.HTTPError:
            return False

    wait_until(is_up, within_s, otherwise)


def run(
    *command: object, code: int | None = 0, folder: Path = ROOT, timeout_s: float = 120, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """What a program printed that has ended with `code`, or with any where that is None."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    assert code in (None, done.returncode), done.stdout[-3000:] + done.stderr[-3000:]
    return done


def day_and_commit() -> str:
    """When and of what a page of results is."""
    return f"{time.strftime('%Y-%m-%d')}, commit {run('git', 'rev-parse', '--short', 'HEAD').stdout.strip()}"


@contextmanager
def mock_engine(home: Path, behaviour: str = "steady", *, module: str = "tests.chaos.mock_engine") -> Iterator[str]:
    """The address of a mock engine in a process of its own, with its log in `home`; a seed as `behaviour` has it
    fail now and then."""
    port = free_port()
    command = [sys.executable, "-m", module, str(port), behaviour]
    with (home / "engine.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/health", process, otherwise=(home / "engine.log").read_text)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def talking(home: Path) -> Iterator[Suite]:
    """The suite in front of an engine that calls tools (clients/tool_engine.py)."""
    with (
        mock_engine(home, module="tests.live.clients.tool_engine") as url,
        Suite(home, {"ALIGNX_ENGINE__URL": f"{url}/v1", "ALIGNX_ENGINE__MODEL": "mock"}).running() as suite,
    ):
        yield suite
