"""An operator's commands on the data: they talk to Redis directly, without the gateway.

\b
    python -m services.admin backup all.alignx.gz
    python -m services.admin verify all.alignx.gz
    python -m services.admin restore all.alignx.gz --tenant acme
    python -m services.admin migrate --dry-run
    python -m services.admin rebuild --source llm:NAME --per-minute 60

ALIGNX_REDIS__URL names Redis, as for the services. docs/how-to/backup.md says when to use which command.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

import typer
from prometheus_client import CollectorRegistry
from pydantic import SecretStr, ValidationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from services.admin.backup import write_backup
from services.admin.rebuild_profiles import rebuild_profiles
from services.admin.rebuild_summaries import Rewrite, rewrite_summaries
from services.admin.records import BackupInvalid
from services.admin.restore import Restore, Selection, UsersExist, check, key_space, read_header
from services.admin.user_records import Existing
from services.errors import AlignXError
from services.preference.ingest import Ingest
from services.preference.queue import Queue
from services.preference.updates.update_metrics import IngestMetrics
from services.settings import Settings
from services.storage.connection import RedisClient, open_redis
from services.storage.key_names import KeySpace
from services.storage.migrations import Schema
from services.storage.users import Store

Result = TypeVar("Result")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__)

Tenant = Annotated[str | None, typer.Option(help="This tenant alone.")]
File = Annotated[Path, typer.Argument(help="A file of the command backup.", exists=True, dir_okay=False)]


class OperatorSettings(Settings):
    """The services' settings; the token by which they know the gateway is not needed here."""

    internal_token: SecretStr = SecretStr("")


class CommandRefused(Exception):
    """The command has changed nothing; the message says why."""


@app.command()
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Where to; '-' is standard output.")],
    tenant: Tenant = None,
) -> None:
    """Writes all users, or a tenant's, with the records of API keys (never their secrets).

    The suite goes on meanwhile. The file is there only when it is whole.
    """

    async def work() -> dict[str, int]:
        with _open_output(file) as out, _progress("backing up") as bar:
            async with _connect() as redis:
                return await write_backup(redis, await _read_key_space(redis), out, tenant=tenant, progress=bar)

    _print(_render_totals("Written", _run(work())))


@app.command()
def verify(file: File) -> None:
    """Reads a backup to its end and checks every checksum; exits with 1 if one does not fit."""

    async def work() -> dict[str, Any]:
        with file.open("rb") as content:
            checked = check(content, Selection())
        return checked.header | checked.end

    content = _run(work())
    typer.echo(
        f"Whole and unchanged. Made {content['created_at']} by release {content['release']}, schema version "
        f"{content['schema']}, tenant {content['tenant'] or '(all)'}."
    )
    typer.echo(_render_totals("Holds", content))


@app.command()
def restore(
    file: File,
    tenant: Tenant = None,
    user: Annotated[str | None, typer.Option(help="This user of --tenant alone.")] = None,
    into: Annotated[str | None, typer.Option(help="Give the users of --tenant to this tenant; no API keys.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace users who exist.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --replace: also those who came back from this very backup before.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep-existing", help="Leave users who exist as they are.")] = False,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Without API keys.")] = False,
) -> None:
    """Puts users back, into an empty suite or beside those of one at work.

    The file is checked first. If users of it exist, nothing is done, unless --replace or
    --keep-existing says what to do. After an interruption run the same command again: who is back
    already stays as they are.
    """
    if (user or into) and tenant is None:
        raise typer.BadParameter("needs --tenant", param_hint="--user" if user else "--into")
    if replace and keep:
        raise typer.BadParameter("not together with --keep-existing", param_hint="--replace")
    if again and not replace:
        raise typer.BadParameter("needs --replace", param_hint="--again")
    existing: Existing = "again" if again else "replace" if replace else "keep" if keep else "refuse"
    selection = Selection(tenant, user, into, api_keys=not no_keys)

    async def work() -> dict[str, int]:
        with file.open("rb") as content, _progress("restoring") as bar:
            async with _connect() as redis:
                keys = await key_space(redis, _read_shards(content))
                done = await Restore(redis, keys, selection).run(content, existing, lambda _, *of: bar(*of))
            if keys.shards != _settings().queue.shards:
                _print(f"This Redis holds {keys.shards} shards: the services need ALIGNX_QUEUE__SHARDS={keys.shards}.")
            return done

    done = _run(work())
    words = {
        "NEW": "new",
        "REPLACED": "replaced",
        "SAME_BACKUP": "restored before",
        "EXISTS": "left as they are",
        "API_KEYS": "API keys",
    }
    _print(
        "Users and keys: " + (", ".join(f"{done[word]} {label}" for word, label in words.items() if done[word]) or "0")
    )
    if done["SAME_BACKUP"] and replace:
        _print("Already restored from this backup, so left unchanged; --replace --again restores them once more.")
    if done["EXISTS"] and not keep:
        raise typer.Exit(1)


