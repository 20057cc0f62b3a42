"""`alignx watch`: the summary while it is written, redrawn in a terminal, line by line in a pipe."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from alignx.cli import render
from alignx.cli.terminal import ProblemGroup, Terminal, counted, shown
from alignx.client.streams import DeltaEvent, ErrorEvent, PendingEvent, SummaryEvent, VersionEvent

app = typer.Typer(cls=ProblemGroup)


@app.command()
def watch(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="The user's id.", show_default=False)],
    count: Annotated[int | None, typer.Option(min=1, help="End after so many new versions. Default: never.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Shows the summary while it is written. Ctrl-C ends it.

    Examples:

        alignx watch ada

        alignx watch ada --count 1 --json
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        stream = _until(client.watch(user), count)
        try:
            if as_json:
                for event in stream:
                    typer.echo(to_json(as_document(event)))
            elif terminal.out.is_terminal:
                _live(terminal, user, stream)
            else:
                _plain(terminal, user, stream)
        except KeyboardInterrupt:
            terminal.note("")


def as_document(event: SummaryEvent) -> dict[str, Any]:
    """An event as JSON: its name beside its fields."""
    match event:
        case PendingEvent(pending, version):
            return {"event": "pending", "pending": pending, "version": version}
        case DeltaEvent(text):
            return {"event": "delta", "text": text}
        case VersionEvent(preferences):
            return {"event": "version", **preferences.model_dump(mode="json")}
        case ErrorEvent(problem):
            return {"event": "error", "code": problem.code, "status": problem.status, "detail": problem.detail}


def _until(stream: Iterator[SummaryEvent], count: int | None) -> Iterator[SummaryEvent]:
    """The stream up to the count-th version after the one it began with."""
    versions: set[int] = set()
    for event in stream:
        yield event
        if isinstance(event, VersionEvent):
            versions.add(event.preferences.version)
            if count is not None and len(versions) > count:
                return


def _live(terminal: Terminal, user: str, stream: Iterator[SummaryEvent]) -> None:
    """One frame that holds the current version and, below it, the next one as it grows."""
    current: RenderableType = Text("waiting for the first event …", style="dim")
    written = ""
    with Live(current, console=terminal.out, refresh_per_second=12, vertical_overflow="visible") as live:
        for event in stream:
            match event:
                case PendingEvent(pending, _):
                    written = ""  # an update begins, or begins again
                    terminal.note(f"waiting: {counted(pending, 'event')}")
                case DeltaEvent(text):
                    written += text
                    live.update(Panel(Text(shown(written), style="green"), title="being written", title_align="left"))
                case VersionEvent(preferences):
                    written = ""
                    live.update(render.summary(preferences, user=user))
                case ErrorEvent(problem):
                    written = ""
                    terminal.fail(problem)


def _plain(terminal: Terminal, user: str, stream: Iterator[SummaryEvent]) -> None:
    """Pieces run on as they come; everything else starts a new line."""
    inside = False
    for event in stream:
        if inside and not isinstance(event, DeltaEvent):
            typer.echo()
        inside = isinstance(event, DeltaEvent)
        match event:
            case PendingEvent(pending, version):
                terminal.text(f"waiting: {counted(pending, 'event')}; the summary is at version {version}")
            case DeltaEvent(text):
                typer.echo(shown(text), nl=False)
            case VersionEvent(preferences):
                terminal.out.print(render.summary(preferences, user=user))
            case ErrorEvent(problem):
                terminal.fail(problem)
