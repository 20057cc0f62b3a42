"""The images of other projects that ours are built on or run beside, and their digests.

    python -m docker.supply.images          lists them, each with its digest or without one
    python -m docker.supply.images --pin    asks their registries, by Docker, and writes the digests behind the tags

A digest says which image a tag means, whatever is pushed to it later. `--pin` needs the registries; nothing is written
unless all of them answer. Run it again to follow the tags to newer images.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from docker.supply.locks import ROOT

FILES = ("docker/*.Dockerfile", "docker-compose.yml", "docker/kubernetes/components/images/kustomization.yaml")
_REFERENCE = r"(?P<name>[a-z0-9][a-z0-9./-]*):(?P<tag>[\w.-]+)(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
_IN_ARGUMENT = re.compile(rf"(?m)(?P<before>^ARG [A-Z]+_IMAGE=){_REFERENCE}(?P<after>$)")
_IN_VARIABLE = re.compile(rf"(?P<before>\$\{{[A-Z]+_IMAGE:-){_REFERENCE}(?P<after>\}})")
_IN_COMPONENT = re.compile(
    r"(?m)(?P<before>^  - name: )(?P<name>(?!alignx/)\S+)\n    newTag: (?P<tag>\S+)\n"
    r"(?:    digest: (?P<digest>sha256:[0-9a-f]{64})\n)?(?P<after>)"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
AskDigest = Callable[[str], str]
"""The digest of an image that is named with its tag. Raises NoDigest."""


class NoDigest(Exception):
    """A registry, or Docker, does not say which image a tag means."""


@dataclass(frozen=True, slots=True)
class Image:
    file: str
    """Where it is named."""
    name: str
    tag: str
    digest: str | None

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.tag}"


def list_images(root: Path = ROOT) -> list[Image]:
    """Every place that names an image of another project."""
    return [
        Image(path.relative_to(root).as_posix(), found["name"], found["tag"], found["digest"])
        for path in _files(root)
        for pattern in (_IN_ARGUMENT, _IN_VARIABLE, _IN_COMPONENT)
        for found in pattern.finditer(path.read_text(encoding="utf-8"))
    ]


def pin_images(root: Path, ask_digest: AskDigest) -> None:
    """Writes the digest behind each tag. Raises NoDigest, and has written nothing then."""
    digests = {reference: ask_digest(reference) for reference in {image.reference for image in list_images(root)}}

    def write_reference(found: re.Match[str]) -> str:
        reference = f"{found['name']}:{found['tag']}"
        return f"{found['before']}{reference}@{digests[reference]}{found['after']}"

    def write_entry(found: re.Match[str]) -> str:
        digest = digests[f"{found['name']}:{found['tag']}"]
        return f"{found['before']}{found['name']}\n    newTag: {found['tag']}\n    digest: {digest}\n"

    for path in _files(root):
        text = path.read_text(encoding="utf-8")
        text = _IN_ARGUMENT.sub(write_reference, text)
        text = _IN_VARIABLE.sub(write_reference, text)
        path.write_text(_IN_COMPONENT.sub(write_entry, text), encoding="utf-8")


def ask_registry(reference: str) -> str:
    """By Docker's buildx, which asks the registry and pulls nothing. Raises NoDigest."""
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", reference]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoDigest(f"{reference}: {error}") from error
    digest = done.stdout.strip()
    if done.returncode or not _DIGEST.fullmatch(digest):
        raise NoDigest(f"{reference}: {done.stderr.strip() or digest or 'no answer'}")
    return digest


def _files(root: Path) -> Iterator[Path]:
    for pattern in FILES:
        yield from sorted(root.glob(pattern))


def main() -> None:
    if "--pin" in sys.argv[1:]:
        try:
            pin_images(ROOT, ask_registry)
        except NoDigest as error:
            sys.exit(f"No digest, so nothing is written: {error}")
    images = list_images()
    for reference, digest in sorted({(image.reference, image.digest or "") for image in images}):
        print(f"{reference} {digest or 'has no digest: python -m docker.supply.images --pin'}")


if __name__ == "__main__":
    main()
