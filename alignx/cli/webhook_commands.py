"""`alignx webhooks`: the endpoints of the key's tenant, and what became of the events sent to them."""

from typing import Annotated

import typer

from alignx.cli import display
from alignx.cli.keys import parse_duration
from alignx.cli.terminal import Json, ProblemGroup, Terminal, choose
from alignx.schemas.webhooks import EVENT_TYPES, WebhookChange, WebhookCreated

app = typer.Typer(cls=ProblemGroup, no_args_is_help=True, help="Registers endpoints that are told of new versions.")
Id = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The endpoint's id.", show_default=False)]


@app.command()
def create(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="Where events are sent.", show_default=False)],
    event: Annotated[list[str] | None, typer.Option("--event", help="Which; repeat it. Default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Registers an endpoint and prints its secret, this once.

    Example:

        alignx webhooks create https://shop.example/alignx --event preferences.version
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        created = client.create_webhook(url, events=choose(EVENT_TYPES, event or EVENT_TYPES))
    _show_secret(terminal, created, as_json=as_json)


@app.command("list")
def list_webhooks(ctx: typer.Context, as_json: Json = False) -> None:
    """Lists the endpoints, without their secrets.

    Example:

        alignx webhooks list
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        page = client.webhooks()
    terminal.answer(page, display.webhooks(page.webhooks), as_json=as_json)


@app.command()
def enable(ctx: typer.Context, webhook: Id) -> None:
    """Sends what waits for an endpoint that is disabled.

    Example:

        alignx webhooks enable wh_0123456789abcdef
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        client.change_webhook(webhook, WebhookChange(enabled=True))
    terminal.note(f"{webhook} is enabled.")


@app.command()
def delete(ctx: typer.Context, webhook: Id) -> None:
    """Ends an endpoint and drops what waits for it.

    Example:

        alignx webhooks delete wh_0123456789abcdef
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        client.delete_webhook(webhook)
    terminal.note(f"{webhook} is deleted.")


@app.command()
def rotate(
    ctx: typer.Context,
    webhook: Id,
    overlap: Annotated[str, typer.Option(help="How long the secret until now signs too.")] = "24h",
    as_json: Json = False,
) -> None:
    """Gives an endpoint a new secret and prints it.

    Example:

        alignx webhooks rotate wh_0123456789abcdef --overlap 2h
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        rotated = client.rotate_webhook(webhook, overlap_s=int(parse_duration(overlap).total_seconds()))
    _show_secret(terminal, rotated, as_json=as_json)


@app.command()
def test(ctx: typer.Context, webhook: Id) -> None:
    """Sends a test event; `deliveries` shows what became of it.

    Example:

        alignx webhooks test wh_0123456789abcdef
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        typer.echo(client.test_webhook(webhook).id)


@app.command()
def deliveries(
    ctx: typer.Context,
    webhook: Id,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most deliveries shown.")] = 20,
    as_json: Json = False,
) -> None:
    """Lists recent deliveries, newest first.

    Example:

        alignx webhooks deliveries wh_0123456789abcdef
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        page = client.webhook_deliveries(webhook, limit=limit)
    terminal.answer(page, display.deliveries(page.deliveries), as_json=as_json)


@app.command()
def replay(
    ctx: typer.Context,
    webhook: Id,
    delivery: Annotated[str, typer.Argument(help="The delivery's id.", show_default=False)],
) -> None:
    """Sends a recent event again.

    Example:

        alignx webhooks replay wh_0123456789abcdef msg_0123456789abcdef0123456789abcdef
    """
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        client.replay_webhook(webhook, delivery)
    terminal.note(f"{delivery} is sent again.")


def _show_secret(terminal: Terminal, created: WebhookCreated, *, as_json: bool) -> None:
    note = f"The secret of {created.id}. It is not shown again."
    terminal.secret(created, created.secret, note, as_json=as_json)
