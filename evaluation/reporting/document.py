"""A report as a list of blocks, written as Markdown, as plain text, or as one HTML page (page.py)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    """Columns from the left that name what the others tell; those stand on the right of their cells."""


@dataclass(frozen=True)
class Picture:
    """An SVG file of the report."""

    file: str
    about: str
    """What it shows, for those who do not see it."""


Block = Heading | Text | Table | Picture


def markdown(blocks: Iterable[Block], *, pictures: str) -> str:
    """`pictures` is the folder of the pictures, as seen from the file."""
    return "\n\n".join(_markdown(block, pictures) for block in blocks) + "\n"


def _markdown(block: Block, pictures: str) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Picture(file, about):
            return f"![{about}]({pictures}/{file})"
        case Table(head, rows, names):
            rule = ["---" if place < names else "---:" for place in range(len(head))]
            return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in (head, rule, *rows))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def plain(table: Table) -> str:
    """For a terminal: columns in line."""
    lines = (table.head, *table.rows)
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.head))]
    return "\n".join(_aligned(line, widths, table.names) for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int], names: int) -> str:
    cells = zip(line, widths, strict=True)
    return "  ".join(
        text.ljust(width) if place < names else text.rjust(width) for place, (text, width) in enumerate(cells)
    ).rstrip()
