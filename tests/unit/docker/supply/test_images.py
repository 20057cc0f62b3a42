"""Digests of images, with a shell script in the place of Docker: no registry is asked."""

import shutil
from pathlib import Path

import pytest

from docker.supply.images import FILES, NoDigest, ask_registry, list_images, pin_images
from docker.supply.locks import ROOT
from tests.containers.manifests import render

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The deployment's files alone."""
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    return tmp_path


def contents(tree: Path) -> dict[Path, str]:
    return {path: path.read_text() for pattern in FILES for path in tree.glob(pattern)}


def test_every_image_of_others_is_found_where_it_is_named() -> None:
    named = {(image.file, image.name) for image in list_images()}
    assert {
        ("docker/service.Dockerfile", "python"),
        ("docker/redis.Dockerfile", "redis"),
        ("docker/prometheus.Dockerfile", "debian"),
        ("docker-compose.yml", "grafana/grafana"),
        ("docker-compose.yml", "prom/prometheus"),
        ("docker-compose.yml", "vllm/vllm-openai"),
        ("docker/kubernetes/components/images/kustomization.yaml", "redis"),
        ("docker/kubernetes/components/images/kustomization.yaml", "vllm/vllm-openai"),
    } <= named
    assert not [name for _, name in named if name.startswith("alignx/")]


def test_each_tag_gets_its_digest_and_another_one_later(tree: Path) -> None:
    before = {image.reference for image in list_images(tree)}
    pin_images(tree, lambda reference: DIGEST)
    assert {(image.reference, image.digest) for image in list_images(tree)} == {(name, DIGEST) for name in before}
    assert f"ARG BASE_IMAGE=python:3.11-slim-bookworm@{DIGEST}\n" in (tree / "docker/service.Dockerfile").read_text()
    pin_images(tree, lambda reference: OTHER)
    text = "".join(contents(tree).values())
    assert (DIGEST in text, text.count(OTHER)) == (False, len(list_images(tree)))


def test_kustomize_reads_the_digest(tree: Path) -> None:
    pin_images(tree, lambda reference: DIGEST)
    objects = render(tree / "docker/kubernetes/overlays/profile")
    images = {line for line in str(objects).split("'") if line.startswith("redis:") or "redis@" in line}
    assert images
    assert all(image.endswith(f"@{DIGEST}") for image in images)


def test_nothing_is_written_unless_all_are_known(tree: Path) -> None:
    def ask(reference: str) -> str:
        if reference.startswith("vllm"):
            raise NoDigest(reference)
        return DIGEST

    before = contents(tree)
    with pytest.raises(NoDigest):
        pin_images(tree, ask)
    assert contents(tree) == before


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"echo {DIGEST}", DIGEST),
        ("echo latest", None),
        ("echo no such manifest >&2; exit 1", None),
    ],
)
def test_docker_is_asked_and_its_answer_checked(
    script: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(
        f'#!/bin/sh\n[ "$*" = "buildx imagetools inspect --format {{{{.Manifest.Digest}}}} redis:7" ] || exit 9\n'
        f"{script}\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if expected:
        assert ask_registry("redis:7") == expected
    else:
        with pytest.raises(NoDigest, match="redis:7"):
            ask_registry("redis:7")
