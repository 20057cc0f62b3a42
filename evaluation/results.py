"""What one evaluation found, as the JSON file that holds it and that evaluation/reporting/training_report.py reads."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from training.exceptions import DatasetError


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


class Bin(Part):
    """Options whose probability lies in one tenth of 0 to 1."""

    probability: float
    """Mean."""
    chosen: float
    """Share of them that users chose."""
    options: int


class Calibration(Part):
    error: float
    """Expected calibration error; 0 is best."""
    bins: tuple[Bin, ...]
    """Those that hold an option, lowest first."""


class Replies(Part):
    """How sampled replies were read (evaluation/cases/selections.py)."""

    kinds: dict[str, int]
    """How many of each kind; all but "selected" count as wrong."""
    unparsed: int
    """All but "selected"."""
    took_first: float | None
    """Share of the "selected" that took the item shown first; null where there is none."""


class Scores(Part):
    """One setting."""

    accuracy: Estimate
    """Share of users whose choice was found likelier than all other options; of k that tie, it counts 1/k."""
    probability: Estimate
    """Of what the user chose; with sampled replies 1 or 0."""
    auc: Estimate | None = None
    """Area under the ROC curve, pooled (evaluation/scoring/metrics.py); null for sampled replies."""
    calibration: Calibration | None = None
    """Null for sampled replies."""
    replies: Replies | None = None
    """Of protocol sampled."""
    position_bias: float | None = None
    """Mean distance between an item's probability in one order and its average over both."""
    aside: Estimate | None = None
    """Accuracy over the users that no feature of the fast profile was chosen on (evaluation/cases/held_out.py);
    null where none was kept aside."""
    margins: dict[str, Estimate] = {}
    """Accuracy less that of a baseline, paired by row, over the rows that tell the baseline."""
    by_kind: dict[str, Estimate] = {}
    """Accuracy by the kind of target, where the rows tell."""
    writing: Writing | None = None
    calls: int = 0
    """Answers the setting needs of the engine, also those that were kept of an earlier run or setting."""
    seconds: float = 0.0
    """Of this run alone: what was kept took none."""
    values: tuple[float, ...] = ()
    """The probability of each user's choice, in the order of `users`."""
    right: tuple[float, ...] = ()
    """What each user adds to `accuracy`."""


class Source(Part):
    """A file, checkpoint or engine, named so that one can tell whether it is still the same."""

    name: str
    sha256: str | None = None
    """Of a file's bytes or a checkpoint's weights and tokenizer; null for an engine behind a URL."""


class AnswerScores(Part):
    """Response generation in one setting: the model's answers against personalized references."""

    score: Estimate
    """A win counts 1, a tie .5, a loss 0."""
    wins: int
    ties: int
    losses: int
    empty: int
    """Answers without text; each is a loss."""
    position_bias: float | None
    """Mean distance between an answer's probability in one order and its average over both."""
    answer_tokens: float
    """Mean length of the answers that were judged."""
    by_kind: dict[str, Estimate] = {}
    writing: Writing | None = None
    calls: int = 0
    seconds: float = 0.0
    values: tuple[float, ...] = ()
    """What each user adds to `score`, in the order of `users`."""


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
    """Who wrote the summaries."""
    judge: Source | None
    """Who chose by them, or, of `answers`, who compared."""
    data: Source | None
    left_out: int = 0
    """Malformed rows of `data`."""
    shortened: int = 0
    """Users whose history lost its oldest part."""
    config: dict[str, Any]
    """Every option of the run."""
    summaries: Source | None = None
    """The file that summaries were taken from; `model` then is who wrote them."""
    versions: dict[str, str]
    templates: tuple[str, ...] = ()
    """Prompt templates that were used."""
    drawn: str = "rows"
    """What the bootstrap draws: rows, or whole users, questions or histories where several rows share one."""
    clusters: int | None = None
    """How many of these there are; null where rows are drawn."""
    users: tuple[str, ...] = ()
    """A digest of each row: two results with the same digests saw the same users."""
    kept_summaries: Source | None = None
    """The file that the run wrote its summaries to."""
    settings: dict[str, Scores] = {}
    answers: dict[str, AnswerScores] = {}
    """By setting, for rows with a question in place of a choice."""
    differences: dict[str, Estimate] = {}
    """Of accuracy, paired by user: "streaming - full"."""
    baselines: dict[str, Estimate] = {}
    """Accuracy without reading: random, longer wins, popularity (over rows that tell it), profile."""
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
            raise DatasetError(f"{path} is no result of evaluation: {_reason(error)}") from error


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
