"""The locks of the project, and whether each pins what it names with a version and hashes.

    python -m docker.supply.locks        (prints what is wrong; `make supply` runs it)

docker/local/lock.sh writes them. That what is installed has one of the hashes, pip and uv check at each install, since
every install asks for hashes.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = (
    "docker/services.lock",
    "docker/test.lock",
    "docker/wheel.lock",
    "docker/training.lock",
    "docker/engine-cpu.lock",
    "docker/docs.lock",
    "training/verl/requirements-cpu.txt",
)
TORCH = "docker/torch.txt"
"""Pinned without hashes: each build has its own, and an index of the machine says which is meant."""
OF_ONE_ENVIRONMENT = LOCKS[:3]
"""Their versions agree."""
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of a lock."""

    name: str
    """Normalized, as indexes have it; the whole entry if it is not pinned."""
    version: str
    """Empty if it is not pinned."""
    hashes: tuple[str, ...]
    text: str
    """The entry as it stands in the lock, further lines included."""


def read_lock(path: Path) -> Iterator[Requirement]:
    """The entries of a lock, without those of other locks that it names."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(("#", "-r "))]
    for entry in re.split(r"(?<!\\)\n", "\n".join(lines)):
        if not entry.strip():
            continue
        pin = _PIN.match(entry)
        name = re.sub(r"[-_.]+", "-", pin[1]).lower() if pin else entry
        yield Requirement(name, pin[2] if pin else "", tuple(_HASH.findall(entry)), entry)


def find_faults(root: Path = ROOT) -> list[str]:
    """What is wrong with the locks, a line each."""
    faults, versions = list[str](), dict[str, str]()
    for lock in LOCKS:
        for entry in read_lock(root / lock):
            if not entry.version or not _NAME.fullmatch(entry.name):
                faults.append(f"{lock}: {entry.name} is not pinned to a version")
            elif not entry.hashes:
                faults.append(f"{lock}: {entry.name} has no hash")
            elif lock in OF_ONE_ENVIRONMENT and versions.setdefault(entry.name, entry.version) != entry.version:
                faults.append(f"{lock}: {entry.name} is {entry.version}, and {versions[entry.name]} in another lock")
    return faults + [f"{TORCH}: {entry.name} is not pinned" for entry in read_lock(root / TORCH) if not entry.version]


def main() -> None:
    if faults := find_faults():
        sys.exit("\n".join([*faults, "After a change of versions: docker/local/lock.sh --hashes"]))
    print(f"hashes: each package of {len(LOCKS)} locks is pinned and has hashes; {TORCH} is pinned alone")


if __name__ == "__main__":
    main()
