"""The suite in real containers: built, started, used from outside, killed one by one, removed.

    tests/containers/run.sh            # or make test-containers

docker-compose.yml is used as it is; what differs here are its variables. With BASE_IMAGE every image
is built from that one, Prometheus too, and Grafana is left out, because its image cannot be built.
"""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from docs.code_blocks import find_blocks
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]
SECRETS = ROOT / "docker" / "secrets"
COMPOSE = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
TAG = "test"
BUILT = ["redis", "gateway", "preference", "worker", "response", "engine"]
START_S, RECOVER_S = 600.0, 480.0
"""Bounds for a machine that also runs other tests; vLLM alone takes minutes to start on it."""
QUERY = "Discuss candles for me."
FORMAL = "Experts may state: candles seems just a handy trick."
CASUAL = "Haha friend, sure! candles is really a fun thing."


class Containers:
    """The project under a name, ports and image tags of this run's own."""

    def __init__(self, wheels: str) -> None:
        self.ports = {name: free_port() for name in ("gateway", "prometheus", "grafana")}
        self.url = f"http://127.0.0.1:{self.ports['gateway']}"
        base = os.environ.get("BASE_IMAGE")
        local = {"REDIS_IMAGE": base, "PROMETHEUS_IMAGE": f"alignx/prometheus:{TAG}", "BUILD_NETWORK": "host"}
        # docker-compose 1.29 is Python: on a path with this checkout it would import the folder docker/.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment = {
            **inherited,
            **(local if base else {}),
            "COMPOSE_PROJECT_NAME": f"alignx-test-{os.getpid()}",
            "COMPOSE_PROFILES": "cpu",
            "ENGINE_URL": "http://engine:8100/v1",
            "SUMMARY_ENGINE_URL": "http://summary-engine:8100/v1",
            "ENGINE_CHOOSE": "likelihood",
            "IMAGE_TAG": TAG,
            "PIP_FIND_LINKS": wheels,
            **{f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
        }
        self.services = [*BUILT, "prometheus", *([] if base else ["grafana"])]
        self.base = base

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*COMPOSE, *arguments], cwd=ROOT, env=self.environment, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {(done.stdout + done.stderr)[-4000:]}"
        return done.stdout

    def build(self) -> None:
        self.run("build", *BUILT)
        if self.base:
            name, file = str(self.environment["PROMETHEUS_IMAGE"]), "docker/prometheus.Dockerfile"
            docker("build", "--network=host", f"--build-arg=BASE_IMAGE={self.base}", "-f", file, "-t", name, ".")

    def ids(self, service: str) -> list[str]:
        return self.run("ps", "-q", service).split()

    def state(self, service: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(docker("inspect", self.ids(service)[0]))[0]
        return state

    def healthy(self) -> bool:
        """Whether every container of the project says so of itself."""
        states = [docker("inspect", "-f", "{{.State.Health.Status}}", *self.ids(name)) for name in self.services]
        return all(set(state.split()) == {"healthy"} for state in states)

    def logs(self) -> str:
        return self.run("logs", "--no-color", "--tail=40")

    def new_key(self) -> str:
        admin = (SECRETS / "ALIGNX_GATEWAY__BOOTSTRAP_KEY").read_text()
        body = {"name": "test", "tenant": "acme"}
        answer = httpx.post(f"{self.url}/admin/keys", json=body, headers={"Authorization": f"Bearer {admin}"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {(done.stdout + done.stderr)[-4000:]}"
    return done.stdout


def wait_until(holds: Callable[[], bool], limit_s: float, what: str, explain: Callable[[], str]) -> float:
    """Seconds that it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < limit_s, f"{what}: {explain()}"
        time.sleep(0.5)
    return time.monotonic() - started


def say(line: str) -> None:
    print(f"   {line}", flush=True)  # noqa: T201 - a long test tells where it is


@pytest.fixture(scope="module")
def wheels() -> Iterator[str]:
    """Where builds find wheels that this machine keeps in a folder: pip's own setting, served to them."""
    folder = os.environ.get("PIP_FIND_LINKS", "")
    if not folder or not Path(folder).is_dir():
        yield folder
        return
    handler = functools.partial(QuietFiles, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is the base class's
        pass


@pytest.fixture(scope="module")
def containers(wheels: str) -> Iterator[Containers]:
    """Built, up and healthy; removed with volumes, networks and images at the end."""
    subprocess.run([ROOT / "docker" / "secrets.sh"], check=True)
    suite = Containers(wheels)
    if "grafana" not in suite.services:
        say("BASE_IMAGE is set, so Grafana is NOT started: its image cannot be built. All else is.")
    started = time.monotonic()
    suite.build()
    say(f"images built in {time.monotonic() - started:.0f} s")
    try:
        suite.run("up", "-d", *suite.services)
        took = wait_until(suite.healthy, START_S, "not healthy", suite.logs)
        say(f"all healthy after {took:.0f} s more")
        yield suite
    finally:
        suite.run("down", "-v", "--timeout", "60")
        project = f"label=com.docker.compose.project={suite.environment['COMPOSE_PROJECT_NAME']}"
        assert docker("ps", "-aq", "--filter", project) == ""


@pytest.fixture(scope="module")
def client(containers: Containers) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {containers.new_key()}"}
    with httpx.Client(base_url=containers.url, headers=headers, timeout=60) as client:
        yield client


def comparison() -> dict[str, str]:
    return {"type": "comparison", "query": QUERY, "chosen": FORMAL, "rejected": CASUAL}


def test_the_main_job_from_outside(client: httpx.Client) -> None:
    answer = client.post("/v1/users/ada/events", json={"events": [comparison()]}, headers={"Prefer": "wait=30"})
    assert answer.status_code == 202, answer.text

    def summary() -> dict[str, Any]:
        document: dict[str, Any] = client.get("/v1/users/ada/preferences").json()
        return document

    # A draft may be refused, and is asked for again.
    wait_until(lambda: summary()["source"] == "llm:alignx-small", RECOVER_S, "no summary", lambda: str(summary()))
    assert summary()["text"]
    picked = client.post("/v1/users/ada/select", json={"query": QUERY, "items": [FORMAL, CASUAL], "method": "engine"})
    assert picked.status_code == 200, picked.text
    assert picked.json()["method"] == "engine"  # which, the small model does not know
    chat = {"user": "ada", "messages": [{"role": "user", "content": QUERY}], "max_tokens": 24}
    answer = client.post("/v1/chat/completions", json=chat)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["X-AlignX-Summary-Version"] == str(summary()["version"])


def test_containers_are_as_locked_down_as_they_say(containers: Containers) -> None:
    published = {}
    for service in containers.services:
        state = containers.state(service)
        host = state["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert state["Config"]["User"].split(":")[0] not in ("", "0", "root"), service
        assert state["RestartCount"] == 0, service
        ports = (state["NetworkSettings"]["Ports"] or {}).values()
        published[service] = {binding["HostIp"] for bindings in ports for binding in bindings or ()}
    assert {name for name, hosts in published.items() if hosts} >= {"gateway", "prometheus"}
    assert set().union(*published.values()) == {"127.0.0.1"}
    inside = docker(
        "exec", containers.ids("worker")[0], "python", "-c", "import os; print(os.getuid(), dict(os.environ))"
    )
    assert inside.startswith("10001 ")
    for path in SECRETS.iterdir():
        assert path.read_text() not in inside, "secrets come by files, never by the environment"


def test_what_is_internal_leaves_its_network_not_even_for_the_next(containers: Containers) -> None:
    networks = containers.state("gateway")["NetworkSettings"]["Networks"]
    (address,) = (network["IPAddress"] for name, network in networks.items() if name.endswith("_front"))
    connect = f"import socket; socket.create_connection(('{address}', 8080), 3)"

    def reaches(name: str) -> bool:
        command = ["docker", "exec", containers.ids(name)[0], "python", "-c", connect]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    services = set(BUILT) - {"redis"}  # which has no Python
    assert {name for name in services if reaches(name)} == {"gateway"}, "it alone is on that network"


def test_prometheus_sees_every_process(containers: Containers) -> None:
    def up() -> set[str]:
        url = f"http://127.0.0.1:{containers.ports['prometheus']}/api/v1/query"
        result = httpx.get(url, params={"query": "up == 1"}).json()["data"]["result"]
        return {series["metric"]["job"] for series in result}

    jobs = {"gateway", "preference", "worker", "response", "engine", "prometheus"}
    wait_until(lambda: jobs <= up(), 60, "targets are missing", lambda: str(up()))


def test_the_commands_of_the_page_write_a_backup_and_read_it(
    containers: Containers, client: httpx.Client, tmp_path: Path
) -> None:
    accepted = client.post("/v1/users/kept/events", json={"events": [comparison()]})
    assert accepted.status_code == 202, accepted.text
    blocks = [block.text for block in find_blocks(ROOT / "docs" / "how-to" / "backup.md")]
    (block,) = (text for text in blocks if "docker compose" in text)
    assert block.count("docker compose") == 2
    script = block.replace("docker compose", " ".join(COMPOSE))
    script = script.replace("/all.alignx.gz\n", "/all.alignx.gz --keep-existing\n")
    assert "--keep-existing" in script
    environment = containers.environment | {"COMPOSE_FILE": str(ROOT / "docker-compose.yml")}
    command = ["sh", "-ec", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left as they are" in done.stdout + done.stderr
    (written,) = tmp_path.iterdir()
    assert written.stat().st_mode & 0o777 == 0o600


class Sender(threading.Thread):
    """A user's client that repeats each call until it is accepted."""

    def __init__(self, client: httpx.Client, user: str, events: int) -> None:
        super().__init__()
        self.client, self.path, self.events = client, f"/v1/users/{user}/events", events
        self.sent: list[str] = []
        self.refused = 0

    def run(self) -> None:
        for number in range(self.events):
            text = f"I wrote marker {number}."
            while not self._accepted(number, text):
                self.refused += 1
                time.sleep(0.2)
            self.sent.append(text)
            time.sleep(0.1)

    def _accepted(self, number: int, text: str) -> bool:
        body = {"events": [{"type": "post", "text": text}]}
        headers = {"Idempotency-Key": f"{self.path}-{number}"}
        try:
            answer = self.client.post(self.path, json=body, headers=headers, timeout=10)
        except httpx.HTTPError:
            return False
        assert answer.status_code in (202, 409, 500, 502, 503, 504), answer.text
        return answer.status_code == 202


@pytest.mark.parametrize("victim", BUILT)
def test_a_kill_loses_nothing(containers: Containers, client: httpx.Client, victim: str) -> None:
    user = f"killed-{victim}"
    sender = Sender(client, user, 60)
    sender.start()
    wait_until(lambda: len(sender.sent) >= 5, 30, "nothing is accepted", containers.logs)
    docker("kill", *containers.ids(victim))
    time.sleep(1)
    containers.run("up", "-d", "--no-recreate", *containers.services)
    took = wait_until(containers.healthy, RECOVER_S, f"not healthy after {victim} was killed", containers.logs)
    sender.join(120)
    assert len(sender.sent) == 60

    def settled() -> bool:
        """All is in a summary, tells too little for one, or the checks refused what the small model made of it."""
        state, rejected = (client.get(f"/v1/users/{user}/preferences{path}") for path in ("", "/rejected"))
        refused = [answer for answer in (state, rejected) if answer.status_code != 200]
        if refused:  # a suite that two builds share a machine with may shed a call: it asks to come again
            assert all(answer.status_code in (429, 503) for answer in refused), [answer.text for answer in refused]
            return False
        current = state.json()
        return current["pending"] == 0 or current.get("waiting_for") == "cadence" or bool(rejected.json()["drafts"])

    wait_until(settled, RECOVER_S, "updates are missing", containers.logs)
    page = client.get(f"/v1/users/{user}/events", params={"limit": 100}).json()
    stored = re.findall(r"I wrote marker \d+\.", json.dumps(page))
    assert sorted(stored) == sorted(sender.sent), "each event once"
    say(f"{victim} killed: healthy again after {took:.0f} s, {sender.refused} calls repeated, 60 of 60 events kept")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may end a container's process from outside")
def test_a_crash_is_restarted_by_the_engine_of_containers(containers: Containers) -> None:
    before = containers.state("worker")
    os.kill(before["State"]["Pid"], 9)
    wait_until(lambda: containers.state("worker")["RestartCount"] == 1, 60, "not restarted", containers.logs)
    wait_until(containers.healthy, RECOVER_S, "not healthy after a crash", containers.logs)


def test_more_workers_by_a_number(containers: Containers) -> None:
    containers.run("up", "-d", "--no-recreate", "--scale", "worker=2", *containers.services)
    wait_until(containers.healthy, RECOVER_S, "not healthy with two workers", containers.logs)
    assert len(containers.ids("worker")) == 2


def test_a_stop_reaches_the_process(containers: Containers) -> None:
    containers.run("stop", "gateway", "worker", "preference", "response", "redis", "engine")
    codes = {name: containers.state(name)["State"]["ExitCode"] for name in BUILT}
    assert codes == dict.fromkeys(BUILT, 0), "137 would say that the process was killed at the end of its grace"
