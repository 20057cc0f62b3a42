"""`alignx ingest`: checks a file of histories, sends it, and says by file and line what is wrong with it."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from alignx.cli.histories import entries, ingest
from alignx.cli.histories.rows import Format, format_of
from alignx.cli.terminal import ProblemGroup, Terminal, pluralize
from alignx.client.errors import ClientError
from alignx.schemas.items import EVENT_BYTES

app = typer.Typer(cls=ProblemGroup)

SHOWN_BAD_LINES = 20


class Job(NamedTuple):
    """What is sent, and what becomes of bad lines."""

    name: str
    rows: entries.Source
    skip_bad: bool


@app.command("ingest")
def ingest_file(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON lines, CSV or Parquet; '-' reads standard input to its end.")
    ],
    user: Annotated[str | None, typer.Option(help="The user of lines that name none.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Most events of a user in one piece.")] = 100,
    source: Annotated[str | None, typer.Option(help="Where it happened, for events that do not say.")] = None,
    kind: Annotated[Format | None, typer.Option("--format", help="Default: by the file's ending.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Send the good lines of a file with bad ones.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="First ask the service which events it has.")] = False,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="History from elsewhere: one summary a user, after all is sent.")
    ] = False,
    event_bytes: Annotated[
        int, typer.Option(min=256, help="Largest event, as the service's setting limits.event_bytes.")
    ] = EVENT_BYTES,
) -> None:
    """Sends a file of histories, each user's events in the order of the file.

    A line is an interaction, with the user in its field "user" or from --user:

        {"type": "post", "text": "I sold my car.", "user": "ada"}

    or a UPI row, whose history becomes comparisons:

        {"userid": "ada", "history": [{"chosen": "…", "rejected": "…"}]}

    or a line of `alignx export`. CSV and Parquet have the same fields as columns, CSV by the names in its first line.
    Every line is checked before anything is sent. After an interruption run the same command again: within a day
    nothing is doubled. Later, or with another --batch, add --resume. Events with ids of their own it knows as long as
    they are in the service's log.

    Examples:

        alignx ingest history.jsonl --user ada

        alignx ingest clicks.csv --backfill

        zcat histories.jsonl.gz | alignx ingest - --batch 500 --skip-bad
    """
    terminal: Terminal = ctx.obj
    options = ingest.SendOptions(resume=resume, backfill=backfill, source=source)
    with _open(file) as content, terminal.client() as client:
        rows = entries.Source(content, kind or format_of(file), user, event_bytes)
        job = Job("standard input" if file == "-" else file, rows, skip_bad)
        scan = entries.scan(rows)
        _report_bad(terminal, job, scan)
        sending = ingest.Sending(client, ingest.split_batches(rows, batch), scan.digest, options)
        done = _follow(terminal, job, scan.events, sending.run())
    repeated = f", {done.known} were there already" if done.known else ""
    terminal.note(f"Sent {pluralize(done.sent, 'event')} of {pluralize(scan.users, 'user')}{repeated}.")
    if done.refused:
        terminal.note(f"Left out: {pluralize(len(done.refused), 'event')} that the service refused.")
    if done.late:
        terminal.note(
            f"{pluralize(done.late, 'event')} occurred before others of the user that were there: they count as older."
        )


@contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    """The file, or all of standard input in a temporary one: it is read twice."""
    if file == "-":
        with tempfile.TemporaryFile() as spool:
            shutil.copyfileobj(typer.get_binary_stream("stdin"), spool)
            spool.seek(0)
            yield spool
        return
    path = Path(file)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise typer.BadParameter(f"{file} is not a file that can be read", param_hint="FILE")
    with path.open("rb") as content:
        yield content


def _show_bad(terminal: Terminal, job: Job, bad: Iterable[entries.BadLine]) -> None:
    word = "row" if job.rows.kind == "parquet" else "line"
    for one in bad:
        field = f"{one.field}: " if one.field else ""
        terminal.note(f"{job.name}, {word} {one.line}: {field}{one.message}")


def _report_bad(terminal: Terminal, job: Job, scan: entries.Scan) -> None:
    _show_bad(terminal, job, scan.bad[:SHOWN_BAD_LINES])
    if len(scan.bad) > SHOWN_BAD_LINES:
        terminal.note(f"… and {len(scan.bad) - SHOWN_BAD_LINES} more")
    lines = len({bad.line for bad in scan.bad})
    if scan.bad and not job.skip_bad:
        raise ClientError(
            f"{pluralize(lines, 'bad line')}; nothing was sent. Correct the file, or leave them out with --skip-bad."
        )
    if not scan.events:
        raise ClientError("The file holds no event.")
    if scan.bad:
        terminal.note(f"Left out: {pluralize(lines, 'bad line')}.")


def _follow(terminal: Terminal, job: Job, events: int, steps: Iterator[ingest.Progress]) -> ingest.Progress:
    """Shows the sending; returns the sums. Raises ClientError at the first refusal unless bad lines are left out."""
    sent = known = late = 0
    refused: list[entries.BadLine] = []
    try:
        with _progress(terminal) as progress:
            task = progress.add_task("sending", total=events)
            for step in steps:
                sent, known, late = sent + step.sent, known + step.known, late + step.late
                refused += step.refused
                progress.advance(task, step.sent + step.known + len(step.refused))
                _report_refused(terminal, job, step.refused)
    except (ClientError, KeyboardInterrupt):
        terminal.note(f"Stopped after {sent + known} of {events} events; run the same command to go on.")
        raise
    return ingest.Progress(sent, known, late, tuple(refused))


def _report_refused(terminal: Terminal, job: Job, refused: Sequence[entries.BadLine]) -> None:
    _show_bad(terminal, job, refused)
    if refused and not job.skip_bad:
        raise ClientError("The service refused it. Correct the file, or leave it out with --skip-bad.")


def _progress(terminal: Terminal) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=terminal.err, transient=True, disable=not terminal.err.is_terminal)
