"""`alignx users`: lists, counts and erases the users of the key's tenant."""

from pathlib import Path
from typing import Annotated

import typer

from alignx.cli import display
from alignx.cli.terminal import Json, ProblemGroup, Terminal, pluralize, read_text
from alignx.client.client import AlignX
from alignx.schemas.many_users import MAX_ERASED

app = typer.Typer(cls=ProblemGroup, no_args_is_help=True, help="Lists, counts and erases users.")
Prefix = Annotated[str | None, typer.Option(help="What the users' ids begin with.")]


@app.command("list")
def list_users(
    ctx: typer.Context,
    prefix: Prefix = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most users shown, by their ids.")] = 50,
    after: Annotated[str | None, typer.Option(help="Start behind this id.")] = None,
    ids: Annotated[bool, typer.Option("--ids", help="All ids, a line each, for a pipe.")] = False,
    as_json: Json = False,
) -> None:
    """Lists users by their ids.

    Examples:

        alignx users list --prefix shop-

        alignx users list --ids > users.txt
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        if ids:
            for user in client.all_users(prefix=prefix):
                typer.echo(user.user)
            return
        page = client.users(prefix=prefix, after=after, limit=limit)
    terminal.answer(page, display.users(page.users), as_json=as_json)
    if page.next and not as_json:
        terminal.note(f"{page.total} in all. More: --after {page.next}")


@app.command()
def count(ctx: typer.Context, prefix: Prefix = None) -> None:
    """Counts users.

    Example:

        alignx users count --prefix shop-
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        typer.echo(client.users(prefix=prefix, limit=1).total)


@app.command()
def erase(
    ctx: typer.Context,
    user: Annotated[list[str] | None, typer.Argument(metavar="[USER]…", help="The users' ids.")] = None,
    prefix: Prefix = None,
    file: Annotated[Path | None, typer.Option("--file", exists=True, dir_okay=False, help="Ids, a line each.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Erases users: events, summaries, profiles. It cannot be undone. Stopped on its way, run it again.

    Examples:

        alignx users erase ada bob

        alignx users erase --prefix test-
    """
    terminal: Terminal = ctx.obj
    if bool(user) + bool(prefix) + bool(file) != 1:
        raise typer.BadParameter("give users, --prefix or --file, and one of these alone")
    names = user or (read_text(file).split("\n") if file else [])
    names = [name.removesuffix("\r") for name in names if name.strip()]
    with terminal.client() as client:
        if not yes:
            number = client.users(prefix=prefix, limit=1).total if prefix else len(names)
            typer.confirm(f"Erase everything kept of {pluralize(number, 'user')}?", abort=True, err=True)
        erased = _erase(client, list(dict.fromkeys(names)), prefix)
    unknown = 0 if prefix else len(set(names)) - erased
    note = f"; of {unknown} nothing was kept" if unknown else ""
    terminal.note(f"Erased {pluralize(erased, 'user')}{note}.")


def _erase(client: AlignX, names: list[str], prefix: str | None) -> int:
    """How many were erased: those of the prefix, or the named ones, each call again while it leaves some."""
    calls = [names[start : start + MAX_ERASED] for start in range(0, len(names), MAX_ERASED)]
    erased = 0
    for named in [None] if prefix else calls:
        while True:
            done = client.erase_users(named, prefix=prefix)
            erased += len(done.erased)
            if not done.left:
                break
    return erased
