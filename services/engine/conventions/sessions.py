"""Whose call to the engine it is, for a router in front of several engines that keeps a user's requests together.

Each request of a user's carries `X-Session-ID`, a hash keyed by `ALIGNX_ENGINE__SESSION_SECRET`: who does not know the
secret learns no id from it. The user is that of the current task: no signature between here and the caller names one.
"""

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

HEADER: Final = "X-Session-ID"
_DIGITS: Final = 32
_USER: ContextVar[tuple[str, str] | None] = ContextVar("user", default=None)


@contextmanager
def session_of(tenant: str, user: str | None) -> Iterator[None]:
    """Calls within the block, and of tasks begun there, are this user's."""
    token = _USER.set((tenant, user) if user else None)
    try:
        yield
    finally:
        _USER.reset(token)


def session_header(secret: str | None) -> dict[str, str]:
    """Empty without a secret, and outside of a user's block."""
    owner = _USER.get()
    if not (secret and owner):
        return {}
    digest = hmac.new(secret.encode(), "\0".join(owner).encode(), hashlib.sha256).hexdigest()
    return {HEADER: digest[:_DIGITS]}
