"""`alignx watch`: the summary while it is written, redrawn in a terminal, line by line in a pipe."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from alignx.cli import display
from alignx.cli.terminal import ProblemGroup, Terminal, User, pluralize, sanitize
from alignx.client.streams import ChangedEvent, DeltaEvent, ErrorEvent, PendingEvent, SummaryEvent, VersionEvent

app = typer.Typer(cls=ProblemGroup)


@app.command()
def watch(
    ctx: typer.Context,
    user: User,
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
        stream = _take_versions(client.watch(user), count)
        try:
            if as_json:
                for event in stream:
                    typer.echo(to_json(_document(event)))
            elif terminal.out.is_terminal:
                _redraw(terminal, user, stream)
            else:
                _print_lines(terminal, user, stream)
        except KeyboardInterrupt:
            terminal.note("")


def _document(event: SummaryEvent) -> dict[str, Any]:
    """An event as JSON: its name beside its fields."""
    match event:
        case PendingEvent():
            return {"event": "pending", **event._asdict()}
        case DeltaEvent():
            return {"event": "delta", **event._asdict()}
        case VersionEvent(preferences):
            return {"event": "version", **preferences.model_dump(mode="json")}
        case ChangedEvent(change):
            return {"event": "changed", **change.model_dump(mode="json")}
        case ErrorEvent(problem):
            return {"event": "error", "code": problem.code, "status": problem.status, "detail": problem.detail}


def _take_versions(stream: Iterator[SummaryEvent], count: int | None) -> Iterator[SummaryEvent]:
    """The stream up to the count-th version after the one it began with."""
    versions: set[int] = set()
    for event in stream:
        yield event
        if isinstance(event, VersionEvent):
            versions.add(event.preferences.version)
            if count is not None and len(versions) > count:
                return


def _redraw(terminal: Terminal, user: str, stream: Iterator[SummaryEvent]) -> None:
    """One frame that holds the current version and, below it, the next one as it grows."""
    text = ""
    shown: RenderableType = Text("waiting for the first event …", style="dim")
    with Live(shown, console=terminal.out, refresh_per_second=12, vertical_overflow="visible") as live:
        for event in stream:
            text = text + event.text if isinstance(event, DeltaEvent) else ""
            match event:
                case PendingEvent(pending, _):
                    terminal.note(f"waiting: {pluralize(pending, 'event')}")
                case DeltaEvent():
                    live.update(Panel(Text(sanitize(text), style="green"), title="being written", title_align="left"))
                case VersionEvent(preferences):
                    shown = display.summary(preferences, user=user)
                    live.update(shown)
                case ChangedEvent(change):
                    terminal.note(display.change_line(change))
                case ErrorEvent(problem):
                    live.update(shown)  # what a failed update wrote is no summary
                    terminal.fail(problem)


def _print_lines(terminal: Terminal, user: str, stream: Iterator[SummaryEvent]) -> None:
    """Pieces run on as they come; everything else starts a new line."""
    inside = False
    for event in stream:
        if inside and not isinstance(event, DeltaEvent):
            typer.echo()
        inside = isinstance(event, DeltaEvent)
        match event:
            case PendingEvent(pending, version):
                terminal.text(f"waiting: {pluralize(pending, 'event')}; the summary is at version {version}")
            case DeltaEvent(text):
                typer.echo(sanitize(text), nl=False)
            case VersionEvent(preferences):
                terminal.out.print(display.summary(preferences, user=user))
            case ChangedEvent(change):
                terminal.text(display.change_line(change))
            case ErrorEvent(problem):
                terminal.fail(problem)
