"""`alignx`: everything the service does, from a terminal.

    alignx ingest examples/shopper.jsonl --user ada
    alignx show ada
    alignx --help

Commands here list and erase a user's history; `histories` sends it, `users.py` lists and erases users. Summaries are in
`summary.py` and `watch.py`, chat, select and recommend in `choices.py`, API keys in `keys.py`, tenants in `tenants.py`,
webhooks in `webhook_commands.py`; `doctor.py` finds faults. Errors become words and exit code 1 (2 for wrong usage) in
one place, `terminal.exit_on_problem`. `--json` prints what the API answered.
"""

from pathlib import Path
from typing import Annotated

import typer

from alignx.cli import choices, display, doctor, keys, summary, tenants, users, watch, webhook_commands
from alignx.cli.histories import command
from alignx.cli.terminal import Json, ProblemGroup, Terminal, User, pluralize
from alignx.client.endpoints import QUALITY
from alignx.schemas.summaries import DeadLetterList, InteractionList

app = typer.Typer(
    cls=ProblemGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Learns what each user prefers, as plain text, and answers by it.",
)
app.add_typer(command.app)
app.add_typer(summary.app)
app.add_typer(watch.app)
app.add_typer(choices.app)
app.add_typer(doctor.app)
app.add_typer(users.app, name="users")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(webhook_commands.app, name="webhooks")


@app.callback()
def connect(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option(envvar="ALIGNX_URL", help="Default: http://127.0.0.1:8080")] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="ALIGNX_API_KEY",
            help="Default: the file ALIGNX_KEY_FILE, then var/secrets/user_key",
            show_envvar=True,
        ),
    ] = None,
) -> None:
    terminal = ctx.ensure_object(Terminal)
    terminal.url, terminal.key = url, key


# --- reading and ending histories --------------------------------------------------------------


@app.command()
def events(
    ctx: typer.Context,
    user: User,
    limit: Annotated[int, typer.Option(min=1, help="Most events shown.")] = 50,
    after: Annotated[str | None, typer.Option(help="Start behind this event.")] = None,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first instead of the oldest.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Those that could not be read into the summary.")] = False,
    as_json: Json = False,
) -> None:
    """Lists a user's events.

    Examples:

        alignx events ada --newest --limit 10

        alignx events ada --failed --json
    """
    terminal: Terminal = ctx.obj
    page: InteractionList | DeadLetterList
    with terminal.client() as client:
        if failed and newest:
            raise typer.BadParameter("events that failed are listed oldest first", param_hint="--newest")
        if failed:
            page = client.dead_letters(user, after=after, limit=limit)
        else:
            page = client.events(user, after=after, limit=limit, order="desc" if newest else None)
    table = display.dead_letters(page.events) if isinstance(page, DeadLetterList) else display.events(page.events)
    if failed and not page.events and not as_json:
        terminal.note("All events could be read.")
        return
    terminal.answer(page, table, as_json=as_json)
    if page.next and not as_json:
        terminal.note(f"More: --after {page.next}")


@app.command()
def retry(
    ctx: typer.Context,
    user: User,
    event: Annotated[list[str] | None, typer.Argument(metavar="[EVENT]…", help="Default: all of them.")] = None,
    as_json: Json = False,
) -> None:
    """Tries failed events again, those that `alignx events USER --failed` lists.

    Examples:

        alignx retry ada

        alignx retry ada 1763700000000-0
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        queued = client.retry_dead_letters(user, event or None)
    if as_json:
        terminal.json(queued)
        return
    retried = {item.event_id for item in queued.events}
    for missing in [event_id for event_id in event or () if event_id not in retried]:
        terminal.note(f"{missing} is no failed event of {user}.")
    if retried:
        terminal.note(f"{pluralize(len(retried), 'event')} put back; `alignx watch {user}` shows the update.")
    else:
        terminal.note("Nothing was put back.")


@app.command()
def export(
    ctx: typer.Context,
    user: User,
    out: Annotated[Path | None, typer.Option("--out", "-o", dir_okay=False, help="Default: standard output.")] = None,
) -> None:
    """Writes everything kept of a user as JSON lines.

    Example:

        alignx export ada --out ada.jsonl
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        content = client.export(user)
        if out is None:
            typer.get_binary_stream("stdout").writelines(content)
            return
        # The first block comes before the file is opened: an unknown user leaves no empty file.
        first = next(content, b"")
        with out.open("wb") as file:
            file.write(first)
            file.writelines(content)
    terminal.note(f"Written to {out}.")


@app.command()
def erase(
    ctx: typer.Context,
    user: User,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Erases a user: events, summaries, profile. It cannot be undone.

    Example:

        alignx erase ada
    """
    terminal: Terminal = ctx.obj
    if not yes:
        typer.confirm(f"Erase everything kept of {user}?", abort=True, err=True)
    with terminal.client() as client:
        client.erase(user)
    terminal.note(f"Nothing is kept of {user} any more.")


@app.command()
def forget(
    ctx: typer.Context,
    user: User,
    event: Annotated[str | None, typer.Option(help="This event, by its id.")] = None,
    about: Annotated[str | None, typer.Option(help="Events about an item (id, title), or with these words.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --about: only tell what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Forgets single events of a user and all that came of them. It cannot be undone.

    Examples:

        alignx forget ada --event 1763700000000-0

        alignx forget ada --about salmon --dry-run
    """
    terminal: Terminal = ctx.obj
    if bool(event) == bool(about) or (dry_run and not about):
        raise typer.BadParameter("give --event or --about; --dry-run goes with --about. For a whole user: alignx erase")
    if not (yes or dry_run):
        typer.confirm(f"Forget what {user} did there, and the summaries since?", abort=True, err=True)
    with terminal.client() as client:
        receipt = client.forget_event(user, event) if event else client.forget_about(user, str(about), dry_run=dry_run)
    removed = f"{pluralize(len(receipt.event_ids), 'event')}, {pluralize(receipt.versions, 'version')}"
    if as_json:
        terminal.json(receipt)
    else:
        terminal.note(f"{'Would remove' if dry_run else 'Removed'} {removed}.")


@app.command()
def quality(
    ctx: typer.Context,
    uplift: Annotated[bool, typer.Option("--uplift", help="What personalization brings, against a holdout.")] = False,
    as_json: Json = False,
) -> None:
    """Shows how well the summaries of all users predict their choices.

    Examples:

        alignx quality

        alignx quality --uplift
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        if uplift:
            figures = client.uplift()
            terminal.answer(figures, display.uplift(figures), as_json=as_json)
            return
        by_scorer = client.quality()
        if as_json:
            typer.echo(QUALITY.dump_json(by_scorer, indent=2))
            return
        trial = client.model_trial()
    terminal.out.print(display.quality(by_scorer))
    if trial.state != "none":
        state = "is held back: its summaries predict worse" if trial.state == "held" else "is on trial"
        terminal.text(f"{trial.candidate} {state} ({pluralize(trial.users_tested, 'user')} tested)")


@app.command()
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Shows whether the service is ready; exits with 1 if it is not.

    Example:

        alignx status
    """
    terminal: Terminal = ctx.obj
    with terminal.client("anonymous") as client:
        ready = client.ready()
    terminal.answer(ready, display.checks(ready.checks), as_json=as_json)
    if not as_json:
        terminal.text(ready.status.replace("_", " "))
    if ready.status != "ready":
        raise typer.Exit(1)
