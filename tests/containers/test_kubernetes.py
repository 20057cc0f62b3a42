"""The manifests: they render, Kubernetes would take them, and they keep what the suite promises.

Objects are checked against Kubernetes' own schemas, in which unknown fields are refused, for the
oldest and the newest version that is supported. What the kinds of KEDA and the Prometheus operator
hold is read by the tests below.
"""

import copy
import importlib.util
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from docs.exported_metrics import exported
from tests.containers.exported import Series
from tests.containers.manifests import FOLDER, OVERLAYS, Objects, Pod, named, of_kind, pods, render, rendered, selects
from tests.containers.promql import selectors

VERSIONS = ("1.32", "1.37")
"""Of Kubernetes: the oldest that docs/how-to/kubernetes.md names, and the newest whose schemas are here."""

CUSTOM_KINDS = {"ScaledObject", "PodMonitor", "PrometheusRule"}
"""Kinds that Kubernetes itself does not know."""

# --- schemas -----------------------------------------------------------------------------------


def refusals(each: Any, version: str) -> list[str]:
    """What a cluster of that version would say against the object."""
    try:
        if each["kind"] not in CUSTOM_KINDS:
            kubernetes_validate.validate(each, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{each['kind']}/{each['metadata']['name']}: {error.message}"]
    return []


@cache
def checked(text: str, version: str) -> tuple[str, ...]:
    """Overlays share most objects; each is checked once."""
    return tuple(refusals(json.loads(text), version))


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(objects: Objects, version: str) -> None:
    assert [told for each in objects for told in checked(json.dumps(each, sort_keys=True), version)] == []


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("Deployment", "gateway", ("spec", "template", "spec", "hostNetworking"), True),
        ("Deployment", "gateway", ("spec", "replicas"), "two"),
        ("NetworkPolicy", "engine", ("spec", "ingres"), []),
    ],
)
def test_a_slip_of_the_pen_is_refused(kind: str, name: str, path: tuple[str, ...], value: object) -> None:
    slipped = copy.deepcopy(dict(named(rendered("cpu"), kind, name)))
    assert refusals(slipped, VERSIONS[-1]) == []
    place: Any = slipped
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert refusals(slipped, VERSIONS[-1]) != []


def test_every_component_and_engine_is_part_of_an_overlay() -> None:
    """What no overlay uses is rendered by no test."""
    used = "".join(path.read_text() for path in FOLDER.glob("overlays/*/kustomization.yaml"))
    offered = [*FOLDER.glob("components/*/"), *FOLDER.glob("engine/*/")]
    shared = {"address", "common"}  # by the engines themselves
    assert [path.name for path in offered if path.name not in shared and f"/{path.name}\n" not in used] == []


# --- pods --------------------------------------------------------------------------------------


def test_pods_may_do_nothing_that_they_need_not(objects: Objects) -> None:
    for pod in pods(objects):
        context = pod.spec["securityContext"]
        assert context["runAsNonRoot"], pod.owner
        assert context["runAsUser"] > 0, pod.owner
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, pod.owner
        assert pod.spec["automountServiceAccountToken"] is False, pod.owner
        assert pod.spec["enableServiceLinks"] is False, pod.owner  # would put variables of ours into them
        assert not pod.spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"}, pod.owner
        assert not [volume for volume in pod.spec.get("volumes", ()) if "hostPath" in volume], pod.owner
        for container in pod.all_containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (pod.owner, container["name"])


def test_the_namespace_takes_no_pod_that_asks_for_more(objects: Objects) -> None:
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"].get("namespace") for each in objects} - {None} == {namespace["metadata"]["name"]}


def test_containers_say_what_they_need_and_what_they_may_take(objects: Objects) -> None:
    for pod in pods(objects):
        for container in pod.all_containers:
            resources = container["resources"]
            assert resources["requests"].keys() >= {"cpu", "memory"}, (pod.owner, container["name"])
            assert "memory" in resources["limits"], (pod.owner, container["name"])
            gpus = {kind: amounts.get("nvidia.com/gpu") for kind, amounts in resources.items()}
            assert gpus["requests"] == gpus["limits"], (pod.owner, container["name"])


