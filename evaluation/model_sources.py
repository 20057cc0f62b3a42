"""Identity of files, checkpoints and engines in results: a public name and a hash."""

import hashlib
import os
from pathlib import Path
from typing import Annotated

from pydantic import PlainSerializer

from evaluation.results import Source
from training.exceptions import CheckpointError

_HASHED = (".safetensors", ".json", ".jinja", ".txt", ".model", ".bin")
_NOT_OF_THE_MODEL = ("trainer_state.json", "training_args.bin", "metrics.json")


def is_url(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def checkpoint_source(folder: Path) -> Source:
    """Name and hash of weights, configuration and tokenizer. Raises CheckpointError where there is no checkpoint."""
    files = sorted(path for path in folder.glob("*") if path.suffix in _HASHED and path.name not in _NOT_OF_THE_MODEL)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no checkpoint: there is no config.json")
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name} {file_sha256(path)}\n".encode())
    return Source(name=public_name(folder), sha256=total.hexdigest())


def file_sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def file_source(path: Path) -> Source:
    """A file with its hash; a folder, or a file that is absent, by name alone."""
    return Source(name=public_name(path), sha256=file_sha256(path) if path.is_file() else None)


def public_name(path: Path) -> str:
    """The path relative to the working folder; of a path elsewhere the last name alone, so that results do not
    show the folders of a machine."""
    relative = os.path.relpath(path)
    return path.name if relative.startswith("..") else Path(relative).as_posix()


def public_location(location: str) -> str:
    """A URL as it is, the public name of a folder."""
    return location if is_url(location) or not location else public_name(Path(location))


LocalPath = Annotated[Path, PlainSerializer(public_name)]
"""Results show the public name."""
Location = Annotated[str, PlainSerializer(public_location)]
"""A checkpoint folder, or the URL of an OpenAI-compatible engine."""
