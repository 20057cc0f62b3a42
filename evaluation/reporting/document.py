"""Figures and tables as text: Markdown for reports, aligned columns for a terminal."""

from dataclasses import dataclass

from evaluation.cases.halves import HALVES
from evaluation.results import Estimate

NONE = "–"


def percent(value: Estimate) -> str:
    return f"{100 * value.mean:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"


def percents(value: Estimate) -> tuple[str, ...]:
    """Over all rows and over each half."""
    parts = (value, *(value.halves.get(half) for half in HALVES))
    return tuple(f"{percent(part)}, {part.rows:,}" if part else NONE for part in parts)


def points(value: Estimate) -> str:
    return f"{100 * value.mean:+.1f} ({100 * value.low:+.1f} to {100 * value.high:+.1f})"


@dataclass(frozen=True)
class Table:
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    """Columns of names on the left; the other columns are aligned right."""

    def markdown(self) -> str:
        rule = ["---" if column < self.names else "---:" for column in range(len(self.head))]
        return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in (self.head, rule, *self.rows))

    def plain(self) -> str:
        lines = (self.head, *self.rows)
        columns = []
        for number, column in enumerate(zip(*lines, strict=True)):
            width = max(map(len, column))
            columns.append([text.ljust(width) if number < self.names else text.rjust(width) for text in column])
        return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
