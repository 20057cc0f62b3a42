"""Rows on disk with a journal, so that a killed run resumes.

The journal has a first line with the settings, then one for each finished user, in the order of the input,
with the length of the file of rows after them. Rows reach the disk before their line of the journal, so a
restart truncates both files after the last complete line.
"""

import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Self

import orjson

from training.config import flatten
from training.data.whole_file import replace_file
from training.exceptions import TrainingError
from training.synthesis.options import Synthesis
from training.synthesis.recipe import Outcome
from training.synthesis.source_users import User

_NOT_COMPARED = {"output", "cache", "limit", "malformed", "users_at_once", "teacher", "judge"}


class OutputFailed(TrainingError):
    pass


def settings_of(config: Synthesis) -> dict[str, Any]:
    """The settings that the rows depend on: all but paths, timeouts and concurrency; of the engines their models."""
    engines = {"teacher": {"model": config.teacher.model}, "judge": {"model": config.judge.model}}
    return config.model_dump(mode="json", exclude=_NOT_COMPARED) | engines


def beside(path: Path, suffix: str) -> Path:
    """`sft.jsonl` → `sft.jsonl.journal`."""
    return path.with_name(path.name + suffix)


class Output:
    """The file of rows and its journal, held by one run at a time."""

    def __init__(self, path: Path, rows: IO[bytes], journal: IO[bytes]) -> None:
        self._path = path
        self._rows = rows
        self._journal = journal
        self.done: list[str] = []
        """Digests of the users who are done, in the order of the input."""
        self.rows = 0
        self.counts: Counter[str] = Counter()

    @classmethod
    @contextmanager
    def open(cls, path: Path, settings: dict[str, Any]) -> Iterator[Self]:
        """Resumes an earlier run with the same `settings`. Raises OutputFailed when they
        differ, when another run holds the output, or when the rows are shorter than the journal says."""
        with ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                journal = stack.enter_context(beside(path, ".journal").open("a+b"))
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rows = stack.enter_context(path.open("a+b"))
            except BlockingIOError as error:
                raise OutputFailed(f"{path}: another run is writing to it") from error
            except OSError as error:
                raise OutputFailed(f"{path}: cannot be written: {error.strerror}") from error
            output = cls(path, rows, journal)
            output._resume(settings)
            yield output

    def add(self, user: User, outcome: Outcome) -> None:
        """The rows of the next user, then the user's line of the journal. Whole or not at all."""
        try:
            _append(self._rows, outcome.rows)
            entry = {"user": user.digest, "bytes": self._rows.tell(), "rows": len(outcome.rows)}
            _append(self._journal, [entry | {"counts": dict(outcome.counts)}])
        except OSError as error:
            raise OutputFailed(f"{self._path}: cannot be written: {error.strerror}") from error
        self._count(entry | {"counts": outcome.counts})

    def _count(self, entry: dict[str, Any]) -> None:
        self.done.append(entry["user"])
        self.rows += entry["rows"]
        self.counts.update(entry["counts"])

    def _resume(self, settings: dict[str, Any]) -> None:
        head, *entries = _whole_lines(self._journal) or [None]
        length = entries[-1]["bytes"] if entries else 0
        size = os.fstat(self._rows.fileno()).st_size
        if head is None:
            if size:
                raise OutputFailed(f"{self._path}: exists, but no run of this kind wrote it; name another output")
            _append(self._journal, [settings])
            return
        self._compare(head, settings)
        if size < length:
            raise OutputFailed(
                f"{self._path}: has {size} bytes, fewer than the {length} of its journal; remove both to "
                "start anew (answers are kept apart)"
            )
        self._rows.truncate(length)
        for entry in entries:
            self._count(entry)

    def _compare(self, head: dict[str, Any], settings: dict[str, Any]) -> None:
        was, now = dict(flatten(head)), dict(flatten(settings))
        other = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
        if other:
            raise OutputFailed(
                f"{self._path}: was begun with another {', '.join(other)}; name another output, or remove it and its "
                "journal"
            )


def _append(file: IO[bytes], lines: Sequence[Any]) -> None:
    file.write(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
    file.flush()
    os.fsync(file.fileno())


def _whole_lines(file: IO[bytes]) -> list[Any]:
    """The lines up to the first that is torn; that one and what follows are cut away."""
    file.seek(0)
    entries, length = [], 0
    for line in file:
        try:
            if not line.endswith(b"\n"):
                break
            entries.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            break
        length += len(line)
    file.truncate(length)
    file.seek(0, os.SEEK_END)
    return entries


def write_whole(path: Path, value: Any) -> None:
    """JSON in place of what stood there, whole or not at all."""
    try:
        with replace_file(path) as file:
            file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise OutputFailed(f"{path}: cannot be written: {error.strerror}") from error
