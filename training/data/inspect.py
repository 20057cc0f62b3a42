"""Inspects a dataset before it is trained on: its kind, its figures, and known traps.

    python -m training.data.inspect rl.jsonl
    python -m training.data.inspect shards/ --kind upi --json

Reads the whole file in bounded memory: its kind, malformed rows with their reasons, lengths,
duplicates, balance, and warnings of known traps (audit.py). Prints figures and line numbers, never a
user's text. Exits with 1 when the data cannot be read, or with --strict when something is wrong.
"""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console, Group
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from training.data.audit import Found, Quality
from training.data.formats import KINDS, UNKNOWN, Row, kind_of
from training.data.reading import ReadReport, read, sample
from training.exceptions import DatasetError, TrainingError

STEP = 256
"""Rows between two moves of the progress bar."""


class Example(BaseModel):
    place: str
    reason: str


class Inspection(BaseModel):
    """All that `inspect` finds, as --json prints it."""

    path: str
    kind: str
    label: str
    malformed: dict[str, int]
    """Rows that cannot be used, by reason."""
    malformed_examples: list[Example]
    unread_fields: list[str]
    """Fields in the first rows that this kind has no use for."""
    found: Found
    warnings: list[str]


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(no_args_is_help=True)
def main(
    file: Annotated[Path, typer.Argument(help="JSON, JSON Lines (both also .gz), Parquet, or a folder of shards.")],
    kind: Annotated[str | None, typer.Option(help=f"Its kind: {', '.join(KINDS)}. Default: by its fields.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on a malformed row or a warning.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Inspects a dataset before it is trained on."""
    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind} is none of {', '.join(KINDS)}", param_hint="--kind")
    try:
        inspection = inspect(file, KINDS[kind or _detect_kind(file)], Console(stderr=True))
    except TrainingError as error:
        Console(stderr=True, highlight=False).print(Text(f"error: {error}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(inspection.model_dump_json(indent=2))
    else:
        Console(highlight=False).print(render(inspection))
    if strict and (inspection.malformed or inspection.warnings):
        raise typer.Exit(1)


def inspect(path: Path, kind: type[Row], progress_on: Console) -> Inspection:
    """Reads all of `path` as `kind`. Raises DatasetError, also when no row can be used."""
    report, quality = ReadReport(), Quality(kind)
    with _progress(progress_on) as progress:
        task = progress.add_task("reading", total=None)
        for row in read(path, kind, report=report):
            quality.add(row)
            if quality.rows % STEP == 0:
                progress.update(task, completed=report.bytes_read, total=report.bytes_total)
    return Inspection(
        path=str(path),
        kind=kind.kind,
        label=kind.label,
        malformed=dict(report.malformed.most_common()),
        malformed_examples=[Example(place=bad.place, reason=bad.reason) for bad in report.examples],
        unread_fields=sorted(report.unread),
        found=quality.found(),
        warnings=quality.warnings(),
    )


def _detect_kind(file: Path) -> str:
    kind = kind_of(sample(file))
    if kind == UNKNOWN:
        raise DatasetError(f"{file} looks like no known kind; name one with --kind: {', '.join(KINDS)}")
    return kind


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


# --- on the screen -----------------------------------------------------------------------------


def render(found: Inspection) -> Group:
    parts: list[Table | Text] = [_facts(found), Text(), _spreads(found.found)]
    if found.malformed:
        parts += [Text(), Text("Malformed rows", style="bold"), _malformed(found)]
        parts += [Text(f"  {bad.place}: {bad.reason}", style="dim") for bad in found.malformed_examples]
    parts.append(Text())
    if found.warnings:
        parts += [Text(f"warning: {warning}", style="yellow") for warning in found.warnings]
    else:
        parts.append(Text("No warning."))
    return Group(*parts)


def _facts(inspection: Inspection) -> Table:
    table, found = Table.grid(padding=(0, 2)), inspection.found
    facts = [
        ("kind", f"{inspection.kind}: {inspection.label} rows"),
        ("rows", f"{found.rows:,}"),
        ("malformed", f"{sum(inspection.malformed.values()):,}"),
        ("duplicates", f"{found.duplicates:.2%}" + ("" if found.duplicates_exact else ", estimated")),
    ]
    if found.commonest_query is not None:
        facts.append(("most frequent query", f"{found.commonest_query:.1%} of all queries"))
    if found.chosen_longer is not None:
        facts.append(("chosen is longer", f"{found.chosen_longer:.1%}"))
    if found.letters:
        facts.append(("letter replies", _counts(found.letters)))
    if found.directions:
        facts += [
            ("directions", f"{found.directions.rows:,} rows; {found.directions.all_neutral:,} neutral throughout"),
            ("direction values", _counts(found.directions.values)),
            ("dimensions never set", f"{len(found.directions.never_set)} of 90"),
        ]
    if inspection.unread_fields:
        facts.append(("fields not read", ", ".join(name[:40] for name in inspection.unread_fields[:12])))
    for name, value in facts:
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _counts(values: dict[str, int]) -> str:
    total = sum(values.values())
    return ", ".join(f"{name}: {count / total:.1%}" for name, count in values.items())


def _spreads(found: Found) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("")
    for heading in ("least", "10 %", "median", "90 %", "most", "mean"):
        table.add_column(heading, justify="right")
    for name, spread in found.spreads.items():
        values = (spread.least, spread.p10, spread.median, spread.p90, spread.most, spread.mean)
        table.add_row(name, *(f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}" for value in values))
    return table


def _malformed(found: Inspection) -> Table:
    table = Table.grid(padding=(0, 2))
    for reason, count in found.malformed.items():
        table.add_row(f"{count:,}", Text(reason))
    return table


if __name__ == "__main__":
    app()
