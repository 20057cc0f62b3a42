"""Erases many users: those that a call names, or a share of those whose ids have a prefix.

A user who is erased leaves the index with all else, so a call that is sent again goes on where the one before ended.
"""

import asyncio
from typing import Final

from alignx.schemas.many_users import EraseRequest, UsersErased
from services.preference.many_users.user_index import UserIndex
from services.preference.queue import Queue
from services.server.app import STORE_FAULTS

_AT_ONCE: Final = 32


async def erase_users(queue: Queue, index: UserIndex, tenant: str, request: EraseRequest) -> UsersErased:
    """Raises the faults of Redis where nobody was erased before them; else the answer says who was."""
    if request.users is not None:
        names, total = list(dict.fromkeys(request.users)), len(set(request.users))
    else:
        names, total = await index.names(tenant, request.prefix or "", None, request.limit)
    erased, done = list[str](), 0
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        results = await asyncio.gather(*(queue.forget(tenant, name) for name in part), return_exceptions=True)
        done += sum(isinstance(result, bool) for result in results)
        erased += [name for name, result in zip(part, results, strict=True) if result is True]
        if fault := next((result for result in results if isinstance(result, BaseException)), None):
            if not erased or not isinstance(fault, STORE_FAULTS):
                raise fault
            break
    return UsersErased(
        erased=tuple(erased),
        unknown=done - len(erased) if request.users is not None else 0,
        left=max(0, total - done),
    )
