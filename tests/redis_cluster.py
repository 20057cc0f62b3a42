"""A Redis Cluster of plain redis-server processes, for the tests: started, killed and started again.

Each primary keeps an append-only file that is written before a command is answered, and the slots
it was given at the first start. `by_hand` builds the cluster by commands, as redis-cli would.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.conftest import free_port, redis_server_path, wait_until

SLOTS = 16_384
_READY_S = 120.0


class ClusterServers:
    """`primaries` nodes that share the slots evenly, and as many replicas as asked for.

    A node that is silent for `silence_ms` counts as failed: short where a test kills one, long where none does and a
    busy disk may hold one up.
    """

    def __init__(self, home: Path, primaries: int = 3, replicas: int = 0, *, silence_ms: int = 60_000) -> None:
        self.home = home
        self.silence_ms = silence_ms
        self.primaries = primaries
        self.ports = [free_port() for _ in range(primaries + replicas)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """All nodes, for ALIGNX_REDIS__URL."""
        return "redis://" + ",".join(f"127.0.0.1:{port}" for port in self.ports) + "/0"

    @property
    def node_urls(self) -> list[str]:
        return [f"redis://127.0.0.1:{port}/0" for port in self.ports]

    def up(self) -> "ClusterServers":
        for place in range(len(self.ports)):
            self.start(place)
        self._by_hand()
        return self

    def start(self, place: int) -> None:
        port = self.ports[place]
        folder = self.home / f"node-{place}"
        folder.mkdir(exist_ok=True)
        options = (
            f"--port {port} --bind 127.0.0.1 --dir {folder} --logfile log --appendonly yes --appendfsync always "
            f"--cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout {self.silence_ms} "
            "--cluster-require-full-coverage no --repl-diskless-sync-delay 0 --save"
        )
        command = [redis_server_path(), *options.split(), ""]
        self.processes[place] = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL)
        until(lambda: self._info(place), f"node {place} answers")

    def kill(self, place: int, number: int = signal.SIGKILL) -> None:
        process = self.processes.pop(place)
        process.send_signal(number)
        process.wait(30)

    def down(self) -> None:
        for place in tuple(self.processes):
            self.kill(place, signal.SIGTERM)

    @contextmanager
    def running(self) -> "Iterator[ClusterServers]":
        try:
            yield self.up()
        finally:
            self.down()

    def made_empty(self) -> "ClusterServers":
        """All primaries, up again and without a key."""
        for place in set(range(self.primaries)) - set(self.processes):
            self.start(place)
        self.wait_ok()
        for place in range(self.primaries):
            with self.node(place) as node:
                node.flushall()
        return self

    def wait_ok(self) -> None:
        """Until every node that runs sees a cluster that serves."""
        until(lambda: all(self._info(place)["cluster_state"] == "ok" for place in self.processes), "the cluster serves")

    @contextmanager
    def node(self, place: int) -> Iterator[Any]:
        with Redis(port=self.ports[place], decode_responses=True) as client:
            yield client

    def holder(self, key: str) -> int:
        """The place of the primary that holds `key`."""
        with self.node(0) as first:
            slot = int(first.execute_command("CLUSTER KEYSLOT", key))
        return min(slot * self.primaries // SLOTS, self.primaries - 1)

    def move(self, keys: Sequence[str], old: int, new: int) -> None:
        """Gives the slot of `keys`, which are all it holds, from one primary to another."""
        with self.node(old) as source, self.node(new) as target:
            slot = source.execute_command("CLUSTER KEYSLOT", keys[0])
            source_id, target_id = source.execute_command("CLUSTER MYID"), target.execute_command("CLUSTER MYID")
            target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
            source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
            for key in keys:
                source.execute_command("MIGRATE", "127.0.0.1", self.ports[new], key, 0, 30_000)
            for node in (target, source):
                node.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)

    def _by_hand(self) -> None:
        bounds = [place * SLOTS // self.primaries for place in range(self.primaries + 1)]
        for place in range(self.primaries):
            with self.node(place) as node:
                node.execute_command("CLUSTER ADDSLOTS", *range(bounds[place], bounds[place + 1]))
                node.execute_command("CLUSTER SET-CONFIG-EPOCH", place + 1)
        for port in self.ports[1:]:
            with self.node(0) as first:
                first.execute_command("CLUSTER MEET", "127.0.0.1", port)
        until(self._all_know_all, "the nodes know each other")
        for place in range(self.primaries, len(self.ports)):
            with self.node(place - self.primaries) as primary, self.node(place) as replica:
                replica.execute_command("CLUSTER REPLICATE", primary.execute_command("CLUSTER MYID"))
            until(partial(self._has_copied, place), "the replica has its primary's data")
        self.wait_ok()

    def _all_know_all(self) -> bool:
        return all(int(self._info(place)["cluster_known_nodes"]) == len(self.ports) for place in self.processes)

    def _info(self, place: int) -> dict[str, str]:
        with self.node(place) as node:
            found = node.execute_command("CLUSTER INFO")
        if isinstance(found, dict):
            return found
        return dict(line.split(":", 1) for line in str(found).split() if ":" in line)

    def _has_copied(self, place: int) -> bool:
        with self.node(place) as node:
            return bool(node.info("replication").get("master_link_status") == "up")


def until(holds: Callable[[], object], what: str) -> None:
    """A server that does not answer (yet) holds nothing."""

    def holds_now() -> object:
        try:
            return holds()
        except RedisError:
            return False

    wait_until(holds_now, _READY_S, f"not after {_READY_S:.0f} s: {what}")
