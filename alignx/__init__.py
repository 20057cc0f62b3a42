"""AlignX: learns what each user prefers, as plain text, and answers by it.

    from alignx import AlignX, StatementInteraction

    with AlignX() as alignx:  # ALIGNX_URL, ALIGNX_API_KEY
        alignx.append("ada", [StatementInteraction(text="I want sources, not opinions.")], wait=10)
        print(alignx.preferences("ada").text)
        for event in alignx.watch("ada"):  # as the summary is written
            print(event)

The names below are the public API. Each is imported on its first use, so that a service which needs
`alignx.schemas` alone does not load httpx.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignx.client.client import AlignX, AsyncAlignX
    from alignx.client.errors import AnswerUnreadable, ClientError, FieldError, ProblemError, Unreachable
    from alignx.client.retry import RetryPolicy
    from alignx.client.streams import ChangedEvent, DeltaEvent, ErrorEvent, PendingEvent, SummaryEvent, VersionEvent
    from alignx.client.webhooks import WebhookInvalid, verify_webhook
    from alignx.schemas.interactions import (
        ClickInteraction,
        ComparisonInteraction,
        DemographicInteraction,
        DialogueInteraction,
        Interaction,
        Message,
        PostInteraction,
        PurchaseInteraction,
        RatingInteraction,
        StatementInteraction,
    )
    from alignx.schemas.items import Item, ItemFields
    from alignx.schemas.many_users import LineOutcome, ListedUser, UserEvents
    from alignx.schemas.webhooks import WebhookEvent

__version__ = "0.1.0"

__all__ = [
    "AlignX",
    "AnswerUnreadable",
    "AsyncAlignX",
    "ChangedEvent",
    "ClickInteraction",
    "ClientError",
    "ComparisonInteraction",
    "DeltaEvent",
    "DemographicInteraction",
    "DialogueInteraction",
    "ErrorEvent",
    "FieldError",
    "Interaction",
    "Item",
    "ItemFields",
    "LineOutcome",
    "ListedUser",
    "Message",
    "PendingEvent",
    "PostInteraction",
    "ProblemError",
    "PurchaseInteraction",
    "RatingInteraction",
    "RetryPolicy",
    "StatementInteraction",
    "SummaryEvent",
    "Unreachable",
    "UserEvents",
    "VersionEvent",
    "WebhookEvent",
    "WebhookInvalid",
    "verify_webhook",
]

MODULES = (
    "schemas.items",
    "schemas.interactions",
    "schemas.many_users",
    "schemas.webhooks",
    "client.errors",
    "client.retry",
    "client.streams",
    "client.webhooks",
    "client.client",
)
"""Where the public names are defined; those that load the least come first."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in MODULES:
            if (value := vars(import_module(f"alignx.{module}")).get(name)) is not None:
                return value
    raise AttributeError(f"module 'alignx' has no attribute {name!r}")
