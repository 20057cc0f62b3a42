"""The result of one evaluation, as a JSON file; evaluation/reporting reads it."""

from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluation.cases.halves import Half
from training.data.reading import reason
from training.data.whole_file import replace_file
from training.exceptions import DatasetError


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class JsonFile(Part):
    label: ClassVar[str]

    def save(self, path: Path) -> None:
        with replace_file(path) as file:
            file.write(self.model_dump_json(indent=1).encode())

    @classmethod
    def read_from(cls, path: Path) -> Self:
        """Raises DatasetError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            problem = reason(error) if isinstance(error, ValidationError) else error.strerror
            raise DatasetError(f"{path} is no {cls.label}: {problem}") from error


class Estimate(Part):
    """A mean over `rows` users with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    rows: int
    halves: dict[Half, Self] = {}
    """The same over each half of the users (evaluation/cases/halves.py); none for UPI rows."""


class Writing(Part):
    """Statistics of the summaries of a setting."""

    replies: int
    well_formed: float | None
    """Share of replies of the form <think>…</think> and text; null where no model wrote."""
    usable: float | None
    """Share of replies from which serving takes a summary; after another reply the past summary stays."""
    summary_tokens: float
    """Mean length of the summaries that the judge read."""


class Replies(Part):
    """How sampled replies were parsed (evaluation/cases/selections.py)."""

    unparsed: int
    """Those that select nothing, and count as wrong."""
    took_first: float | None
    """Share of the others that name the item shown first; null where there is none."""


class Scores(Part):
    """One setting."""

    accuracy: Estimate
    """Share of users whose choice scores highest; 1/k where it ties with k - 1 other options."""
    probability: Estimate
    """Of the user's choice; with sampled replies 1 or 0."""
    auc: Estimate | None = None
    """Area under the ROC curve, pooled (evaluation/scoring/calibration.py); null for sampled replies."""
    calibration_error: float | None = None
    """Expected calibration error, 0 is best; null for sampled replies."""
    replies: Replies | None = None
    """Of protocol sampled."""
    position_bias: float | None = None
    """Mean distance between an item's probability in one order and its average over both."""
    margins: dict[str, Estimate] = {}
    """Accuracy less that of a baseline, paired by row, over the rows that have the baseline."""
    by_kind: dict[str, Estimate] = {}
    """Accuracy by the kind of target, where the rows name it."""
    writing: Writing | None = None
    calls: int = 0
    """Answers of the engine that the setting needs, stored ones included."""
    seconds: float = 0.0
    """Of this run; stored answers take none."""
    values: tuple[float, ...] = ()
    """The probability of each user's choice, in the order of `users`."""
    right: tuple[float, ...] = ()
    """Each user's part of `accuracy`."""


class Source(Part):
    """A file, checkpoint or engine."""

    name: str
    sha256: str | None = None
    """Of a file, or of a checkpoint's weights and tokenizer; null for an engine behind a URL."""


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
    """Mean length of the judged answers."""
    by_kind: dict[str, Estimate] = {}
    writing: Writing | None = None
    calls: int = 0
    seconds: float = 0.0
    values: tuple[float, ...] = ()
    """Each user's part of `score`, in the order of `users`."""


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
    gain_by_token: Estimate
    """The same by the mean over a reply's tokens, which does not favour the shorter reply."""
    seconds: float = 0.0


class EvaluationResult(JsonFile):
    label: ClassVar[str] = "result of evaluation"

    format: Literal["alignx-evaluation/2"] = "alignx-evaluation/2"
    stage: str
    created_at: datetime
    seconds: float
    model: Source | None
    """Wrote the summaries."""
    judge: Source | None
    """Chose by them, or compared the answers."""
    data: Source | None
    left_out: int = 0
    """Malformed rows of `data`."""
    shortened: int = 0
    """Users whose history lost its oldest part."""
    config: dict[str, Any]
    """The configuration of the run (evaluation/config.py)."""
    summaries: Source | None = None
    """The file of summaries that the judge read; `model` wrote them."""
    versions: dict[str, str]
    templates: tuple[str, ...] = ()
    """Prompt templates in use."""
    drawn: str = "rows"
    """Unit of the bootstrap: rows, or users, questions or histories where several rows share one."""
    clusters: int | None = None
    """Number of units; null for rows."""
    users: tuple[str, ...] = ()
    """A digest of each row: results with equal digests are of the same users."""
    settings: dict[str, Scores] = {}
    answers: dict[str, AnswerScores] = {}
    """By setting, for rows with a question instead of a choice."""
    differences: dict[str, Estimate] = {}
    """Of accuracy, paired by user: "streaming - full"."""
    baselines: dict[str, Estimate] = {}
    """Accuracy of random, longer wins, popularity (over the rows that have it) and profile."""
    alignment: AlignmentScores | None = None
    measures: dict[str, Estimate] = {}
    """Of restraint and drift, by name."""
