"""`alignx tenants`: what is set for a tenant, for those who hold an admin key."""

from typing import Annotated, Any

import typer
from pydantic_core import from_json
from rich.table import Table

from alignx.cli.terminal import Json, ProblemGroup, Terminal
from alignx.schemas.tenants import TenantSettingsView

app = typer.Typer(cls=ProblemGroup, no_args_is_help=True, help="Reads and changes tenants (needs an admin key).")
settings = typer.Typer(cls=ProblemGroup, no_args_is_help=True, help="What holds for one tenant.")
app.add_typer(settings, name="settings")

Tenant = Annotated[str, typer.Argument(help="The tenant.", show_default=False)]


@settings.command("get")
def get_settings(ctx: typer.Context, tenant: Tenant, as_json: Json = False) -> None:
    """Shows the settings that hold for a tenant, and which of them are its own.

    Example:

        alignx tenants settings get acme
    """
    terminal: Terminal = ctx.obj
    with terminal.client("admin") as client:
        _show(terminal, client.tenant_settings(tenant), as_json=as_json)


@settings.command("set")
def set_settings(
    ctx: typer.Context,
    tenant: Tenant,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE…", help="Settings to change.")],
    as_json: Json = False,
) -> None:
    """Changes settings of a tenant; the others stay.

    Example:

        alignx tenants settings set acme update_events=40 update_bits=12
    """
    if bad := [text for text in values if "=" not in text]:
        raise typer.BadParameter(f"{bad[0]!r} is not NAME=VALUE")
    changes = {name: _parse(value) for name, _, value in (text.partition("=") for text in values)}
    _change(ctx.obj, tenant, changes, as_json=as_json)


@settings.command("unset")
def unset_settings(
    ctx: typer.Context,
    tenant: Tenant,
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Settings to give back.")],
    as_json: Json = False,
) -> None:
    """Gives settings of a tenant the deployment's values back.

    Example:

        alignx tenants settings unset acme update_events
    """
    _change(ctx.obj, tenant, dict.fromkeys(names), as_json=as_json)


def _change(terminal: Terminal, tenant: str, changes: dict[str, Any], *, as_json: bool) -> None:
    with terminal.client("admin") as client:
        _show(terminal, client.change_tenant_settings(tenant, changes), as_json=as_json)


def _parse(value: str) -> Any:
    try:
        return from_json(value)
    except ValueError:
        return value  # a text needs no quotes


def _show(terminal: Terminal, view: TenantSettingsView, *, as_json: bool) -> None:
    table = Table("setting", "value", "from", title=f"Tenant {view.tenant}", title_justify="left")
    for name, value in view.settings.model_dump(mode="json").items():
        table.add_row(name, f"{value}", "tenant" if name in view.overridden else "deployment")
    if view.spent:
        table.caption = f"tokens spent: {view.spent.day:,} today, {view.spent.month:,} this month (UTC)"
    terminal.answer(view, table, as_json=as_json)
