"""What one evaluation found, as the JSON file that holds it and that training/report.py reads."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import DatasetError


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Estimate(Part):
    """A mean over `rows` users with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    rows: int


class Writing(Part):
    """How the summaries of a setting were written."""

    replies: int
    well_formed: float | None
    """Share of replies that are <think>…</think> and then text; null where no model wrote."""
    usable: float | None
    """Share of replies of which serving would keep a summary. After the others the summary stays as
    it was: at first there is none."""
    summary_tokens: float
    """Mean length of the summaries that were judged."""


class Scores(Part):
    """One setting."""

    accuracy: Estimate
    """Share of users whose choice got more than half of the probability; a tie counts half."""
    probability: Estimate
    """Of what the user chose."""
    position_bias: float | None = None
    """Mean distance between an item's probability in one order and its average over both."""
    by_kind: dict[str, Estimate] = {}
    """Accuracy by the kind of target, where the rows tell."""
    writing: Writing | None = None
    calls: int = 0
    """Answers the engine gave, kept ones of an earlier run left out."""
    seconds: float = 0.0
    values: tuple[float, ...] = ()
    """The probability of each user's choice, in the order of `users`."""


class Source(Part):
    """A file, checkpoint or engine, named so that one can tell whether it is still the same."""

    name: str
    sha256: str | None = None
    """Of a file's bytes or a checkpoint's weights and tokenizer; null for an engine behind a URL."""


class AlignmentScores(Part):
    """Alignment accuracy over preference pairs."""

    data: Source
    reference: Source
    beta: float
    alignment: Estimate
    """Share of pairs with β·[(log π/π_ref)(chosen) - (log π/π_ref)(rejected)] > 0, a tie half: the
    reference itself scores .5."""
    policy_prefers: Estimate
    """Share with log π(chosen) > log π(rejected)."""
    reference_prefers: Estimate
    gain: Estimate
    """policy_prefers less reference_prefers, pair by pair."""
    policy_prefers_by_token: Estimate
    """The same with the mean over a reply's tokens, which does not favour the shorter reply."""
    reference_prefers_by_token: Estimate
    gain_by_token: Estimate
    seconds: float = 0.0


class EvaluationResult(Part):
    format: Literal["alignx-evaluation/1"] = "alignx-evaluation/1"
    stage: str
    created_at: datetime
    seconds: float
    model: Source | None
    judge: Source | None
    data: Source | None
    left_out: int = 0
    """Malformed rows of `data`."""
    shortened: int = 0
    """Users whose history lost its oldest part."""
    config: dict[str, Any]
    """Every option of the run."""
    versions: dict[str, str]
    templates: tuple[str, ...] = ()
    """Prompt templates that were used."""
    users: tuple[str, ...] = ()
    """A digest of each row: two results with the same digests saw the same users."""
    settings: dict[str, Scores] = {}
    differences: dict[str, Estimate] = {}
    """Of accuracy, paired by user: "streaming - full"."""
    baselines: dict[str, Estimate] = {}
    alignment: AlignmentScores | None = None

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.unfinished")
        with unfinished.open("w", encoding="utf-8") as out:
            out.write(self.model_dump_json(indent=1))
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises DatasetError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DatasetError(f"{path} is no result of training.evaluate: {_reason(error)}") from error


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
