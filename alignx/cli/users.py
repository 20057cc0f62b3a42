"""`alignx users`: lists, counts and erases the users of the key's tenant."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from alignx.cli.terminal import Json, ProblemGroup, Terminal, pluralize, sanitize
from alignx.client.client import AlignX
from alignx.schemas.many_users import MAX_ERASED, ListedUser, UserPage

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
    terminal.answer(page, _table(page), as_json=as_json)
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
    names = user or (file.read_text(encoding="utf-8").split("\n") if file else [])
    names = [name.removesuffix("\r") for name in names if name.strip()]
    with terminal.client() as client:
        if not yes:
            number = client.users(prefix=prefix, limit=1).total if prefix else len(names)
            typer.confirm(f"Erase everything kept of {pluralize(number, 'user')}?", abort=True, err=True)
        erased, unknown = _erase_prefix(client, prefix) if prefix else _erase_named(client, names)
    note = f"; of {unknown} nothing was kept" if unknown else ""
    terminal.note(f"Erased {pluralize(erased, 'user')}{note}.")


def _erase_prefix(client: AlignX, prefix: str) -> tuple[int, int]:
    erased = 0
    while True:
        done = client.erase_users(prefix=prefix)
        erased += len(done.erased)
        if not done.left:
            return erased, 0


def _erase_named(client: AlignX, names: list[str]) -> tuple[int, int]:
    erased, known = 0, iter(dict.fromkeys(names))
    left = list(islice(known, MAX_ERASED))
    total = len(dict.fromkeys(names))
    while left:
        done = client.erase_users(left)
        erased += len(done.erased)
        if not done.left:
            left = list(islice(known, MAX_ERASED))
    return erased, total - erased


def _table(page: UserPage) -> Table:
    table = Table("user", "events", "pending", "version", "updated", "since")
    for user in page.users:
        table.add_row(*_cells(user))
    return table


def _cells(user: ListedUser) -> tuple[str | Text, ...]:
    updated = f"{user.updated_at:%Y-%m-%d %H:%M}" if user.updated_at else "–"
    numbers = (user.events, user.pending, user.version)
    return (Text(sanitize(user.user)), *map(str, numbers), updated, f"{user.created_at:%Y-%m-%d}")
