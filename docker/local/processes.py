"""The suite's processes on this machine: supervisord, what it runs, what outlived it, and when they are ready."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]

from docker.local.engine import RefusedError
from docker.local.environment import OFFSETS

LOCAL_HTTP = httpx.Client(timeout=5, trust_env=False)
"""Asks this machine, whatever proxy the environment names for others."""

CONFIG = Path(__file__).with_name("supervisord.conf")
SOCKET_BYTES = 95
"""A socket's path has at most 103 bytes on every system; supervisord adds its process id at first."""
ENGINE_START_S = 600
SUITE_START_S = 180
GIVE_UP_S = 60
"""How long a service may end and be started again, and how long a stop may take; a service that only is slow, on a busy
machine, has longer."""


def supervise(environment: Mapping[str, str]) -> None:
    supervisord = Path(sys.executable).with_name("supervisord")
    subprocess.run([str(supervisord), "-c", str(CONFIG)], env=environment, check=True)


def control(home: Path, *arguments: str) -> str:
    """What supervisorctl prints. It needs no configuration, only the socket."""
    command = [str(Path(sys.executable).with_name("supervisorctl")), "-s", f"unix://{_socket(home)}", *arguments]
    return subprocess.run(command, text=True, check=False, stdout=subprocess.PIPE).stdout


def stop(home: Path) -> None:
    """Waits for the programs as well: vLLM's own processes end some seconds after supervisord's child."""
    control(home, "shutdown")
    deadline = time.monotonic() + GIVE_UP_S
    while (is_running(home) or list_orphans(home)) and time.monotonic() < deadline:
        time.sleep(0.2)


def is_running(home: Path) -> bool:
    if not Path(_socket(home)).exists():
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(_socket(home)) == 0


def list_orphans(home: Path) -> dict[int, str]:
    """Programs of this home that outlived their supervisord, by process id."""
    orphans = {}
    for process in psutil.process_iter(["environ", "name", "cwd"]):
        environment = process.info["environ"] or {}  # null for other people's processes
        is_redis = (process.info["name"] or "").startswith(("redis", "valkey"))
        if environment.get("ALIGNX_HOME") == str(home) and "SUPERVISOR_PROCESS_NAME" in environment:
            orphans[process.pid] = environment["SUPERVISOR_PROCESS_NAME"]
        elif is_redis and process.info["cwd"] == str(home / "redis"):
            orphans[process.pid] = "redis"  # writes its title over its environment
    return orphans


def render_orphans(orphans: Mapping[int, str]) -> str:
    names = ", ".join(f"{name} ({pid})" for pid, name in orphans.items())
    return (
        f"supervisord is gone, but processes of an earlier suite still run and answer on its ports: {names}. "
        f"End them with: kill {' '.join(map(str, orphans))}"
    )


def check_ports(home: Path, port: int, engine: str) -> None:
    """Raises RefusedError where something listens on a port of the suite."""
    for name, offset in OFFSETS.items():
        if name == "engine" and engine != "vllm-cpu":
            continue
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port + offset)) == 0:
                orphans = list_orphans(home)
                advice = render_orphans(orphans) if orphans else f"Choose others: make up PORT={port + 100}"
                raise RefusedError(f"Port {port + offset}, meant for {name}, is taken. {advice}")


def check_socket_path(home: Path) -> None:
    """Raises RefusedError where the socket's path is longer than a system allows."""
    if (size := len(os.fsencode(_socket(home)))) > SOCKET_BYTES:
        raise RefusedError(
            f"The folder {home} has too long a path: the socket in it may have {SOCKET_BYTES} bytes, it has {size}. "
            "Choose a shorter one: make up DATA=~/alignx"
        )


def _socket(home: Path) -> str:
    return str(home / "supervisor.sock")


def wait_ready(home: Path, environment: Mapping[str, str], show: Callable[[str], None]) -> None:
    """Waits for each service in turn and shows which. Raises RefusedError where one gives up or takes too long."""
    began = time.monotonic()
    for name in ("PREFERENCE", "RESPONSE", "WORKER", "GATEWAY"):
        pids: set[str] = set()
        url = f"http://127.0.0.1:{environment[f'ALIGNX_{name}_PORT']}/readyz"
        show(url)
        while not _answers(url):
            waited = time.monotonic() - began
            ends = waited > GIVE_UP_S and has_ended(control(home, "status", name.lower()), pids)
            if ends or waited > SUITE_START_S:
                raise RefusedError(
                    f"{url} is not ready after {waited:.0f} s. The logs are in {home / 'log'}.\n"
                    f"{control(home, 'status')}"
                )
            time.sleep(0.2)


def wait_engine(home: Path, port: int) -> None:
    """Raises RefusedError where vLLM or the suite ends, or vLLM takes too long."""
    deadline = time.monotonic() + ENGINE_START_S
    pids: set[str] = set()
    while not is_engine_warm(port):
        if not is_running(home) or has_ended(control(home, "status", "engine"), pids):
            raise RefusedError(f"vLLM ended while it started. Its log: {home / 'log' / 'engine.log'}")
        if time.monotonic() > deadline:
            raise RefusedError(f"vLLM is not ready after {ENGINE_START_S} s. Its log: {home / 'log' / 'engine.log'}")
        time.sleep(0.5)


def is_engine_warm(port: int) -> bool:
    """Whether vLLM answers; `port` is the gateway's."""
    return _answers(f"http://127.0.0.1:{port + OFFSETS['engine']}/health")


def has_ended(status: str, pids: set[str]) -> bool:
    """Whether a program ended since the first look, by supervisorctl's words on it; `pids` collects its process ids."""
    pids.update(re.findall(r" pid (\d+)", status))
    return len(pids) > 1 or any(state in status for state in (" BACKOFF ", " FATAL ", " EXITED "))


def _answers(url: str) -> bool:
    try:
        return LOCAL_HTTP.get(url).status_code == 200
    except httpx.HTTPError:
        return False
