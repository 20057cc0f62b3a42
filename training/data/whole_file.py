"""Files that are written whole or not at all."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into; after the block it is on the disk in place of `path`, unless the block fails.

    Each of several writers at once has a file of its own, and the last one stays. What a killed writer left is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    unfinished = fresh.with_name(f"{fresh.name}.unfinished")
    try:
        with fresh.open("xb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fresh.rename(unfinished)  # only now, lest another writer takes it for left
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """Removes the unfinished files of `path` that no process has locked: a lock ends with its process."""
    for left in path.parent.glob(f".{path.name}.*unfinished"):
        with suppress(OSError), left.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
