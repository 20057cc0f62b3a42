"""Which file, checkpoint or engine a figure belongs to."""

import hashlib
import os
from pathlib import Path

from evaluation.results import Source
from training.exceptions import CheckpointError

_HASHED = (".safetensors", ".json", ".jinja", ".txt", ".model", ".bin")
_NO_PART_OF_THE_MODEL = ("trainer_state.json", "training_args.bin", "metrics.json")


def is_url(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def checkpoint(folder: Path) -> Source:
    """A checkpoint and the hash of all that decides what it computes. Raises CheckpointError."""
    found = sorted(path for path in folder.glob("*") if path.suffix in _HASHED)
    found = [path for path in found if path.name not in _NO_PART_OF_THE_MODEL]
    if not (folder / "config.json").is_file() or not found:
        raise CheckpointError(f"{folder} holds no checkpoint: there is no config.json")
    total = hashlib.sha256()
    for path in found:
        total.update(f"{path.name} {file_sha256(path)}\n".encode())
    return Source(name=named(folder), sha256=total.hexdigest())


def file_sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def named(path: Path) -> str:
    """The path from the folder the run was started in; of one elsewhere the last name alone, so that
    no result tells how a machine is laid out."""
    shown = os.path.relpath(path)
    return path.name if shown.startswith("..") else Path(shown).as_posix()
