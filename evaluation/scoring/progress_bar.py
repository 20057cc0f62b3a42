"""Progress bars on a terminal; no output elsewhere."""

import sys
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evaluation.models import Tick


class ProgressBar:
    """A line for each setting."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def add(self, name: str, total: int) -> Tick:
        task = self._progress.add_task(name, total=total)
        return lambda done: self._progress.advance(task, done)
