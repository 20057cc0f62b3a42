"""What a run of evaluation measures: one typed TOML (evaluation/configs), read by training/config.py."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evaluation.cases.halves import Half
from evaluation.conditions import FUSED_SETTINGS, LIKELIHOOD_SETTINGS, PROFILE_SETTINGS, Protocol, Setting
from evaluation.model_sources import LocalPath, Location, checkpoint_source, is_url
from evaluation.models import Placement
from training.config import PositiveInt, Section
from training.data.preference_pairs import Mode
from training.exceptions import ConfigError

Settings = Annotated[tuple[Setting, ...], Field(min_length=1)]


class Benchmarks(Section):
    """Many benchmarks in one folder: `out` holds their rows, results and answers."""

    official: LocalPath | None = None
    """Folder with official files (evaluation/benchmark_parts.py), which are converted first; default: the rows that
    `out` holds already."""
    names: tuple[str, ...] = ()
    """Which of them; default: all that `official` holds. "synthetic" makes rows of the synthetic world."""
    sampled: tuple[Setting, ...] = ()
    """Settings that are measured again with sampled replies, as run `<stage> sampled`."""
    synthetic: tuple[Setting, ...] = ()
    """Further settings on the synthetic world, whose rows tell more."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if self.official is None and not self.names:
            raise ValueError("set official or names")
        return self


class Alignment(Section):
    """Alignment accuracy of `model` on preference pairs."""

    data: LocalPath
    """Pairs of messages; with `mode`, AlignX rows."""
    reference: Location
    """Checkpoint folder that `model` is compared with."""
    mode: Mode | None = None
    """Makes pairs of AlignX rows, with the prompts of training.dpo."""


class Evaluation(Section):
    out: LocalPath
    """The result, a JSON file; with `benchmarks` their folder."""
    stage: str = ""
    """Name of the run in reports; default: after the model, or "profile"."""
    model: Location | None = None
    """Checkpoint folder or URL; default: the fast profile alone."""
    judge: Location | None = None
    """Checkpoint folder or URL that chooses; default: the model."""
    data: LocalPath | None = None
    """UPI or benchmark rows of held-out users."""
    benchmarks: Benchmarks | None = None
    alignment: Alignment | None = None
    half: Literal["both", Half] = "both"
    """Which half of the users of benchmark rows is measured (evaluation/cases/halves.py)."""
    limit: PositiveInt | None = None
    """At most this many users of each file, and pairs."""
    settings: Settings | None = None
    """Default: all that the model and the rows allow, of the fast profile "profile" alone."""
    suites: bool = False
    """Measures restraint and drift (evaluation/suites), which need no data."""
    variants: bool = False
    """Without `settings`: the fast profile in all its variants."""
    summaries: LocalPath | None = None
    """Summaries that another run saved; `judge` chooses by them and `model` is not set."""
    save_summaries: LocalPath | None = None
    """Writes the summaries there, as JSON Lines."""
    answers: LocalPath | None = None
    """Stored answers of the model; default: beside `out`."""
    report: LocalPath | None = None
    """Folder for accuracy.md of all results in `out`; without anything to measure, only that is written."""
    protocol: Protocol = Protocol()
    placement: Placement = Placement()

    @property
    def has_judge(self) -> bool:
        return self.model is not None or self.summaries is not None

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.benchmarks and (self.data or self.alignment):
            raise ValueError("benchmarks excludes data and alignment")
        if not (self.data or self.alignment or self.benchmarks or self.suites or self.report):
            raise ValueError("nothing to measure: set data, alignment, benchmarks or suites")
        if self.alignment and not self.model:
            raise ValueError("alignment compares model with alignment.reference; set model")
        if self.summaries and (self.model or not self.judge):
            raise ValueError("summaries replaces model; set judge, which chooses by them, and not model")
        if self.save_summaries and not (self.model and self.data):
            raise ValueError("save_summaries needs model and data")
        if problem := self._problem_of_settings():
            raise ValueError(problem)
        return self

    def _problem_of_settings(self) -> str | None:
        settings = self.settings or ()
        if not self.has_judge and any(setting not in PROFILE_SETTINGS for setting in settings):
            return f"settings other than {', '.join(PROFILE_SETTINGS)} need a model"
        for needed, names, allowed in (
            ("forced or likelihood", FUSED_SETTINGS, ("forced", "likelihood")),
            ("likelihood", LIKELIHOOD_SETTINGS, ("likelihood",)),
        ):
            if self.protocol.choice not in allowed and (lacking := [name for name in settings if name in names]):
                return f"settings {', '.join(lacking)}: need protocol.choice {needed}"
        return None

    def check_files(self) -> None:
        """Raises TrainingError for a model or file that does not exist, before anything loads."""
        reference = self.alignment.reference if self.alignment else None
        for location in (self.model, self.judge, reference):
            if location and not is_url(location):
                checkpoint_source(Path(location))
        for path in (self.data, self.alignment and self.alignment.data, self.summaries):
            if path and not path.exists():
                raise ConfigError(f"{path} does not exist")
