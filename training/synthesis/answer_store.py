"""The answers of the engines on disk: one SQLite file, each answer under the hash of its question.

A killed process loses nothing that was stored. Several runs may share one file.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import orjson

from training.exceptions import TrainingError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, role TEXT NOT NULL, answer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    role TEXT PRIMARY KEY, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
);
"""
_BUSY_S = 60.0


class StoreFailed(TrainingError):
    pass


class AnswerStore:
    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Raises StoreFailed for a file that is no store or a folder that cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreFailed(f"{path}: cannot be opened: {error}") from error
        try:
            store = cls(path, connection)
            store._do("PRAGMA journal_mode=WAL")
            store._do("PRAGMA synchronous=NORMAL")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                store._do(statement)
            yield store
        finally:
            connection.close()

    def get(self, key: str) -> Any:
        """The answer, or None."""
        rows = self._do("SELECT answer FROM answers WHERE key = ?", key)
        return orjson.loads(rows[0][0]) if rows else None

    def put(self, key: str, role: str, answer: Any) -> None:
        self._do("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", key, role, orjson.dumps(answer))

    def spend(self, role: str, prompt_tokens: int, completion_tokens: int) -> None:
        self._do(
            "INSERT INTO spent VALUES (?1, ?2, ?3) ON CONFLICT (role) DO UPDATE"
            " SET prompt_tokens = prompt_tokens + ?2, completion_tokens = completion_tokens + ?3",
            role,
            prompt_tokens,
            completion_tokens,
        )

    def totals(self) -> dict[str, dict[str, int]]:
        """By role: answers kept, and the tokens spent for them in all runs."""
        rows = self._do(
            "SELECT role, COUNT(*), COALESCE(prompt_tokens, 0), COALESCE(completion_tokens, 0)"
            " FROM answers LEFT JOIN spent USING (role) GROUP BY role ORDER BY role"
        )
        names = ("answers", "prompt_tokens", "completion_tokens")
        return {role: dict(zip(names, counts, strict=True)) for role, *counts in rows}

    def _do(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path}: cannot be used as a store of answers: {error}") from error
