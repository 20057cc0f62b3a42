"""Summaries on disk, so that another engine can choose by them: `save_summaries` and `summaries` of a run.

JSON Lines: a line for each user and setting, with the model that wrote the summary. Users are found by the digest of
their row, or of their history: a summary written for selection also serves recommendation to the same user. The
file holds text about users; the result of a run does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from evaluation.cases.cases import User
from evaluation.cases.perturbations import pick_other_users
from evaluation.model_sources import file_source
from evaluation.results import Part, Source
from training.data.reading import reason
from training.data.whole_file import replace_file
from training.exceptions import ConfigError, DatasetError

SAVED_SETTINGS: Final = ("full", "streaming", "flipped", "drifted", "mixed")
_USE_FULL: Final = ("full", "other", "fused")
"""Settings that read the summaries of setting full."""


class SavedSummary(Part):
    """One line."""

    user: str
    """Digest of the row."""
    history: str
    """Digest of the history."""
    setting: str
    summary: str | None
    """Null where no reply held one."""
    model: Source


@dataclass(frozen=True)
class SavedSummaries:
    """The summaries of one model."""

    source: Source
    model: Source
    by_setting: Mapping[str, Mapping[str, str | None]]
    """By setting, then by the digest of a row and by that of its history."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings that can be measured with them."""
        return (*self.by_setting, *(("other", "fused") if "full" in self.by_setting else ()))

    def for_users(self, setting: str, users: Sequence[User]) -> list[str | None]:
        """In the order of the users.

        Raises ConfigError where one is missing, and in setting other where all users have the same history.
        """
        saved = self.by_setting.get("full" if setting in _USE_FULL else setting, {})
        keys = [user.digest if user.digest in saved else user.history_digest for user in users]
        if missing := sum(key not in saved for key in keys):
            raise ConfigError(
                f"summaries {self.source.name} has none of setting {setting} for {missing} of {len(users)} users of "
                f"data, neither of the row nor of its history; it has settings {', '.join(self.by_setting)}"
            )
        summaries = [saved[key] for key in keys]
        return [summaries[index] for index in pick_other_users(users)] if setting == "other" else summaries

    @classmethod
    def read(cls, path: Path) -> "SavedSummaries":
        """Raises DatasetError."""
        by_setting: dict[str, dict[str, str | None]] = {}
        models: dict[Source, None] = {}
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    saved = SavedSummary.model_validate_json(line)
                except ValidationError as error:
                    raise DatasetError(f"{path}, line {number}: {reason(error)}") from error
                summaries = by_setting.setdefault(saved.setting, {})
                summaries[saved.user] = saved.summary
                summaries.setdefault(saved.history, saved.summary)  # the first of several rows with this history
                models[saved.model] = None
        if len(models) != 1:
            raise DatasetError(f"{path} holds summaries of {len(models)} models; exactly one is needed")
        return cls(file_source(path), next(iter(models)), by_setting)


def save_summaries(
    path: Path, model: Source, users: Sequence[User], by_setting: Mapping[str, Sequence[str | None]]
) -> None:
    with replace_file(path) as file:
        for setting, summaries in by_setting.items():
            for user, summary in zip(users, summaries, strict=True):
                keys = {"user": user.digest, "history": user.history_digest}
                line = SavedSummary(**keys, setting=setting, summary=summary, model=model).model_dump_json()
                file.write(f"{line}\n".encode())
