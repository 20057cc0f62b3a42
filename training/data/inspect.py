"""Inspects a dataset before it is trained on: its kind, its figures, and known traps.

    python -m training.data.inspect rl.jsonl
    python -m training.data.inspect shards/ --kind upi --json
    python -m training.data.inspect train.jsonl --against heldout.jsonl --show 3

Reads the whole file in bounded memory: its kind, malformed rows with their reasons, lengths,
duplicates, balance, and warnings of known traps (audit.py). Prints figures and line numbers, and a
user's text only with --show. Of rows that training/corpus made: the kinds of events and sentences, the
share of sentences that rest on events, and with --against what both files have. Exits with 1 when the
data cannot be read, or with --strict when something is wrong.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console, Group
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from training.data.audit import Figures, Quality
from training.data.formats import KINDS, Row, SftRow
from training.data.published import UNKNOWN, kind_of
from training.data.reading import ReadReport, read, sample
from training.exceptions import DatasetError, TrainingError

STEP = 256
"""Rows between two moves of the progress bar."""


class Example(BaseModel):
    location: str
    reason: str


class Inspection(BaseModel):
    """The result of `inspect`, as --json prints it."""

    path: str
    kind: str
    label: str
    malformed: dict[str, int]
    """Rows that cannot be used, by reason."""
    malformed_examples: list[Example]
    unread_fields: list[str]
    """Fields in the first rows that this kind does not read."""
    figures: Figures
    warnings: list[str]
    leaks: dict[str, int] | None = None
    """Topics, titles and phrasings that the other file has as well."""


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(no_args_is_help=True)
def main(
    file: Annotated[Path, typer.Argument(help="JSON, JSON Lines (both also .gz), Parquet, or a folder of shards.")],
    kind: Annotated[str | None, typer.Option(help=f"Its kind: {', '.join(KINDS)}. Default: by its fields.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on a malformed row or a warning.")] = False,
    against: Annotated[Path | None, typer.Option(help="A file that should share no topic with this one.")] = None,
    show: Annotated[int, typer.Option(min=0, help="Print so many rows, with their texts.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Inspects a dataset before it is trained on."""
    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind} is none of {', '.join(KINDS)}", param_hint="--kind")
    try:
        inspection = inspect(file, KINDS[kind or _detect_kind(file)], Console(stderr=True), against)
    except TrainingError as error:
        Console(stderr=True, highlight=False).print(Text(f"error: {error}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(inspection.model_dump_json(indent=2))
    else:
        Console(highlight=False).print(render(inspection), *_rows(file, KINDS[inspection.kind], show))
    if strict and (inspection.malformed or inspection.warnings):
        raise typer.Exit(1)


def inspect(path: Path, kind: type[Row], progress_on: Console, against: Path | None = None) -> Inspection:
    """Reads all of `path` as `kind`, and of `against`. Raises DatasetError, also when no row can be used."""
    report, quality = _measure(path, kind, progress_on)
    other = _measure(against, kind, progress_on)[1] if against else None
    return Inspection(
        path=str(path),
        kind=kind.kind,
        label=kind.label,
        malformed=dict(report.malformed.most_common()),
        malformed_examples=[Example(location=bad.location, reason=bad.reason) for bad in report.examples],
        unread_fields=sorted(report.unread),
        figures=quality.figures(),
        warnings=quality.warnings(),
        leaks=quality.origin.leaks(other.origin) if other else None,
    )


def _measure(path: Path, kind: type[Row], progress_on: Console) -> tuple[ReadReport, Quality]:
    report, quality = ReadReport(), Quality()
    with _progress(progress_on) as progress:
        task = progress.add_task("reading", total=None)
        for row in read(path, kind, report=report):
            quality.add(row)
            if quality.rows % STEP == 0:
                progress.update(task, completed=report.bytes_read, total=report.bytes_total)
    return report, quality


def _rows(path: Path, kind: type[Row], count: int) -> Iterator[Text]:
    """The first rows with their texts; behind a sentence, the events that it rests on."""
    for row in islice(read(path, kind), count):
        parts = [*row.texts()]
        if isinstance(row, SftRow) and row.origin:
            parts += [f"{claim.events} {claim.kind}: {claim.text}" for claim in row.origin.claims]
        yield Text("\n" + "\n".join(parts))


def _detect_kind(file: Path) -> str:
    kind = kind_of(sample(file))
    if kind == UNKNOWN:
        raise DatasetError(f"{file} looks like no known kind; name one with --kind: {', '.join(KINDS)}")
    return kind


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


# --- on the screen -----------------------------------------------------------------------------


def render(inspection: Inspection) -> Group:
    parts: list[Table | Text] = [_facts(inspection), Text(), _spreads(inspection.figures)]
    if inspection.malformed:
        parts += [Text(), Text("Malformed rows", style="bold"), _malformed(inspection)]
        parts += [Text(f"  {bad.location}: {bad.reason}", style="dim") for bad in inspection.malformed_examples]
    parts.append(Text())
    if inspection.warnings:
        parts += [Text(f"warning: {warning}", style="yellow") for warning in inspection.warnings]
    else:
        parts.append(Text("No warning."))
    return Group(*parts)


def _facts(inspection: Inspection) -> Table:
    table, figures = Table.grid(padding=(0, 2)), inspection.figures
    facts = [
        ("kind", f"{inspection.kind}: {inspection.label} rows"),
        ("rows", f"{figures.rows:,}"),
        ("malformed", f"{sum(inspection.malformed.values()):,}"),
        ("duplicates", f"{figures.duplicates:.2%}" + ("" if figures.duplicates_exact else ", estimated")),
    ]
    if figures.commonest_query is not None:
        facts.append(("most frequent query", f"{figures.commonest_query:.1%} of all queries"))
    if figures.chosen_longer is not None:
        facts.append(("chosen is longer", f"{figures.chosen_longer:.1%}"))
    if figures.letters:
        facts.append(("letter replies", _counts(figures.letters)))
    if figures.directions:
        facts += [
            ("directions", f"{figures.directions.rows:,} rows; {figures.directions.all_neutral:,} neutral throughout"),
            ("direction values", _counts(figures.directions.values)),
            ("dimensions never set", f"{len(figures.directions.never_set)} of 90"),
        ]
    if origin := figures.origin:
        facts += [(name, _counts(getattr(origin, name))) for name in ("tasks", "events", "claims")]
        facts.append(("topics, titles", f"{origin.topics:,}, {origin.titles:,}"))
        if origin.backed is not None:
            facts.append(("sentences backed", f"{origin.backed:.2%}"))
    if inspection.leaks is not None:
        facts.append(("shared", ", ".join(f"{name}: {count:,}" for name, count in inspection.leaks.items())))
    if inspection.unread_fields:
        facts.append(("fields not read", ", ".join(name[:40] for name in inspection.unread_fields[:12])))
    for name, value in facts:
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _counts(values: dict[str, int]) -> str:
    total = sum(values.values()) or 1
    return ", ".join(f"{name}: {count / total:.1%}" for name, count in values.items())


def _spreads(figures: Figures) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("")
    for heading in ("least", "10 %", "median", "90 %", "most", "mean"):
        table.add_column(heading, justify="right")
    for name, spread in figures.spreads.items():
        values = (spread.least, spread.p10, spread.median, spread.p90, spread.most, spread.mean)
        table.add_row(name, *(f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}" for value in values))
    return table


def _malformed(inspection: Inspection) -> Table:
    table = Table.grid(padding=(0, 2))
    for reason, count in inspection.malformed.items():
        table.add_row(f"{count:,}", Text(reason))
    return table


if __name__ == "__main__":
    app()
