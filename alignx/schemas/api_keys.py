"""API keys and tenants, as the gateway's admin calls give them."""

from typing import Annotated

from pydantic import AwareDatetime, Field, NonNegativeInt, StringConstraints

from alignx.schemas.items import Frozen

TENANT_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class KeyRequest(Frozen):
    """An API key to make."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    tenant: Annotated[str, StringConstraints(pattern=TENANT_NAME)]
    admin: bool = False
    rate: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = None
    """Requests per second; default from the settings."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class KeyInfo(Frozen):
    """An API key without its secret."""

    id: str
    name: str
    tenant: str
    admin: bool
    rate: float
    burst: int
    created_at: AwareDatetime
    revoked_at: AwareDatetime | None = None


class KeyCreated(KeyInfo):
    key: str
    """The whole key. It is shown this once; only its hash is kept."""


class KeyList(Frozen):
    keys: tuple[KeyInfo, ...]
    next: str | None = None


class TenantInfo(Frozen):
    tenant: str
    keys: NonNegativeInt
    """API keys made for it, revoked ones included."""


class TenantList(Frozen):
    tenants: tuple[TenantInfo, ...]
    next: str | None = None
    """Give it as `after` to read the next page; null at the end."""