@app.command()
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
) -> None:
    """Brings the data to this release's schema version and profiles to its form.

    The services migrate when they start; this command does it earlier. The suite may be running.
    """

    async def work() -> None:
        async with _connect() as redis:
            schema = Schema(redis)
            steps = await schema.steps()
            _print(f"Data: version {await schema.stored() or '(none)'}; this release: {schema.current}.")
            for step in steps:
                _print(f"  {step}")
            if not dry_run:
                await schema.claim()
            with _progress("profiles") as bar:
                shards = (await _read_key_space(redis)).shards
                old = await rebuild_profiles(redis, shards, bar, dry_run=dry_run)
        _print(f"Profiles {'to be made' if dry_run else 'made'} again from the history: {old}.")

    _run(work())


@app.command()
def rebuild(
    source: Annotated[str | None, typer.Option(help="Summaries by this source, such as llm:NAME.")] = None,
    template: Annotated[str | None, typer.Option(help="Summaries from this prompt template.")] = None,
    tenant: Tenant = None,
    per_minute: Annotated[float, typer.Option(min=0.1, help="Users a minute.")] = 60.0,
    undo: Annotated[bool, typer.Option("--undo", help="Give back the versions before instead.")] = False,
) -> None:
    """Has the current summaries of a model or a template written anew, or gives back those before them.

    The worker writes them. Ctrl-C stops; the same command goes on from there.
    """
    if (source is None) == (template is None):
        raise typer.BadParameter("one of --source and --template", param_hint="--source")
    kind = "template" if source is None else "source"
    rewrite = Rewrite(kind, str(source or template), tenant, undo, pause_s=60 / per_minute)

    async def work() -> int:
        async with _connect() as redis:
            settings, shards = _settings(), (await _read_key_space(redis)).shards
            queue = Queue(redis, settings.queue.model_copy(update={"shards": shards}), settings.summary)
            ingest = Ingest(Store(redis, shards), queue, settings.limits, IngestMetrics(CollectorRegistry()))
            with _progress("rolling back" if undo else "asking for rebuilds") as bar:
                return await rewrite_summaries(ingest, rewrite, bar)

    _print(f"{'Rolled back' if undo else 'Rebuilds asked for'}: {_run(work())}.")


# --- connections, files, errors ----------------------------------------------------------------


def _settings() -> Settings:
    try:
        return OperatorSettings(_secrets_dir=os.environ.get("ALIGNX_SECRETS_DIR"))
    except ValidationError as error:
        first = error.errors()[0]
        name = "ALIGNX_" + "__".join(str(part) for part in first["loc"]).upper()
        raise CommandRefused(f"{name}: {first['msg']}") from error


def _connect() -> AbstractAsyncContextManager[RedisClient]:
    return open_redis(_settings().redis)


async def _read_key_space(redis: RedisClient) -> KeySpace:
    client: Any = redis
    await Schema(redis).steps()  # data of a newer release are not for this one
    return KeySpace(int(await client.get("pi:shards") or _settings().queue.shards))


def _read_shards(backup: BinaryIO) -> int:
    """For an empty Redis: what the setting says, or else what the backup came from."""
    queue = _settings().queue
    return queue.shards if "shards" in queue.model_fields_set else int(read_header(backup)["shards"])


@contextmanager
def _open_output(file: str) -> Iterator[BinaryIO]:
    """The file, which appears under its name when it is whole; readable by its owner alone."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _render_totals(verb: str, counts: dict[str, Any]) -> str:
    users, events, tenants, api_keys = (
        f"{counts[name]:,} {noun}{'' if counts[name] == 1 else 's'}"
        for name, noun in (("users", "user"), ("events", "event"), ("tenants", "tenant"), ("api_keys", "API key"))
    )
    return f"{verb}: {users} with {events}, {tenants}, {api_keys}."


def _print(text: str) -> None:
    typer.echo(text, err=True)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """The result, or the error as a sentence and exit code 1."""
    try:
        return asyncio.run(work)
    except (BackupInvalid, UsersExist, CommandRefused) as error:
        hint = " (--replace replaces them, --keep-existing leaves them)" if isinstance(error, UsersExist) else ""
        _print(f"error: {error}{hint}. Nothing was changed.")
    except AlignXError as error:
        _print(f"error: {error.detail}")
    except RedisConnectionError as error:
        _print(f"error: {error} Set ALIGNX_REDIS__URL to where Redis listens.")
    except (RedisError, OSError) as error:
        _print(f"error: {error}")
    raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m services.admin")
