"""The commands of `alignx` about the summary: show, why, versions, diff, edit, rebuild, rollback.

`alignx watch` is in `watch.py`.
"""

import math
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from alignx.cli import display
from alignx.cli.terminal import Json, ProblemGroup, Terminal, User, read_text, sanitize
from alignx.client.client import AlignX
from alignx.client.endpoints import PreferencesRead
from alignx.client.errors import ClientError
from alignx.schemas.summaries import SummaryVersion

app = typer.Typer(cls=ProblemGroup)

POLL_S = 0.5
LAST_PLACE = 2**63 - 1
"""Behind all events of a millisecond."""


@app.command()
def show(
    ctx: typer.Context,
    user: User,
    version: Annotated[int | None, typer.Option(min=1, help="Default: the current one.")] = None,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Also what the model thought before it.")] = False,
    text_only: Annotated[bool, typer.Option("--text", help="The text alone.")] = False,
    as_json: Json = False,
) -> None:
    """Shows a user's summary.

    Examples:

        alignx show ada

        alignx show ada --version 3 --reasoning

        alignx show ada --json | jq .quality
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        current: SummaryVersion = client.preferences(user) if version is None else client.version(user, version)
    if text_only and not as_json:
        typer.echo(sanitize(current.text))
    else:
        terminal.answer(current, display.summary(current, user=user, reasoning=reasoning), as_json=as_json)


@app.command()
def why(ctx: typer.Context, user: User) -> None:
    """Shows what each sentence of a user's summary rests on, with the newest of its events.

    Example:

        alignx why ada
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        claims = client.preferences(user).claims
        newest = {claim.support[-1] for claim in claims if claim.support}
        found = [client.events(user, after=_cursor_before(event_id), limit=1).events for event_id in newest]
    kept = {stored.event_id: stored.interaction for page in found for stored in page}
    terminal.out.print(display.claims(claims, kept))


def _cursor_before(event_id: str) -> str:
    """The cursor behind which the event stands first."""
    moment, _, place = event_id.partition("-")
    return f"{moment}-{int(place) - 1}" if int(place) else f"{int(moment) - 1}-{LAST_PLACE}"


@app.command()
def versions(
    ctx: typer.Context,
    user: User,
    limit: Annotated[int, typer.Option(min=1, help="Most versions shown, newest first.")] = 20,
    before: Annotated[int | None, typer.Option(help="Only those older than this one.")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Replies that are no summary, and why.")] = False,
    as_json: Json = False,
) -> None:
    """Lists the versions of a user's summary.

    Examples:

        alignx versions ada --limit 5

        alignx versions ada --rejected
    """
    terminal: Terminal = ctx.obj
    if rejected and before is not None:
        raise typer.BadParameter("rejected replies have no version; leave one of the two out", param_hint="--before")
    with terminal.client() as client:
        if rejected:
            drafts = client.rejected(user)
            if not drafts.drafts and not as_json:
                terminal.note("No reply of the engine was rejected.")
                return
            terminal.answer(drafts, display.rejected(drafts.drafts[:limit]), as_json=as_json)
            return
        page = client.versions(user, before=before, limit=limit)
    terminal.answer(page, display.versions(page.versions), as_json=as_json)
    if page.next and not as_json:
        terminal.note(f"Older: --before {page.next}")


@app.command()
def diff(
    ctx: typer.Context,
    user: User,
    from_version: Annotated[
        int | None, typer.Argument(metavar="[FROM]", help="Default: the version before TO.")
    ] = None,
    to_version: Annotated[int | None, typer.Argument(metavar="[TO]", help="Default: the current version.")] = None,
    as_json: Json = False,
) -> None:
    """Shows what changed between two versions of a summary.

    Examples:

        alignx diff ada

        alignx diff ada 1 4
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        if from_version is None or to_version is None:
            from_version, to_version = _default_versions(client, user, from_version)
        difference = client.diff(user, from_version, to_version)
    if as_json:
        terminal.json(difference)
    elif not difference.unified:
        terminal.note(f"Versions {from_version} and {to_version} say the same.")
    else:
        terminal.out.print(display.difference(difference), soft_wrap=True)


def _default_versions(client: AlignX, user: str, first: int | None) -> tuple[int, int]:
    """The versions to compare where the command names none, or only the first."""
    numbers = [version.version for version in client.versions(user, limit=2).versions]
    if first is not None and numbers:
        return first, numbers[0]
    if len(numbers) < 2:
        raise ClientError(f"{user} has fewer than two versions; there is nothing to compare.")
    return numbers[1], numbers[0]


@app.command()
def edit(
    ctx: typer.Context,
    user: User,
    text: Annotated[
        str | None, typer.Argument(help="The new text; '-' reads standard input. Without it, your editor opens.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", exists=True, dir_okay=False)] = None,
) -> None:
    """Replaces the summary's text; the next update starts from it.

    Examples:

        alignx edit ada "Prefers short answers with sources."

        alignx edit ada --file summary.txt

        EDITOR=nano alignx edit ada
    """
    terminal: Terminal = ctx.obj
    if text is not None and file is not None:
        raise typer.BadParameter("give the text or --file, not both", param_hint="TEXT")
    with terminal.client() as client:
        current = client.preferences(user)
        if file is not None:
            text = read_text(file)
        elif text == "-":
            text = typer.get_text_stream("stdin").read()
        elif text is None:
            text = edit_text(current.text)
        if text.strip() in ("", current.text.strip()):
            terminal.note("Nothing changed.")
            return
        edited = client.edit(user, text, if_match=current.etag)
    terminal.note(f"Version {edited.version} holds your text.")


def edit_text(text: str) -> str:
    """The text after the user's editor has closed.

    Raises ClientError if the editor fails, BadParameter if it writes no UTF-8.
    """
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "summary.txt")
        path.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*command, str(path)], check=True)  # noqa: S603  # the user's own editor
        except (OSError, subprocess.CalledProcessError) as error:
            raise ClientError(f"The editor failed, and nothing was changed: {error}") from error
        return read_text(path)


@app.command()
def rollback(ctx: typer.Context, user: User, version: Annotated[int, typer.Argument(min=1)]) -> None:
    """Makes an earlier version's text current again, as a new version.

    Example:

        alignx rollback ada 3
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        current = client.rollback(user, version, if_match=client.preferences(user).etag)
    terminal.note(f"Version {current.version} repeats version {version}.")


@app.command()
def rebuild(
    ctx: typer.Context,
    user: User,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the new version; 0 does not wait.")] = 0.0,
) -> None:
    """Writes the summary again from the whole history.

    Example:

        alignx rebuild ada --wait 60
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        before = client.preferences(user).version
        client.rebuild(user)
        if not wait:
            terminal.note(f"Asked for. See it come: alignx watch {user}")
            return
        current = wait_for_version(client, terminal, user, before, wait)
    if current is None:
        raise ClientError(f"No new version after {wait:g} s; it may still come.")
    terminal.out.print(display.summary(current, user=user))


def wait_for_version(
    client: AlignX, terminal: Terminal, user: str, before: int, wait_s: float
) -> PreferencesRead | None:
    """The summary once its version is above `before`, or None after `wait_s`."""
    for poll in range(1 + math.ceil(wait_s / POLL_S)):
        if poll:
            terminal.sleep(POLL_S)
        current = client.preferences(user)
        if current.version > before:
            return current
    return None
