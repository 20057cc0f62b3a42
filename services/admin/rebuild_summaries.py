"""Rebuilds the summaries that one model or prompt template wrote, or rolls them back, so many a minute.

The users go by in the order of their names. Redis holds how far it is, so that the command run again after an
interruption goes on there, and begins anew once it is done.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from alignx.schemas.summaries import SummaryVersion
from services.admin.backup import Progress
from services.admin.list_users import list_users
from services.errors import StaleVersion, UserUnknown
from services.preference.ingest import Ingest

_MAX_VERSIONS = 1_000
_CURSOR_EVERY = 1_000
"""Users between two writes of the cursor where none is concerned; looking at them again changes nothing."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Which summaries, and what happens to them."""

    kind: str
    """`source` or `template`."""
    name: str
    """Such as `llm:NAME`, or the id of a template."""
    tenant: str | None = None
    undo: bool = False
    """Gives back the newest version that something else wrote, to who has one; else the worker writes anew."""
    pause_s: float = 1.0

    def wrote(self, version: SummaryVersion) -> bool:
        return bool(getattr(version, self.kind) == self.name)

    @property
    def cursor_key(self) -> str:
        """Holds the latest user that is done, as a member of the queue."""
        parts = ("undo" if self.undo else "redo", self.kind, self.name, self.tenant or "*")
        return "pi:rebuild:" + ":".join(quote(part, safe="*") for part in parts)


async def rewrite_summaries(ingest: Ingest, rewrite: Rewrite, progress: Progress) -> int:
    """Goes through the users; returns how many of them the source or template concerns."""
    client: Any = ingest.store.redis
    changed, done_until = 0, await client.get(rewrite.cursor_key) or ""
    async with list_users(ingest.store.redis, rewrite.tenant) as members:
        total = len(members)
        for done, user in enumerate(members, 1):
            member = ingest.store.keys.user(*user).member
            if member > done_until:
                changed += (is_concerned := await _rewrite_user(ingest, rewrite, user))
                if is_concerned or done % _CURSOR_EVERY == 0:
                    await client.set(rewrite.cursor_key, member)
                if is_concerned:
                    await asyncio.sleep(rewrite.pause_s)
            progress(done, total)
    await client.delete(rewrite.cursor_key)
    return changed


async def _rewrite_user(ingest: Ingest, rewrite: Rewrite, user: tuple[str, str]) -> bool:
    while True:
        try:
            versions = await ingest.store.versions(*user, None, _MAX_VERSIONS if rewrite.undo else 1)
        except UserUnknown:
            return False
        if not versions or not rewrite.wrote(versions[0]):
            return False
        target = next((version for version in versions if not rewrite.wrote(version)), None)
        if rewrite.undo and target is None:
            return False
        with contextlib.suppress(StaleVersion, UserUnknown):  # written or erased meanwhile: look again
            if target is None:
                await ingest.queue.request_rebuild(*user)
            else:
                await ingest.roll_back(*user, versions[0].version, target)
            return True
