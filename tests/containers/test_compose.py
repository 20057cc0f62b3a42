"""The container files as far as they can be read without an engine; containers.py runs them."""

import os
import re
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.keys import parse_key
from tests.containers.exported import PORTS, known_variables

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """docker-compose.yml with its anchors merged and its variables as written."""
    file: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return file


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def test_every_container_is_locked_down(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert not {"privileged", "network_mode", "pid", "cap_add", "container_name"} & service.keys(), name


def test_nothing_is_published_but_to_this_machine(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published.keys() == {"gateway", "prometheus", "grafana"}
    assert published.pop("gateway") == ["${GATEWAY_BIND:-127.0.0.1}:${GATEWAY_PORT:-8080}:8080"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert compose["networks"]["back"]["internal"] is True
    reached = {name for name, service in compose["services"].items() if {"front", "watch"} & set(service["networks"])}
    assert reached == {"gateway", "prometheus", "grafana"}


def test_a_container_has_longer_than_its_drain(compose: dict[str, Any]) -> None:
    for name in PORTS:
        service = compose["services"][name]
        times = [float(service["environment"][f"ALIGNX_SERVER__{name}"]) for name in ("DRAIN_S", "SHUTDOWN_S")]
        assert seconds(service["stop_grace_period"]) > sum(times), name
    for name, service in compose["services"].items():
        if name.endswith(("engine", "engine-gpu")):
            assert seconds(service["stop_grace_period"]) > 30, name


def test_an_engine_has_time_to_start(compose: dict[str, Any]) -> None:
    written = (DOCKER / "engine-cpu.Dockerfile").read_text()
    assert "healthcheck" not in compose["services"]["engine"]
    starts = [*re.findall(r"--start-period=(\d+)s", written)]
    starts += [
        service["healthcheck"]["start_period"].removesuffix("s")
        for name, service in compose["services"].items()
        if name.endswith("engine-gpu")
    ]
    assert len(starts) == 3
    assert all(int(start) >= 300 for start in starts)


def test_no_engine_starts_and_none_is_asked_unless_it_is_named(compose: dict[str, Any]) -> None:
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines(), "whose words would name one for everybody"
    urls = [
        compose["services"][name]["environment"]["ALIGNX_ENGINE__URL"] for name in ("preference", "worker", "response")
    ]
    summaries, chats = "${SUMMARY_ENGINE_URL:-profile}", "${ENGINE_URL:-profile}"
    assert urls == [summaries, summaries, chats]
    profiles = {name: service["profiles"] for name, service in compose["services"].items() if "profiles" in service}
    assert profiles == {"engine": ["cpu"], "engine-gpu": ["gpu"], "summary-engine-gpu": ["gpu"]}


def test_both_profiles_answer_to_the_same_names(compose: dict[str, Any]) -> None:
    names: dict[str, set[str]] = {"cpu": set(), "gpu": set()}
    for name, service in compose["services"].items():
        for profile in service.get("profiles", ()):
            names[profile] |= {name, *service["networks"]["back"]["aliases"]}
    assert {"engine", "summary-engine"} <= names["cpu"] & names["gpu"]
    page = (ROOT / "docs" / "how-to" / "containers.md").read_text()
    (variables,) = re.findall(r"^cat > \.env <<END\n(.*?)^END$", page, re.MULTILINE | re.DOTALL)
    first, *others = variables.splitlines()
    text = (ROOT / "docker-compose.yml").read_text()
    assert first == "COMPOSE_PROFILES=gpu"
    assert [line for line in others if f"${{{line.partition('=')[0]}:-" not in text] == []


def test_every_setting_and_secret_is_one(compose: dict[str, Any]) -> None:
    named = set(compose["secrets"]) | {
        name for service in PORTS for name in compose["services"][service]["environment"] if name.startswith("ALIGNX_")
    }
    assert named - known_variables() == set()


def test_secrets_are_made_once_and_fit(compose: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = ["sh", str(DOCKER / "secrets.sh"), str(folder)]
    subprocess.run(command, check=True)
    secrets = {path.name: path.read_text() for path in folder.iterdir()}
    assert secrets.keys() == compose["secrets"].keys()
    assert {name: secret["file"] for name, secret in compose["secrets"].items()} == {
        name: f"./docker/secrets/{name}" for name in secrets
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert parse_key(secrets["ALIGNX_GATEWAY__BOOTSTRAP_KEY"])
    assert len(set(secrets.values())) == len(secrets)
    (folder / "ALIGNX_INTERNAL_TOKEN").unlink()
    subprocess.run(command, check=True)
    changed = {name for name, text in secrets.items() if (folder / name).read_text() != text}
    assert changed == {"ALIGNX_INTERNAL_TOKEN"}


def test_secrets_enter_neither_the_repository_nor_an_image() -> None:
    assert "/docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored.index("docker/secrets") > ignored.index("!docker")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_images_take_their_base_and_run_as_nobody(path: Path) -> None:
    text = path.read_text()
    bases = re.findall(r"^FROM (\S+)(?: AS (\S+))?", text, re.MULTILINE)
    stages = {stage for _, stage in bases}
    assert all(base.startswith("${") or base in stages for base, _ in bases)
    assert re.search(r"^USER (?!0|root)", text, re.MULTILINE)
    assert not re.search(r"^(?:CMD|ENTRYPOINT) [^\[]", text, re.MULTILINE), "a shell would keep the signals"
    assert not re.search(r"\b(?:gcc|g\+\+|build-essential)\b", text)


@pytest.mark.parametrize(("cuda", "code"), [("None", 0), ("'12.9'", 1)])
def test_the_engine_on_the_cpu_is_not_built_with_a_torch_for_gpus(tmp_path: Path, cuda: str, code: int) -> None:
    text = (DOCKER / "engine-cpu.Dockerfile").read_text()
    (check,) = re.findall(r'^RUN /opt/engine/bin/python -c "(.*?)"$', text, re.MULTILINE | re.DOTALL)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('its dependencies come later')")
    (tmp_path / "torch" / "version.py").write_text(f"cuda = {cuda}")
    command = [sys.executable, "-c", check.replace("\\\n", "")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert ("PIP_EXTRA_INDEX_URL" in done.stderr) == bool(code)


@pytest.mark.parametrize("service", PORTS)
def test_each_stage_listens_where_its_process_does(service: str) -> None:
    text = (DOCKER / "service.Dockerfile").read_text()
    stage = text.split(f"FROM runtime AS {service}\n")[1].split("\nFROM")[0]
    assert f"ALIGNX_SERVER__PORT={PORTS[service]}\n" in stage
    assert f"EXPOSE {PORTS[service]}\n" in stage


@pytest.mark.parametrize(("answer", "code"), [(b"HTTP/1.1 200 OK", 0), (b"HTTP/1.1 503 No", 1), (b"hello", 1)])
def test_the_health_check_believes_a_200_alone(answer: bytes, code: int) -> None:
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                requests.append(connection.recv(4096))
                connection.sendall(answer + b"\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        assert check_health(port) == code
        thread.join()
    assert requests[0].startswith(b"GET /readyz HTTP/1.1\r\n")
    assert check_health(port) == 1  # nobody listens any more


def check_health(port: int) -> int:
    environment = os.environ | {"ALIGNX_SERVER__PORT": str(port)}
    command = [sys.executable, str(DOCKER / "health.py")]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode
