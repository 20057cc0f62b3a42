"""`alignx keys`: API keys, user tokens and the audit log, for those who hold an admin key; `token` needs any key with
the scope `tokens:mint`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from alignx.cli import display
from alignx.cli.terminal import Json, ProblemGroup, Terminal, User, choose
from alignx.schemas.tenants import SCOPES, AuditEntry, AuditPage, KeyCreated, KeyList, KeyRequest

app = typer.Typer(
    cls=ProblemGroup,
    no_args_is_help=True,
    help="Makes, lists, rotates and revokes API keys, and says who did so (needs an admin key).",
)

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id.", show_default=False)]


def parse_duration(text: str) -> timedelta:
    """`45s`, `10m`, `12h` or `90d`."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no duration such as 10m, 12h or 90d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def parse_expiry(text: str) -> datetime:
    """A duration from now, or a day or time; without a zone it is of UTC."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            return datetime.now(UTC) + parse_duration(text)
        except OverflowError as error:
            raise typer.BadParameter(f"{text!r} ends after the year 9999") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help=f"What it may do; repeat it. One of {', '.join(SCOPES)}.", show_default=False),
]
Expires = Annotated[
    datetime | None,
    typer.Option(parser=parse_expiry, metavar="90d|DATE", help="When the key ends.", show_default=False),
]


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.", show_default=False)],
    tenant: Annotated[str, typer.Option(help="Whose users the key reaches.")],
    scope: Scopes = None,
    expires: Expires = None,
    admin: Annotated[bool, typer.Option("--admin", help="All scopes, to administer keys too.")] = False,
    rate: Annotated[float | None, typer.Option(help="Requests per second.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once.")] = None,
    as_json: Json = False,
) -> None:
    """Makes a key and prints it: the secret is shown this once. Without --scope it may do all but administer.

    Examples:

        alignx keys create shop --tenant acme --rate 50

        alignx keys create feed --tenant acme --scope events:write --expires 90d
    """
    terminal: Terminal = ctx.obj
    scopes = choose(SCOPES, scope) if scope else None
    request = KeyRequest(
        name=name, tenant=tenant, admin=admin, scopes=scopes, expires_at=expires, rate=rate, burst=burst
    )
    with terminal.client("admin") as client:
        created = client.create_key(request)
    _print_key(terminal, created, as_json=as_json)


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
def rotate(
    ctx: typer.Context,
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(help="How long the secret until now opens too.")] = "24h",
    expires: Expires = None,
    as_json: Json = False,
) -> None:
    """Gives a key a new secret and prints it; the key's id stays.

    Examples:

        alignx keys rotate k3f9 --overlap 2h

        alignx keys rotate k3f9 --overlap 0s --expires 90d
    """
    terminal: Terminal = ctx.obj
    overlap_s = int(parse_duration(overlap).total_seconds())
    with terminal.client("admin") as client:
        rotated = client.rotate_key(key_id, overlap_s=overlap_s, expires_at=expires)
    _print_key(terminal, rotated, as_json=as_json)
    if rotated.previous_until and not as_json:
        terminal.note(f"The secret until now opens until {rotated.previous_until:%Y-%m-%d %H:%M} UTC.")


def _print_key(terminal: Terminal, key: KeyCreated, *, as_json: bool) -> None:
    note = f"Key {key.id} of tenant {key.tenant}. Keep it now: it is not shown again."
    terminal.secret(key, key.key, note, as_json=as_json)


@app.command()
def revoke(ctx: typer.Context, key_id: KeyId) -> None:
    """Ends a key at once, and the user tokens it minted.

    Example:

        alignx keys revoke k3f9
    """
    terminal: Terminal = ctx.obj
    with terminal.client("admin") as client:
        client.revoke_key(key_id)
    terminal.note(f"Key {key_id} is revoked.")


@app.command()
def token(
    ctx: typer.Context,
    user: User,
    scope: Scopes = None,
    ttl: Annotated[str, typer.Option(help="How long it lasts, 1h at most.")] = "10m",
    as_json: Json = False,
) -> None:
    """Mints a token for one user's browser or agent and prints it.

    Example:

        alignx keys token ada --scope chat --scope preferences:read --ttl 30m
    """
    if not scope:
        raise typer.BadParameter("name at least one scope", param_hint="--scope")
    scopes, seconds = choose(SCOPES, scope), int(parse_duration(ttl).total_seconds())
    terminal: Terminal = ctx.obj
    with terminal.client() as client:
        minted = client.mint_token(user, scopes, expires_in_s=seconds)
    note = f"For {minted.user} until {minted.expires_at:%Y-%m-%d %H:%M:%S} UTC."
    terminal.secret(minted, minted.token, note, as_json=as_json)


@app.command()
def audit(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Default: the tenant of the key.", show_default=False)] = None,
    user: Annotated[str | None, typer.Option(help="Exports and erasures of this user.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most entries shown, newest first.")] = 100,
    as_json: Json = False,
) -> None:
    """Says who made, rotated and revoked keys, changed settings, exported and erased users.

    Example:

        alignx keys audit --tenant acme --limit 20
    """
    terminal: Terminal = ctx.obj
    entries: list[AuditEntry] = []
    before: str | None = None
    with terminal.client("admin") as client:
        while len(entries) < limit:
            page = client.audit(tenant=tenant, user=user, before=before, limit=min(1_000, limit - len(entries)))
            entries += page.entries
            if (before := page.next) is None:
                break
    terminal.answer(AuditPage(entries=tuple(entries), next=before), display.audit(entries), as_json=as_json)
