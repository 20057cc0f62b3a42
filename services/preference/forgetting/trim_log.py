"""Shortens a user's log after an update: the oldest events go once their profile, the checkpoint, stands for them.

A profile that is made anew, as when an event is forgotten, begins with it. A release whose profiles have another form
cannot read it, and begins with the log.
"""

import asyncio
import logging
from typing import Final

from redis.exceptions import RedisError

from services.errors import UserUnknown
from services.preference.queue import Queue
from services.storage.user_profile import Checkpoint, HistoryFold
from services.storage.users import Store

LEAST: Final = 100
"""Events beyond what is kept that are worth a step."""
_PAGE: Final = 500
logger = logging.getLogger("alignx.update")


async def trim_log(store: Store, queue: Queue, tenant: str, user: str) -> None:
    """Keeps the pending events and those that the settings say. The version is committed: a step that fails is made
    after the next one."""
    try:
        while await _trim_page(store, queue, tenant, user):
            pass
    except (RedisError, UserUnknown) as error:
        logger.warning("a log was not shortened", extra={"error": type(error).__name__})


async def _trim_page(store: Store, queue: Queue, tenant: str, user: str) -> bool:
    """Whether more may be left to trim."""
    keys = store.keys.user(tenant, user)
    pipe = store.redis.pipeline(transaction=False)
    pipe.hmget(keys.state, "born", "edits", "pend")
    pipe.xlen(keys.log)
    (born, edits, pending), size = await pipe.execute()
    surplus = size - queue.summary.keep_events - int(pending or 0)
    if surplus < LEAST:
        return False
    checkpoint = await store.checkpoint(tenant, user)
    folding = HistoryFold(await store.versions(tenant, user, None, None), checkpoint.profile)
    events = await store.events(tenant, user, None, min(surplus, _PAGE))
    if not events:
        return False
    for event in events:
        folding.add(event)
        await asyncio.sleep(0)
    first, last = checkpoint.first or events[0].event_id, events[-1].event_id
    return await queue.trim(tenant, user, f"{born}:{edits or 0}", Checkpoint(first, last, folding.profile))
