"""Makes a release: the wheel, bills of materials, images and checksums, all in dist/.

    python -m docker.supply.release         (`make release`)

It needs a version that CHANGELOG.md has a section for and nothing that git has not committed; else it says what is
missing and writes nothing. Publishing is another step, and a person's.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

from alignx import __version__
from docker.supply.images import list_images
from docker.supply.locks import ROOT, find_faults
from docker.supply.sbom import PARTS, write_sbom

OWN_IMAGES = ("gateway", "preference", "worker", "response", "redis", "engine-cpu")
PACKED = ("pyproject.toml", "README.md", "LICENSE", "alignx")


def changelog_section(text: str, version: str) -> str:
    """What the changelog says of a version; empty without such a section."""
    found = re.search(rf"(?ms)^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", text)
    return found[1].strip() if found else ""


def find_obstacles(root: Path, version: str) -> list[str]:
    """Why there can be no release now, a line each."""
    obstacles = find_faults(root)
    if not changelog_section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version):
        obstacles.append(f"CHANGELOG.md has no section [{version}], or an empty one")
    status = subprocess.run(["git", "-C", root, "status", "--porcelain"], capture_output=True, text=True, check=False)
    if status.returncode or status.stdout:
        obstacles.append("git: not everything is committed, or this is no checkout")
    return obstacles


def build_wheel(root: Path, folder: Path) -> Path:
    """Built from a copy, because a build leaves folders behind that the next one would pack."""
    with tempfile.TemporaryDirectory() as work:
        for name in PACKED:
            source, target = root / name, Path(work, "tree", name)
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
        subprocess.run([*command, "--wheel-dir", work, Path(work, "tree")], check=True)
        (built,) = Path(work).glob("*.whl")
        return Path(shutil.copy(built, folder))


def wheel_version(wheel: Path) -> str:
    """As the metadata in the wheel has it."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return str(Parser().parsestr(archive.read(name).decode())["Version"])


def describe_images(tag: str) -> dict[str, Any]:
    """Our images that Docker has here, with the digests under which registries know them, and those of others that
    the deployment names."""
    others = sorted({(image.reference, image.digest or "") for image in list_images()})
    described: dict[str, Any] = {"others": [{"image": name, "digest": digest or None} for name, digest in others]}
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        return described | {"own": None, "reason": "Docker does not answer here, so no image could be listed."}
    own = []
    for name in OWN_IMAGES:
        image = f"alignx/{name}:{tag}"
        done = subprocess.run([docker, "image", "inspect", image], capture_output=True, text=True, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout or "[]") if done.returncode == 0 else []
        digests = [digest for entry in found for digest in entry.get("RepoDigests") or ()]
        own.append({"image": image, "id": found[0]["Id"] if found else None, "digests": digests})
    return described | {"own": own}


def make_release(root: Path, folder: Path, *, version: str = __version__) -> list[Path]:
    """The files written. Exits with a message if the wheel is of another version."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wheel = build_wheel(root, folder)
    if (found := wheel_version(wheel)) != version:
        sys.exit(f"The wheel says version {found}, the package {version}.")
    files = [wheel, *(write_sbom(part, folder, root) for part in PARTS)]
    for name, text in (
        ("images.json", json.dumps(describe_images(version), indent=1) + "\n"),
        ("CHANGES.md", changelog_section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version) + "\n"),
    ):
        (folder / name).write_text(text, encoding="utf-8")
        files.append(folder / name)
    sums = folder / "SHA256SUMS"
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    sums.write_text("".join(lines), encoding="utf-8")
    return [*files, sums]


def main() -> None:
    if obstacles := find_obstacles(ROOT, __version__):
        sys.exit("\n".join([f"No release of {__version__}:", *obstacles]))
    for file in make_release(ROOT, ROOT / "dist"):
        print(f"{file.relative_to(ROOT)} {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
