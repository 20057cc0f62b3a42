"""Verifies what arrives at a webhook endpoint, signed as Standard Webhooks (https://www.standardwebhooks.com).

    event = verify_webhook(request.headers, request.body, secret)  # bytes as they came, before any JSON is parsed

The id in the header `webhook-id` is the same at each attempt: remember it, and drop what comes twice.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping

from alignx.client.errors import ClientError
from alignx.schemas.webhooks import WebhookEvent

TOLERANCE_S = 300
"""How far the time of a request may be from the receiver's clock."""


class WebhookInvalid(ClientError):
    """The request is not from AlignX Serve, was changed, or is too old: answer 400."""


def verify_webhook(
    headers: Mapping[str, str], body: bytes | str, secret: str, *, tolerance_s: float = TOLERANCE_S
) -> WebhookEvent:
    """The event of a request whose signature fits. Raises WebhookInvalid; pydantic's ValidationError for an event of a
    later release, which is genuine but unknown."""
    fields = {name.lower(): value for name, value in headers.items()}
    event_id, sent = fields.get("webhook-id", ""), fields.get("webhook-timestamp", "")
    raw = body.encode() if isinstance(body, str) else body
    if not (sent.isascii() and sent.isdigit()) or abs(time.time() - int(sent)) > tolerance_s:
        raise WebhookInvalid("The request says no time, or one that is too far from now.")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, f"{event_id}.{sent}.".encode() + raw, hashlib.sha256))
    signatures = fields.get("webhook-signature", "").split()
    if not any(hmac.compare_digest(b"v1," + expected, signature.encode()) for signature in signatures):
        raise WebhookInvalid("No signature fits the secret and the body.")
    return WebhookEvent.model_validate_json(raw)
