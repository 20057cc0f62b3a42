"""A release: what stops it, and what it writes."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from alignx import __version__
from docker.supply.locks import LOCKS, ROOT, TORCH
from docker.supply.release import changelog_section, describe_images, find_obstacles, make_release

CHANGELOG = f"""# Changelog

## [Unreleased]

### Added
- Later.

## [{__version__}] - 2026-12-01

### Added
- Everything.

## [0.0.1]
"""
DOCKER = """#!/bin/sh
case "$*" in
info) ;;
"image inspect alignx/gateway:1.0") echo '[{"Id": "sha256:1", "RepoDigests": ["registry/alignx/gateway@sha256:2"]}]' ;;
*) echo '[]'; exit 1 ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with what a release reads, all of it committed."""
    root = tmp_path / "tree"
    for name in ("pyproject.toml", "README.md", "LICENSE", *LOCKS, TORCH):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "alignx", root / "alignx", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "CHANGELOG.md").write_text(CHANGELOG)
    git = ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    return root


def test_a_section_is_that_of_the_version() -> None:
    assert changelog_section(CHANGELOG, __version__) == "### Added\n- Everything."
    assert changelog_section(CHANGELOG, "0.0.1") == ""
    assert changelog_section(CHANGELOG, "9.9.9") == ""


def test_a_release_needs_a_section_and_a_clean_checkout(tree: Path) -> None:
    assert find_obstacles(tree, __version__) == []
    (tree / TORCH).write_text("torch>=2\n")
    obstacles = find_obstacles(tree, "9.9.9")
    assert [line.partition(" ")[0] for line in obstacles] == [f"{TORCH}:", "CHANGELOG.md", "git:"]


def test_all_of_a_release_lands_in_one_folder(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ("wheel", "services")  # test_sbom.py writes others, which take seconds each
    monkeypatch.setattr("docker.supply.release.PARTS", parts)
    folder = tmp_path / "dist"
    files = make_release(tree, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in files)
    assert {path.name for path in files} == {
        f"alignx-{__version__}-py3-none-any.whl",
        *(f"alignx-{part}.cdx.json" for part in parts),
        "images.json",
        "CHANGES.md",
        "SHA256SUMS",
    }
    assert "Everything" in (folder / "CHANGES.md").read_text()
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    with pytest.raises(SystemExit, match=f"The wheel says version {__version__}, the package 9"):
        make_release(tree, folder, version="9.9.9")


def test_images_have_their_digests_where_docker_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    described = json.loads(json.dumps(describe_images("1.0")))
    first, second = described["own"][:2]
    digest = "registry/alignx/gateway@sha256:2"
    assert first == {"image": "alignx/gateway:1.0", "id": "sha256:1", "digests": [digest]}
    assert second == {"image": "alignx/preference:1.0", "id": None, "digests": []}


def test_images_are_said_to_be_missing_where_docker_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    described = describe_images("1.0")
    assert described["own"] is None
    assert "Docker does not answer" in described["reason"]
    assert {image["image"] for image in described["others"]} >= {"redis:7.4-bookworm"}
