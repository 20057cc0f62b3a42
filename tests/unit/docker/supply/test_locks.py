"""Locks that pin everything, and installs that ask for it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docker.supply.locks import LOCKS, ROOT, TORCH, find_faults, read_lock
from docker.supply.sbom import NOT_IN_IMAGE

IMAGES = {
    "services": ("service.Dockerfile", "services.lock"),
    "engine-cpu": ("engine-cpu.Dockerfile", "engine-cpu.lock"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (*LOCKS, TORCH):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_package_of_every_lock_is_pinned_and_has_hashes() -> None:
    assert find_faults() == []


@pytest.mark.parametrize(
    ("lock", "entry", "fault"),
    [
        ("docker/services.lock", "requests==2.0", "requests has no hash"),
        ("docker/services.lock", "requests==2.0 --hash=sha256:abc", "requests has no hash"),
        ("docker/test.lock", "requests>=2.0 --hash=sha256:" + "0" * 64, "is not pinned to a version"),
        ("training/verl/requirements-cpu.txt", "requests @ https://127.0.0.1/r.whl", "is not pinned to a version"),
        ("docker/test.lock", "Pydantic==2.0 --hash=sha256:" + "0" * 64, "pydantic is 2.0, and 2."),
        (TORCH, "torch>=2", "torch>=2 is not pinned"),
    ],
)
def test_an_entry_that_is_not_right_is_named(tree: Path, lock: str, entry: str, fault: str) -> None:
    with (tree / lock).open("a") as file:
        file.write(f"{entry}\n")
    (found,) = find_faults(tree)
    assert found.startswith(f"{lock}: ")
    assert fault in found


def test_every_lock_of_the_tree_is_looked_at() -> None:
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docker/**/*.lock")} <= set(LOCKS)


def test_every_install_from_a_lock_asks_for_hashes() -> None:
    for path in (ROOT / "Makefile", *(ROOT / "docker").glob("*.Dockerfile")):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        installs = re.findall(
            r"[^\n&]*(?:INSTALL\)|pip|install)[^\n&]* -r [^\n&]*(?:\.lock|requirements-cpu\.txt)[^\n&]*", text
        )
        assert all("--require-hashes" in install for install in installs), path.name
        assert installs or path.name in ("redis.Dockerfile", "prometheus.Dockerfile")


@pytest.mark.parametrize("part", IMAGES)
def test_an_image_leaves_out_what_its_bill_of_materials_leaves_out(part: str, tmp_path: Path) -> None:
    dockerfile, lock = IMAGES[part]
    (script,) = re.findall(r"^RUN sed (?:-E )?'(.+?)'", (ROOT / "docker" / dockerfile).read_text(), re.MULTILINE)
    done = subprocess.run(["sed", "-E", script, ROOT / "docker" / lock], capture_output=True, text=True, check=True)
    (tmp_path / lock).write_text(done.stdout)
    whole, installed = list(read_lock(ROOT / "docker" / lock)), list(read_lock(tmp_path / lock))
    assert installed == [entry for entry in whole if entry.name not in NOT_IN_IMAGE[part]]
    assert len(whole) - len(installed) == len(NOT_IN_IMAGE[part])
