"""Rebuilds the summaries that one model or prompt template wrote, or rolls them back, so many a minute.

The users go by in the order of their names. Redis holds how far it is, so that the command run again after an
interruption goes on there, and begins anew once it is done.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from alignx.schemas.summaries import SummaryVersion
from services.admin.backup import Progress
from services.admin.list_users import list_users
from services.errors import StaleVersion, UserUnknown
from services.preference.ingest import Ingest
from services.storage.users import Store

_PAGE = 100


@dataclass(frozen=True, slots=True)
class Writer:
    """What wrote a summary: a source such as `llm:NAME`, or the id of a prompt template."""

    kind: str
    """`source` or `template`."""
    name: str

    def wrote(self, version: SummaryVersion) -> bool:
        return bool(getattr(version, self.kind) == self.name)


def cursor_key(writer: Writer, tenant: str | None, *, undo: bool) -> str:
    """Holds the latest user that is done, as `<tenant>:<user>`."""
    tenants = quote(tenant, safe="") if tenant else "*"
    return f"pi:rebuild:{'undo' if undo else 'redo'}:{writer.kind}:{quote(writer.name, safe='')}:{tenants}"


async def request_rebuilds(
    ingest: Ingest, writer: Writer, tenant: str | None, pause_s: float, progress: Progress
) -> int:
    """Asks the worker to rebuild each user whose current summary `writer` wrote; returns how many."""

    async def rebuild(user: tuple[str, str], current: SummaryVersion) -> bool:
        await ingest.queue.request_rebuild(*user)
        return True

    return await _go_through(ingest.store, writer, tenant, rebuild, pause_s, progress, undo=False)


async def roll_back_users(
    ingest: Ingest, writer: Writer, tenant: str | None, pause_s: float, progress: Progress
) -> int:
    """Gives each user whose current summary `writer` wrote the newest one back that it did not write; returns how many.
    Who has none keeps theirs."""

    async def roll_back(user: tuple[str, str], current: SummaryVersion) -> bool:
        before: int | None = current.version
        while page := await ingest.store.versions(*user, before, _PAGE):
            for version in page:
                if not writer.wrote(version):
                    await ingest.roll_back(*user, current.version, version)
                    return True
            before = page[-1].version
        return False

    return await _go_through(ingest.store, writer, tenant, roll_back, pause_s, progress, undo=True)


async def _go_through(
    store: Store,
    writer: Writer,
    tenant: str | None,
    change: Callable[[tuple[str, str], SummaryVersion], Awaitable[bool]],
    pause_s: float,
    progress: Progress,
    *,
    undo: bool,
) -> int:
    client: Any = store.redis
    key, changed = cursor_key(writer, tenant, undo=undo), 0
    done_until = await client.get(key) or ""
    async with list_users(store.redis, tenant) as members:
        for done, user in enumerate(members, 1):
            member = store.keys.user(*user).member
            if member > done_until:
                if await _change_user(store, writer, user, change):
                    changed += 1
                    await asyncio.sleep(pause_s)
                await client.set(key, member)
            progress(done, len(members))
    await client.delete(key)
    return changed


async def _change_user(
    store: Store,
    writer: Writer,
    user: tuple[str, str],
    change: Callable[[tuple[str, str], SummaryVersion], Awaitable[bool]],
) -> bool:
    while True:
        try:
            versions = await store.versions(*user, None, 1)
            return bool(versions and writer.wrote(versions[0]) and await change(user, versions[0]))
        except StaleVersion:  # written meanwhile: look again
            continue
        except UserUnknown:
            return False
