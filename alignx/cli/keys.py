"""`alignx keys`: API keys, for those who hold an admin key."""

from typing import Annotated

import typer

from alignx.cli import display
from alignx.cli.terminal import Json, ProblemGroup, Terminal
from alignx.schemas.tenants import KeyList, KeyRequest

app = typer.Typer(
    cls=ProblemGroup, no_args_is_help=True, help="Makes, lists and revokes API keys (needs an admin key)."
)


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.", show_default=False)],
    tenant: Annotated[str, typer.Option(help="Whose users the key reaches.")],
    admin: Annotated[bool, typer.Option("--admin", help="May also administer keys.")] = False,
    rate: Annotated[float | None, typer.Option(help="Requests per second.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once.")] = None,
    as_json: Json = False,
) -> None:
    """Makes a key and prints it: the secret is shown this once.

    Example:

        alignx keys create shop --tenant acme --rate 50
    """
    terminal: Terminal = ctx.obj
    request = KeyRequest(name=name, tenant=tenant, admin=admin, rate=rate, burst=burst)
    with terminal.client("admin") as client:
        created = client.create_key(request)
    if as_json:
        terminal.json(created)
        return
    typer.echo(created.key)
    terminal.note(f"Key {created.id} of tenant {created.tenant}. Keep it now: it is not shown again.")


@app.command("list")
def list_keys(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: Json = False,
) -> None:
    """Lists the keys, without their secrets.

    Example:

        alignx keys list --tenant acme
    """
    terminal: Terminal = ctx.obj
    with terminal.client("admin") as client:
        page = client.keys(tenant=tenant)
        keys = page.keys
        while page.next is not None:
            page = client.keys(tenant=tenant, after=page.next)
            keys += page.keys
    terminal.answer(KeyList(keys=keys), display.keys(keys), as_json=as_json)


@app.command()
def revoke(ctx: typer.Context, key_id: Annotated[str, typer.Argument(help="The key's id.")]) -> None:
    """Ends a key at once.

    Example:

        alignx keys revoke k3f9
    """
    terminal: Terminal = ctx.obj
    with terminal.client("admin") as client:
        client.revoke_key(key_id)
    terminal.note(f"Key {key_id} is revoked.")
