"""Summaries on disk, so that another engine can choose by them: `--keep-summaries`, `--summaries`.

JSON Lines, one summary of one user in one setting a line, with who wrote it. Users are known by the
digest of their row, and in rows of another task by that of their history: a summary made for selection
serves recommendation to the same user, and the other way round. The file holds what a model wrote of
users; the result of a run never does.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from evaluation.cases.cases import User
from evaluation.cases.perturbations import others
from evaluation.model_sources import file_sha256, named
from evaluation.results import EvaluationResult, Part, Source
from training.exceptions import ConfigError, DatasetError

KEPT: Final = ("full", "streaming", "flipped", "drifted", "mixed")
_FROM_FULL: Final = ("full", "other", "fused")


class KeptSummary(Part):
    """One line."""

    user: str
    """Digest of the row."""
    history: str
    """Digest of the history."""
    setting: str
    summary: str | None
    """Null where no reply held one."""
    model: Source
    """Who wrote it."""


@dataclass(frozen=True)
class KeptSummaries:
    """The summaries of one model."""

    source: Source
    model: Source
    found: Mapping[str, Mapping[str, str | None]]
    """By setting, then by the digest of a row and by that of its history."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Which settings can be measured with them."""
        derived = ("other", "fused") if "full" in self.found else ()
        return (*self.found, *derived)

    def of(self, setting: str, users: Sequence[User]) -> list[str | None]:
        """Of each user, in their order. Raises ConfigError where one is missing, and in setting other where
        all users have the same history."""
        kept = self.found.get("full" if setting in _FROM_FULL else setting, {})
        keys = [user.digest if user.digest in kept else user.history_digest for user in users]
        missing = sum(key not in kept for key in keys)
        if missing:
            raise ConfigError(
                f"--summaries {self.source.name} has none of setting {setting} for {missing} of {len(users)} users of "
                f"--data, neither of the row nor of its history; it has settings {', '.join(self.found)}"
            )
        summaries = [kept[key] for key in keys]
        if setting != "other":
            return summaries
        strangers = others(users)
        if strangers is None:
            raise ConfigError("setting other needs users with different histories")
        return [summaries[place] for place in strangers]

    @classmethod
    def read(cls, path: Path) -> "KeptSummaries":
        """From a file of summaries, or from the result of the run that wrote one. Raises DatasetError."""
        path = _file_of(path)
        found: dict[str, dict[str, str | None]] = {}
        models: dict[Source, None] = {}
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    kept = KeptSummary.model_validate_json(line)
                except ValidationError as error:
                    first = error.errors(include_url=False, include_input=False)[0]
                    where = ".".join(map(str, first["loc"]))
                    raise DatasetError(
                        f"{path}, line {number}: {where}: {first['msg']}".replace(": : ", ": ")
                    ) from error
                of_setting = found.setdefault(kept.setting, {})
                of_setting[kept.user] = kept.summary
                of_setting.setdefault(kept.history, kept.summary)  # of several rows of one history the first
                models[kept.model] = None
        if len(models) != 1:
            raise DatasetError(f"{path} holds summaries of {len(models)} models; exactly one is needed")
        return cls(Source(name=named(path), sha256=file_sha256(path)), next(iter(models)), found)


def _file_of(path: Path) -> Path:
    """The file of summaries itself, also where `path` is the result that names it."""
    try:
        with path.open("rb") as content:
            whole = b'"alignx-evaluation/' in content.read(256)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    if not whole:
        return path
    result = EvaluationResult.read(path)
    if result.kept_summaries is None:
        raise DatasetError(f"{path} is the result of a run without --keep-summaries")
    name = Path(result.kept_summaries.name)
    for candidate in (name, path.parent / name.name):
        if candidate.is_file() and file_sha256(candidate) == result.kept_summaries.sha256:
            return candidate
    raise DatasetError(
        f"{path} names {name} with its summaries, and no such file with that content is there or beside it"
    )


def keep(path: Path, model: Source, users: Sequence[User], found: Mapping[str, Sequence[str | None]]) -> Source:
    """Writes the summaries of each setting, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("w", encoding="utf-8") as out:
        for setting, summaries in found.items():
            for user, summary in zip(users, summaries, strict=True):
                keys = {"user": user.digest, "history": user.history_digest}
                out.write(KeptSummary(**keys, setting=setting, summary=summary, model=model).model_dump_json() + "\n")
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(path)
    return Source(name=named(path), sha256=file_sha256(path))
