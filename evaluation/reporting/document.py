"""A report as a list of blocks, written as Markdown; a table also as plain text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evaluation.results import Estimate

NONE = "–"


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` stands between backticks."""

    text: str


@dataclass(frozen=True)
class Table:
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    """Columns of names on the left; the other columns are aligned right."""


@dataclass(frozen=True)
class Picture:
    file: str
    about: str
    """What it shows, for readers who do not see it."""


Block = Heading | Text | Table | Picture


def percent(value: Estimate) -> str:
    return f"{100 * value.mean:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"


def points(value: Estimate) -> str:
    return f"{100 * value.mean:+.1f} ({100 * value.low:+.1f} to {100 * value.high:+.1f})"


def markdown(blocks: Iterable[Block]) -> str:
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Picture(file, about):
            return f"![{about}]({file})"
        case Table(head, rows, names):
            rule = ["---" if column < names else "---:" for column in range(len(head))]
            return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in (head, rule, *rows))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def plain(table: Table) -> str:
    """For a terminal: aligned columns."""
    lines = (table.head, *table.rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.head))]
    return "\n".join(_align(line, widths, table.names) for line in lines)


def _align(line: Sequence[str], widths: Sequence[int], names: int) -> str:
    cells = zip(line, widths, strict=True)
    return "  ".join(
        text.ljust(width) if column < names else text.rjust(width) for column, (text, width) in enumerate(cells)
    ).rstrip()
