"""What the pods are told: settings that the processes accept, time enough to end, images that are built."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from gateway.keys import parse_key
from services.settings import load_settings
from tests.conftest import free_port, redis_server_path, wait_until_ready
from tests.containers.exported import PORTS, known_variables
from tests.containers.manifests import FOLDER, OVERLAYS, ROOT, Objects, Pod, named, of_kind, pods, rendered

SERVICES = ("gateway", "preference", "worker", "response", "backup")


@pytest.fixture(scope="module")
def secret() -> Mapping[str, str]:
    values: Mapping[str, str] = print_secret()["stringData"]
    return values


def print_secret(**environment: str) -> Any:
    """What secret.sh prints."""
    environment |= {"PATH": os.environ["PATH"]}
    told = subprocess.run([FOLDER / "secret.sh"], capture_output=True, text=True, check=True, env=environment).stdout
    return yaml.safe_load(told)


def environment_of(objects: Objects, pod: Pod) -> dict[str, str]:
    """The variables of the pod's only container, as Kubernetes would set them."""
    (container,) = pod.containers
    told: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        told |= named(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    return told | {each["name"]: each["value"] for each in container.get("env", ())}


def test_a_model_reads_the_prompts_that_it_was_trained_with(objects: Objects) -> None:
    """4,096 tokens of thought, 4,096 of events, the past summary and the instruction need a context of 16,384."""
    models = [each["data"]["MODEL"] for each in of_kind(objects, "ConfigMap") if "MODEL" in each["data"]]
    prompts = "alignxplore-plus" if any(model.endswith("AlignXplore-Plus") for model in models) else None
    for pod in pods(objects):
        if pod.name in ("worker", "response"):
            variables = environment_of(objects, pod)
            names = ("ALIGNX_SUMMARY__PROMPTS", "ALIGNX_RESPONSE__SELECTION_PROMPTS")
            assert [variables.get(name) for name in names] == [prompts] * 2
            assert not prompts or int(variables["ALIGNX_ENGINE__CONTEXT_TOKENS"]) >= 16_384


def mount(secret: Mapping[str, str], pod: Pod, folder: Path) -> None:
    """The secret's files as the kubelet lays them out: links through a folder that it can exchange."""
    (volume,) = (each["secret"] for each in pod.spec["volumes"] if "secret" in each)
    (folder / "..now").mkdir(parents=True)
    (folder / "..data").symlink_to("..now")
    for item in volume["items"]:
        (folder / "..now" / item["path"]).write_text(secret[item["key"]])
        (folder / item["path"]).symlink_to(f"..data/{item['path']}")


def test_every_process_starts_with_what_it_is_told(
    objects: Objects, secret: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("ALIGNX_")]:
        monkeypatch.delenv(name)
    addresses = {
        f"http://{each['metadata']['name']}:{port['port']}"
        for each in of_kind(objects, "Service")
        for port in each["spec"]["ports"]
    }
    for pod in pods(objects):
        if pod.name not in SERVICES:
            continue
        mount(secret, pod, tmp_path / pod.owner)
        told = environment_of(objects, pod)
        (place,) = (each["mountPath"] for each in pod.containers[0]["volumeMounts"] if each["name"] == "secrets")
        assert told["ALIGNX_SECRETS_DIR"] == place
        with monkeypatch.context() as patched:
            for name, value in (told | {"ALIGNX_SECRETS_DIR": str(tmp_path / pod.owner)}).items():
                patched.setenv(name, value)
            settings = load_settings()
        assert settings.redis.url == secret["ALIGNX_REDIS__URL"]
        assert settings.server.host == "0.0.0.0"
        assert {settings.gateway.preference_url, settings.gateway.response_url} <= addresses
        assert not settings.engine.enabled or settings.engine.url.removesuffix("/v1") in addresses
        if pod.name in ("worker", "response"):
            assert settings.engine.cache_salt_secret is not None
        if pod.name == "gateway":
            assert settings.gateway.bootstrap_key is not None


def test_every_variable_of_ours_is_a_setting() -> None:
    """By the text of the files, comments among it, so that nothing is told that nobody reads."""
    texts = [path.read_text() for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    told = {name for text in texts for name in re.findall(r"\bALIGNX_[A-Z0-9_]+", text)}
    assert told - known_variables() == set()


def test_ports_are_the_ones_that_the_processes_listen_on(objects: Objects) -> None:
    found = {pod.name: pod.containers[0]["ports"][0]["containerPort"] for pod in pods(objects) if pod.name in PORTS}
    assert found == PORTS


def test_a_pod_is_not_killed_before_it_has_drained(objects: Objects) -> None:
    for pod in pods(objects):
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        if pod.name in PORTS:
            told = environment_of(objects, pod)
            drain, shutdown = (float(told[f"ALIGNX_SERVER__{name}_S"]) for name in ("DRAIN", "SHUTDOWN"))
            assert grace > drain + shutdown, pod.owner
            assert drain >= 5, pod.owner  # endpoints take a moment to forget a pod
        for container in pod.containers:
            text = " ".join((*container.get("command", ()), *container.get("args", ())))
            if open_answers := re.search(r"--shutdown-timeout=(\d+)", text):
                before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
                assert grace > before + int(open_answers[1]), pod.owner


def test_images_are_named_once_with_a_version_and_the_own_ones_are_built_here(objects: Objects) -> None:
    stages = set(re.findall(r"^FROM runtime AS (\w+)$", (ROOT / "docker/service.Dockerfile").read_text(), re.MULTILINE))
    page = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
    for pod in pods(objects):
        for container in pod.all_containers:
            name, _, tag = container["image"].rpartition(":")
            assert re.fullmatch(r"v?\d[\w.-]*", tag), container["image"]
            if name.startswith("alignx/"):
                assert f"{{name: {name}, newName: registry.example.com/{name}}}" in page
                own = name.removeprefix("alignx/")
                assert f"-t $registry/{'$service' if own in stages else own}:{tag} " in page, container["image"]
                assert own in stages or (ROOT / "docker" / f"{own}.Dockerfile").exists(), container["image"]
            else:
                assert name in ("redis", "vllm/vllm-openai")


def test_the_printed_secret_has_all_that_pods_read_and_new_values_each_time(secret: Mapping[str, str]) -> None:
    for overlay in OVERLAYS:
        for pod in pods(rendered(overlay)):
            items = [each["secret"]["items"] for each in pod.spec.get("volumes", ()) if "secret" in each]
            assert {item["key"] for group in items for item in group} <= secret.keys(), pod.owner
        for monitor in of_kind(rendered(overlay), "PodMonitor"):
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            if "authorization" in endpoint:
                assert endpoint["authorization"]["credentials"]["key"] in secret
    assert parse_key(secret["ALIGNX_GATEWAY__BOOTSTRAP_KEY"])
    assert secret["redis-password"] in secret["ALIGNX_REDIS__URL"]
    url = "rediss://:x@redis.example:6380/0"
    other = print_secret(REDIS_URL=url, NAMESPACE="staging", HF_TOKEN="t")
    assert other["metadata"]["namespace"] == "staging"
    assert (other["stringData"]["ALIGNX_REDIS__URL"], other["stringData"]["HF_TOKEN"]) == (url, "t")
    assert not set(secret.values()) & set(other["stringData"].values())


# --- Redis -------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", ["cpu", "production"])
def test_redis_starts_by_the_pods_own_script(overlay: str, secret: Mapping[str, str], tmp_path: Path) -> None:
    """The real script and the real server; only the places of files and the port are others."""
    objects = rendered(overlay)
    port = free_port()
    (pod,) = (pod for pod in pods(objects) if pod.name == "redis")
    (container,) = pod.containers
    (script,) = container["args"]
    (conf,) = (each["configMap"]["name"] for each in pod.spec["volumes"] if "configMap" in each)
    places = {mount["mountPath"]: tmp_path / mount["name"] for mount in container["volumeMounts"]}
    for place in places.values():
        place.mkdir()
    (places["/run/secrets/redis"] / "password").write_text(secret["redis-password"])
    text = named(objects, "ConfigMap", conf)["data"]["redis.conf"].replace("port 6379", f"port {port}\nbind 127.0.0.1")
    conf_file = places["/etc/redis"] / "redis.conf"
    conf_file.write_text(text.replace("/data", str(places["/data"])))
    for mounted, place in places.items():
        script = script.replace(mounted + "/", f"{place}/")
    (tmp_path / "redis-server").symlink_to(redis_server_path())  # the local one may have another name
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "POD_IP": "127.0.0.1",
        "POD_NAME": "redis-0",
        "POD_NAMESPACE": "alignx",
    }
    if not _knows_host_names():
        conf_file.write_text(_without_host_names(conf_file.read_text()))
        script = _without_host_names(script)
    process = subprocess.Popen([*container["command"], script], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(port, secret["redis-password"])
        with Redis(port=port, password=secret["redis-password"], decode_responses=True) as client:
            config = client.config_get("*")
            assert config["appendonly"] == "yes"
            assert config["appendfsync"] == "always"
            assert config["maxmemory-policy"] == "noeviction"
            assert config["cluster-enabled"] == ("yes" if overlay == "production" else "no")
            if overlay == "production" and _knows_host_names():
                assert "redis-0.redis-pods.alignx.svc" in str(client.execute_command("CLUSTER NODES"))
        with Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
    finally:
        process.terminate()
        process.wait(timeout=30)


def _knows_host_names() -> bool:
    """Whether the server here is of version 7 or newer, as the image is."""
    told = subprocess.run([redis_server_path(), "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.split("v=")[1].split(".")[0]) >= 7


def _without_host_names(text: str) -> str:
    return re.sub(r".*(cluster-preferred-endpoint-type|cluster-announce-hostname).*\n", "", text)
