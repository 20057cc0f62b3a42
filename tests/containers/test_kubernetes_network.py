"""Who may speak with whom in the cluster: the policies are evaluated, not read.

For every pair of pods and every port the answer must be the one of this table; a policy that opens
more than it says fails as one that opens less.
"""

from collections.abc import Iterator

import pytest

from tests.containers.manifests import FOLDER, OVERLAYS, Objects, Outside, Peer, Pod, of_kind, pods, reaches, rendered

STRANGER = Outside("default", {"app.kubernetes.io/name": "gateway"})
INTERNET = Outside("", {})
PROMETHEUS = Outside("monitoring", {"app.kubernetes.io/name": "prometheus"})
NAMES = Outside("kube-system", {"k8s-app": "kube-dns"})

CALLERS = {
    8080: {"gateway": set[str]()},
    8100: {"engine": {"worker", "response"}},
    8101: {"preference": {"gateway"}},
    8102: {"response": {"gateway"}},
    8103: {"worker": set[str]()},
    6379: {"redis": {"gateway", "preference", "worker", "response", "backup", "redis-form"}},
    16379: {"redis": set[str]()},
}
"""Port → its owner → the pods that call it. Redis's nodes among themselves have a test of their own."""


def answers(objects: Objects, sources: list[Pod]) -> Iterator[tuple[str, str, int, bool]]:
    for source in sources:
        for target in pods(objects):
            for port in CALLERS:
                yield source.name, target.name, port, reaches(objects, source, target, port)


def test_pods_reach_what_they_call_and_nothing_else(objects: Objects) -> None:
    for source, target, port, open_ in answers(objects, pods(objects)):
        if {source, target} == {"redis"}:
            continue  # below
        assert open_ == (source in CALLERS[port].get(target, set())), (source, target, port)


def test_redis_nodes_reach_each_other_in_a_cluster_only(objects: Objects) -> None:
    names = {pod.name for pod in pods(objects)}
    for source, target, port, open_ in answers(objects, pods(objects)):
        if {source, target} == {"redis"}:
            assert open_ == ("redis-form" in names and port in (6379, 16379)), port


@pytest.mark.parametrize("outside", [STRANGER, INTERNET], ids=["another namespace", "an address"])
def test_from_outside_only_the_gateway_can_be_reached(objects: Objects, outside: Peer) -> None:
    ports = (*CALLERS, 22, 6380)
    reached = {(pod.name, port) for pod in pods(objects) for port in ports if reaches(objects, outside, pod, port)}
    assert reached == {("gateway", 8080)}


def test_metrics_can_be_read_where_they_are_scraped_and_by_prometheus_alone(objects: Objects) -> None:
    scraped = bool(of_kind(objects, "PodMonitor"))
    for pod in pods(objects):
        for port, owners in CALLERS.items():
            expected = pod.name == "gateway" and port == 8080
            expected |= scraped and pod.name in ("preference", "worker", "response", "engine") and 8100 <= port <= 8103
            assert reaches(objects, PROMETHEUS, pod, port) == expected, (pod.name, port, owners)


def test_nobody_leaves_the_cluster_but_an_engine_for_its_weights_and_the_way_to_ones_own_redis(
    objects: Objects,
) -> None:
    bundled = any(pod.name == "redis" for pod in pods(objects))
    for pod in pods(objects):
        loads = pod.name == "engine" and any(each["name"] == "weights" for each in pod.all_containers)
        assert reaches(objects, pod, INTERNET, 443) == loads, pod.owner
        assert not reaches(objects, pod, INTERNET, 80), pod.owner
        metadata = Outside("", {}, "169.254.169.254")
        assert not any(reaches(objects, pod, metadata, port) for port in (80, 443)), pod.owner
        own_redis = reaches(objects, pod, Outside("", {}, "10.1.2.3"), 6379)
        assert own_redis == (not bundled and pod.name in CALLERS[6379]["redis"]), pod.owner
        assert reaches(objects, pod, NAMES, 53), pod.owner


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_collector_and_an_engine_elsewhere_are_reached_where_the_way_is_opened(overlay: str) -> None:
    objects = rendered(overlay)
    opened = "components/egress" in (FOLDER / "overlays" / overlay / "kustomization.yaml").read_text()
    collector, own = Outside("monitoring", {"app": "collector"}), Outside("", {}, "10.1.2.3")
    for pod in pods(objects):
        traced = opened and pod.name in ("gateway", "preference", "worker", "response")
        asks = opened and pod.name in ("worker", "response")
        assert reaches(objects, pod, collector, 4318) == traced, pod.owner
        assert not reaches(objects, pod, collector, 443), pod.owner
        assert [reaches(objects, pod, own, port) for port in (443, 8100, 80)] == [asks, asks, False], pod.owner


def test_only_the_gateway_may_be_given_to_the_world(objects: Objects) -> None:
    for each in of_kind(objects, "Service"):
        assert each["spec"].get("type", "ClusterIP") == "ClusterIP" or each["metadata"]["name"] == "gateway"
        assert not each["spec"].get("externalIPs")
    for each in of_kind(objects, "Ingress"):
        paths = [path for rule in each["spec"]["rules"] for path in rule["http"]["paths"]]
        assert {path["backend"]["service"]["name"] for path in paths} == {"gateway"}
        assert each["spec"]["tls"]
        for path in ("/", "/v1/chat/completions", "/openapi.json", "/docs", "/console", "/console/app.js"):
            assert _given(paths, path), path
        for path in ("/admin", "/admin/keys", "/metrics", "/v1x"):
            assert not _given(paths, path), path


def _given(paths: list[dict[str, str]], asked: str) -> bool:
    """By the rules of an Ingress: exactly, or by whole parts of the path."""
    return any(
        asked == each["path"] or (each["pathType"] == "Prefix" and asked.startswith(each["path"].rstrip("/") + "/"))
        for each in paths
    )


def test_policies_can_say_no() -> None:
    """The evaluation itself: no policy opens everything, an empty one nothing."""
    gateway, redis = (next(pod for pod in pods(rendered("cpu")) if pod.name == name) for name in ("gateway", "redis"))
    assert reaches((), STRANGER, redis, 6379)
    deny = {"kind": "NetworkPolicy", "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    assert not reaches((deny,), gateway, redis, 6379)
    only = {**deny, "spec": {**deny["spec"], "ingress": [{"ports": [{"protocol": "TCP", "port": 6379}]}]}}  # type: ignore[dict-item]
    assert reaches((only,), STRANGER, redis, 6379)
    assert not reaches((only,), STRANGER, redis, 22)
