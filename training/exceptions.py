"""Errors of a training run, apart from bugs.

TrainingError
├── ConfigError       a configuration file or override: names file, field and what is allowed
├── DatasetError      a data file: missing, unreadable, of the wrong kind
└── CheckpointError   a checkpoint: incomplete, of another run, not loadable

A failure after the weights are saved is a warning: see `warn_on_failure`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger("alignx.training")


class TrainingError(Exception):
    """A mistake that the user can correct; its text says how."""


class ConfigError(TrainingError):
    pass


class DatasetError(TrainingError):
    pass


class CheckpointError(TrainingError):
    pass


class PartEnded(Exception):  # no error: the run goes on with the same command
    """A part of a run has ended after `run.hours`."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"this part ends at step {step:,} of {steps:,}; the same command goes on")


@contextmanager
def warn_on_failure(act: str, safe: str, *, when: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turns a failure of `act` into a warning of one line: the cause, and what is `safe`.

    The only place that catches every exception. Use it for what follows the training, never for saving the
    weights. An exception that is raised while `when` is false passes through.
    """
    try:
        yield
    except Exception as error:
        if not when():
            raise
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        logger.warning("%s failed (%s); %s", act, cause, safe)
