"""The Job that makes Redis's pods a cluster: its own script, on real servers that move to other addresses.

`redis-cli` and `getent` are stand-ins that know where a pod's name leads; the servers are real.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.conftest import free_port, redis_server_path
from tests.containers.manifests import named, pods, rendered
from tests.redis_cluster import SLOTS, until

NODES = range(6)
CLI = """\
#!{python} -IS
import os, socket, sys
folder, arguments = os.path.dirname(__file__), sys.argv[1:]
if arguments[0] == "--cluster":
    open(folder + "/created", "w").write(" ".join(arguments))
    sys.exit()
with socket.create_connection((open(folder + "/" + arguments[1]).read(), {port})) as server:
    server.sendall(f"AUTH {{os.environ['REDISCLI_AUTH']}}\\r\\n{{' '.join(arguments[2:])}}\\r\\nQUIT\\r\\n".encode())
    said = b"".join(iter(lambda: server.recv(65_536), b"")).decode()
_, answer = said.split("\\r\\n", 1)
print(answer.split("\\r\\n", 1)[1] if answer[0] == "$" else answer.split("\\r\\n")[0][1:])
"""
GETENT = '#!/bin/sh\necho "$(cat "$(dirname "$0")/$2")    $2"\n'


class Nodes:
    """Six servers on addresses of the loopback network, and the names under which the Job finds them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.addresses: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        for name, text in {"redis-cli": CLI.format(python=sys.executable, port=self.port), "getent": GETENT}.items():
            (home / name).write_text(text)
            (home / name).chmod(0o755)
        (home / "password").write_text("secret")

    def start(self, network: int) -> None:
        self.addresses = [f"127.0.{network}.{node + 10}" for node in NODES]
        for node, address in zip(NODES, self.addresses, strict=True):
            (self.home / f"redis-{node}.redis-pods").write_text(address)
            folder = self.home / str(node)
            folder.mkdir(exist_ok=True)
            options = (
                f"--port {self.port} --bind {address} --dir {folder} --logfile log --cluster-enabled yes "
                f"--cluster-announce-ip {address} --cluster-node-timeout 1500 --cluster-require-full-coverage no "
                "--requirepass secret --masterauth secret --save"
            )
            self.processes.append(subprocess.Popen([redis_server_path(), *options.split(), ""]))
        until(lambda: all(self.ask(node, "PING") for node in NODES), "all nodes answer")

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)
        self.processes.clear()

    def ask(self, node: int, *command: object) -> Any:
        with Redis(self.addresses[node], self.port, password="secret", decode_responses=True) as client:
            return client.execute_command(*command)

    def state(self, node: int) -> str:
        return str(self.ask(node, "CLUSTER INFO")["cluster_state"])

    def join(self) -> None:
        for place in range(3):
            self.ask(place, "CLUSTER ADDSLOTS", *range(place * SLOTS // 3, (place + 1) * SLOTS // 3))
            self.ask(place, "CLUSTER SET-CONFIG-EPOCH", place + 1)
        for address in self.addresses[1:]:
            self.ask(0, "CLUSTER MEET", address, self.port)
        until(lambda: all(len(self.ask(node, "CLUSTER NODES")) == 6 for node in NODES), "all know all")
        for place in range(3):
            self.ask(place + 3, "CLUSTER REPLICATE", self.ask(place, "CLUSTER MYID"))
        until(lambda: {self.state(node) for node in NODES} == {"ok"}, "the cluster serves")

    def run_job(self) -> None:
        (pod,) = (pod for pod in pods(rendered("production")) if pod.name == "redis-form")
        (container,) = pod.containers
        (script,) = container["args"]
        script = script.replace("/run/secrets/redis/", f"{self.home}/").replace("6379", str(self.port))
        environment = os.environ | {"PATH": f"{self.home}:{os.environ['PATH']}"}
        done = subprocess.run(
            [*container["command"], script], env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def created(self) -> str | None:
        """What `redis-cli --cluster` was told, if it was called."""
        path = self.home / "created"
        return path.read_text() if path.exists() else None


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    running = Nodes(tmp_path)
    try:
        running.start(network=1)
        yield running
    finally:
        running.stop()


def test_nodes_that_know_nobody_are_made_a_cluster(nodes: Nodes) -> None:
    nodes.run_job()
    told = " ".join(f"{address}:{nodes.port}" for address in nodes.addresses)
    assert nodes.created == f"--cluster create {told} --cluster-replicas 1 --cluster-yes"


def test_nodes_that_all_moved_at_once_find_each_other_again(nodes: Nodes) -> None:
    nodes.join()
    nodes.stop()
    nodes.start(network=2)
    until(lambda: {nodes.state(node) for node in NODES} == {"fail"}, "nobody finds the others")
    nodes.run_job()
    assert nodes.created is None
    assert {nodes.state(node) for node in NODES} == {"ok"}
    for node in NODES:
        places = nodes.ask(node, "CLUSTER NODES")
        assert {place.rpartition(":")[0] for place in places} == set(nodes.addresses)
    nodes.run_job()
    assert {nodes.state(node) for node in NODES} == {"ok"}


def test_a_cluster_has_shards_for_more_primaries_and_serves_on_without_one() -> None:
    objects = rendered("production")
    (settings,) = (
        each["data"] for each in objects if each["metadata"]["name"].startswith("alignx-") and "data" in each
    )
    assert int(settings["ALIGNX_QUEUE__SHARDS"]) == 64
    (pod,) = (pod for pod in pods(objects) if pod.name == "redis")
    (conf,) = (each["configMap"]["name"] for each in pod.spec["volumes"] if "configMap" in each)
    assert "cluster-require-full-coverage no" in named(objects, "ConfigMap", conf)["data"]["redis.conf"].splitlines()