def test_containers_are_probed(objects: Objects) -> None:
    for pod in pods(objects):
        if not pod.endless:
            continue
        for container in pod.containers:
            assert container.keys() >= {"startupProbe", "livenessProbe", "readinessProbe"}, pod.owner
            if pod.name not in ("engine", "redis"):
                paths = [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
                assert paths == ["/livez", "/readyz"], pod.owner
            if pod.name == "engine":
                start = container["startupProbe"]
                assert start["periodSeconds"] * start["failureThreshold"] >= 300, pod.owner


def test_what_takes_requests_has_no_single_pod_on_a_single_node(objects: Objects) -> None:
    for pod in pods(objects):
        if pod.name not in ("gateway", "preference", "worker", "response"):
            continue
        kind, name = pod.owner.split("/")
        assert named(objects, kind, name)["spec"].get("replicas", 2) >= 2
        spread = pod.spec["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in spread} >= {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        assert all(selects(each["labelSelector"], pod.labels) for each in spread)
        budgets = [each["spec"] for each in of_kind(objects, "PodDisruptionBudget")]
        assert [each["maxUnavailable"] for each in budgets if selects(each["selector"], pod.labels)] == [1]


def test_every_selector_selects_its_pods(objects: Objects) -> None:
    running = pods(objects)
    for each in of_kind(objects, "Deployment", "StatefulSet"):
        chosen = [pod.owner for pod in running if selects(each["spec"]["selector"], pod.labels)]
        assert chosen == [f"{each['kind']}/{each['metadata']['name']}"]
    for each in of_kind(objects, "PodDisruptionBudget", "PodMonitor"):
        assert [pod for pod in running if selects(each["spec"]["selector"], pod.labels)], each["metadata"]["name"]
    for each in of_kind(objects, "Service"):
        (pod,) = (pod for pod in running if selects({"matchLabels": each["spec"]["selector"]}, pod.labels))
        for port in each["spec"]["ports"]:
            assert _port(pod, port["targetPort"]) == port["port"], each["metadata"]["name"]


def _port(pod: Pod, name: str) -> int:
    (found,) = (port["containerPort"] for each in pod.containers for port in each["ports"] if port["name"] == name)
    return int(found)


def test_what_pods_refer_to_is_there(objects: Objects) -> None:
    names = {(each["kind"], each["metadata"]["name"]) for each in objects} | {("Secret", "alignx")}
    for pod in pods(objects):
        asked = [
            ("ConfigMap", each["configMapRef"]["name"]) for c in pod.all_containers for each in c.get("envFrom", ())
        ]
        volumes = pod.spec.get("volumes", ())
        asked += [("ConfigMap", volume["configMap"]["name"]) for volume in volumes if "configMap" in volume]
        asked += [("Secret", volume["secret"]["secretName"]) for volume in volumes if "secret" in volume]
        asked += [
            ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
            for volume in volumes
            if "persistentVolumeClaim" in volume
        ]
        assert set(asked) <= names, pod.owner
        kind, name = pod.owner.split("/")
        claims = named(objects, kind, name)["spec"].get("volumeClaimTemplates", ())
        mounts = {mount["name"] for container in pod.all_containers for mount in container.get("volumeMounts", ())}
        assert mounts == {volume["name"] for volume in (*volumes, *(claim["metadata"] for claim in claims))}, pod.owner


def test_scalers_have_a_target_whose_replicas_nobody_else_sets(objects: Objects) -> None:
    scaled = set()
    for each in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = each["spec"]["scaleTargetRef"]
        assert "replicas" not in named(objects, target["kind"], target["name"])["spec"]
        assert target["name"] not in scaled, "two scalers would fight over it"
        scaled.add(target["name"])


# --- Prometheus --------------------------------------------------------------------------------


def test_replicas_follow_metrics_that_are_exported(objects: Objects, known: Series) -> None:
    for each in of_kind(objects, "ScaledObject"):
        for trigger in each["spec"]["triggers"]:
            asked = [selector.name for selector in selectors(trigger["metadata"]["query"])]
            assert asked
            assert set(asked) <= known.keys()
            assert float(trigger["metadata"]["threshold"]) > 0


def test_pods_are_scraped_under_the_job_names_of_the_rules(objects: Objects) -> None:
    monitors = of_kind(objects, "PodMonitor")
    if not monitors:
        return
    assert {each["spec"]["jobLabel"] for each in monitors} == {"app.kubernetes.io/name"}
    scraped = {pod.name for pod in pods(objects) for each in monitors if selects(each["spec"]["selector"], pod.labels)}
    assert scraped == exported().keys() | {"engine"}
    selected = [each["metadata"]["labels"] for each in (*monitors, *of_kind(objects, "PrometheusRule"))]
    assert selected == [{"release": "kube-prometheus-stack"}] * 3


def test_the_rules_are_those_of_docker_prometheus() -> None:
    spec = importlib.util.spec_from_file_location("rules", FOLDER / "rules.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text() == module.prometheus_rule(), "run: python docker/kubernetes/rules.py"
    groups = named(rendered("production"), "PrometheusRule", "alignx")["spec"]["groups"]
    sources = [yaml.safe_load(path.read_text()) for path in sorted(module.SOURCES.glob("*.yml"))]
    assert groups == [group for source in sources for group in source["groups"]]


PAGE = (FOLDER.parents[1] / "docs" / "how-to" / "kubernetes.md").read_text()
EXTENSIONS = re.findall(r"```yaml\n(.*?)```", PAGE.split("## How to extend")[1].split("\n## ")[0], re.DOTALL)


@pytest.mark.parametrize("patches", EXTENSIONS, ids=["data parallel", "LoRA"])
def test_the_patches_of_the_page_change_the_overlay_and_stay_valid(patches: str, tmp_path: Path) -> None:
    overlay = os.path.relpath(FOLDER / "overlays" / "gpu", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{overlay}]\n{patches}")
    objects = render(tmp_path)
    assert [error for each in objects for error in refusals(each, VERSIONS[-1])] == []
    changed = [each["metadata"]["name"] for each in objects if each not in rendered("gpu")]
    assert sorted(changed) == sorted(re.findall(r"kind: \w+, name: (\w+)", patches))


def test_the_page_lists_every_overlay_and_component() -> None:
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == set(OVERLAYS)
    assert [path.name for path in FOLDER.glob("components/*/") if f"components/{path.name}" not in PAGE] == []
    assert all(f"Kubernetes {VERSIONS[0]} or newer" in PAGE and version in PAGE for version in VERSIONS)
