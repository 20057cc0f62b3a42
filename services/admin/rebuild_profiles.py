"""Rebuilds fast profiles of an older format from the history.

A release with another format has another PROFILE_SCHEMA. Without this command such a profile is folded again at
each read until the user's next event stores it.
"""

from typing import Any

from services.admin.backup import Progress
from services.admin.list_users import list_users
from services.profile.serialize import dumps, loads
from services.storage.connection import RedisClient, Script, read_script
from services.storage.users import Store


async def rebuild_profiles(redis: RedisClient, shards: int, progress: Progress, *, dry_run: bool) -> int:
    """Rebuilds the profiles of another schema, or with `dry_run` only counts them; returns how many."""
    store, old = Store(redis, shards), 0
    client: Any = redis
    write = Script(redis, read_script("services.admin", "profile"))
    async with list_users(redis) as members:
        total = len(members)
        for done, (tenant, user) in enumerate(members, 1):
            keys = store.keys.user(tenant, user)
            if not _is_readable(await client.get(keys.profile)):
                old += 1
                written = dry_run
                while not written:
                    stamp, profile = await store.profile(tenant, user)
                    # An event in between has stored a new profile itself; an erasure needs none.
                    written = bool(await write.run([keys.state, keys.profile], dumps(profile), stamp=stamp))
                    written = written or _is_readable(await client.get(keys.profile))
            progress(done, total)
    return old


def _is_readable(raw: str | None) -> bool:
    if raw is None:
        return True
    try:
        loads(raw.encode())
    except ValueError:
        return False
    return True
