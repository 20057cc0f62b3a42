"""The configuration of a synthesis run: `training/configs/synthesize.toml`, read by `training.config.load`."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from training.config import Fraction, PositiveInt, Prompts, Section
from training.exceptions import ConfigError

Seconds = Annotated[float, Field(gt=0)]


class EngineAt(Section):
    """A language model behind a URL, with its timeouts and retries."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    """An OpenAI-compatible base URL, such as `http://127.0.0.1:8000/v1`."""
    model: str | None = None
    """Model name to ask for; default: the first one the engine lists."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; default: no key is sent."""
    concurrency: PositiveInt = 32
    """Concurrent calls; more wait."""
    connect_timeout_s: Seconds = 10.0
    read_timeout_s: Seconds = 300.0
    """Longest silence within one answer."""
    retries: Annotated[int, Field(ge=0)] = 8
    """Retries of a call to an overloaded or silent engine before the run ends."""
    backoff_s: Seconds = 1.0
    """Wait before the first retry; it doubles each time, up to a minute, with random jitter."""

    def key(self) -> SecretStr | None:
        """Raises ConfigError when the variable is not set."""
        if self.api_key_env is None:
            return None
        value = os.environ.get(self.api_key_env)
        if not value:
            raise ConfigError(f"api_key_env: the environment variable {self.api_key_env} is not set")
        return SecretStr(value)


class Candidates(Section):
    """Sampling of the teacher."""

    count: PositiveInt = 4
    """Summaries drafted for each row, each guided by all targets."""
    per_target: bool = False
    """Drafts one summary for each target instead, guided by that alone, as published."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.6
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    top_k: Annotated[int, Field(ge=0)] = 20
    """0 for no limit; an engine other than vLLM may not take it."""
    max_tokens: PositiveInt = 4096
    """Of one reply, reasoning included; a truncated reply is refused."""
    max_chars: Annotated[int, Field(ge=200)] = 6000
    """Of a summary; a longer one ends at the last whole sentence."""


class History(Section):
    least: Annotated[int, Field(ge=3)] = 9
    """Interactions below which a user is left out: the history is cut in three."""
    most: Annotated[int, Field(ge=3)] = 300
    """At most so many of the latest interactions."""
    tokens: Annotated[int, Field(ge=256)] = 10_000
    """Estimated tokens of the events of one prompt; the oldest are dropped first."""
    past_tokens: Annotated[int, Field(ge=64)] = 1024
    """Estimated tokens of the past summary in the prompt of the streaming row."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.most < self.least:
            raise ValueError(f"most {self.most} is less than least {self.least}")
        return self


class Targets(Section):
    """Which of the later choices a summary is tested on."""

    scorer: Literal["profile", "sequence"] = "profile"
    """What predicts a choice: the fast profile, without a call, or the judge, which reads the choices
    before it: two calls an interaction."""
    threshold: Fraction = 0.6
    """Probability from which a choice counts as well predictable."""
    least: PositiveInt = 2
    """Fewest targets of a row; a user with fewer gets none."""
    most: PositiveInt = 6
    """The most predictable ones are taken."""
    recent_tokens: Annotated[int, Field(ge=256)] = 3000
    """Estimated tokens of recent history that the scorer `sequence` reads."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.most < self.least:
            raise ValueError(f"most {self.most} is less than least {self.least}")
        return self


class Checks(Section):
    first: Fraction = 0.5
    """Share of the targets that the judge must get right from a draft. Lower than `second`: a merge joins
    drafts that are right about different choices."""
    second: Fraction = 0.8
    """The same share for the summary of a row."""
    leak_words: Annotated[int, Field(ge=3)] = 6
    """A reply that repeats so many words in a row of a target, or the whole of a shorter one of at
    least two, is refused, unless the events say them too."""
    whole_users: bool = False
    """Leaves out the first row of a user whose streaming row failed."""


class Synthesis(Section):
    """One run: users in, rows of supervised fine-tuning out."""

    input: Path
    """Users: a file or folder of AlignXplore+ behaviours, UPI or AlignXplore+ RL rows."""
    output: Path
    """Rows `{"prompt", "completion"}`, as JSON Lines; journal, answers and report are beside it."""
    cache: Path | None = None
    """Answers of the engines; default: `<output>.answers.sqlite`. Runs may share one, not at once."""
    limit: PositiveInt | None = None
    """Reads at most this many users."""
    malformed: Literal["skip", "fatal"] = "skip"
    """Whether a malformed row is counted and left out, or ends the run."""
    users_at_once: PositiveInt = 32
    """Concurrent users; they are written in the order of the input."""
    teacher: EngineAt
    judge: EngineAt
    prompts: Prompts = "own"
    """What the model reads that is trained on the rows; the teacher's own prompts are the same for all."""
    selection_prompts: Prompts = "own"
    """What the judge reads."""
    candidates: Candidates = Candidates()
    history: History = History()
    targets: Targets = Targets()
    checks: Checks = Checks()
