"""Webhooks: the endpoints that a tenant registers, what is sent to them, and what became of it."""

from typing import Annotated, Literal, get_args

from pydantic import (
    AwareDatetime,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StrictBool,
    StrictInt,
    StringConstraints,
)

from alignx.schemas.items import Frozen
from alignx.schemas.tenants import DAY_S, LONGEST_OVERLAP_S

EventType = Literal["preferences.version", "preferences.drift", "preferences.held_back", "user.erased"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
MOST_ENDPOINTS = 10
"""Of one tenant."""

EndpointUrl = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_048, pattern=r"^https?://")]
EventTypes = Annotated[tuple[EventType, ...], Field(min_length=1)]


class WebhookRequest(Frozen):
    """An endpoint to register."""

    url: EndpointUrl
    """Where events are sent by POST: https, and no address of a private network."""
    events: EventTypes = EVENT_TYPES
    """Which events it gets; default: all."""


class WebhookChange(Frozen):
    """What to change of an endpoint; what is left out stays."""

    url: EndpointUrl | None = None
    events: EventTypes | None = None
    enabled: StrictBool | None = None
    """False stops it; true sends what waits, after a long failure too."""


class Webhook(Frozen):
    """An endpoint without its secret."""

    id: str
    url: str
    events: tuple[EventType, ...]
    created_at: AwareDatetime
    previous_until: AwareDatetime | None = None
    """Until when what is sent is signed with the secret from before the latest rotation too."""
    failing_since: AwareDatetime | None = None
    """Since when no delivery has succeeded; null after a success."""
    disabled: str | None = None
    """Why nothing is sent now; null while it is."""


class WebhookCreated(Webhook):
    secret: str
    """What verifies the signatures. It is shown this once."""


class WebhookList(Frozen):
    webhooks: tuple[Webhook, ...]


class WebhookRotation(Frozen):
    """A new secret for an endpoint."""

    overlap_s: Annotated[StrictInt, Field(ge=0, le=LONGEST_OVERLAP_S)] = DAY_S
    """Seconds for which what is sent is signed with the secret until now too."""


class WebhookData(Frozen):
    """What an event says: ids, version numbers and times; never a text of the user's."""

    model_config = ConfigDict(extra="ignore")  # a later release may say more

    user: str | None = None
    """Null in a test event."""
    version: PositiveInt | None = None
    """The version that was written (`preferences.version`)."""
    reason: Literal["checks", "dead_letter"] | None = None
    """Why an update was held back: a draft failed its checks, or an event was set aside."""
    event_id: str | None = None
    """The event that was set aside."""
    since: AwareDatetime | None = None
    """When the preferences turned (`preferences.drift`)."""
    comparisons: NonNegativeInt | None = None
    """Choices that show it."""


class WebhookEvent(Frozen):
    """The body of a delivery; its id is the header `webhook-id`."""

    model_config = ConfigDict(extra="ignore")

    type: EventType | Literal["webhook.test"]
    timestamp: AwareDatetime
    """When it happened."""
    data: WebhookData


class WebhookDelivery(Frozen):
    """An event on its way to one endpoint, or what became of it."""

    id: str
    """The header `webhook-id`: the same at each attempt and each endpoint."""
    event: WebhookEvent
    status: Literal["waiting", "delivered", "failed"] = "waiting"
    attempts: NonNegativeInt = 0
    attempted_at: AwareDatetime | None = None
    response: int | None = None
    """Status of the latest answer."""
    error: str | None = None
    """Why the latest attempt got none."""
    next_at: AwareDatetime | None = None
    """When it is tried again, unless the endpoint is disabled."""


class WebhookDeliveries(Frozen):
    """Newest first."""

    deliveries: tuple[WebhookDelivery, ...]


class WebhookQueued(Frozen):
    id: str
    """Of the delivery."""
