"""Signatures, by the public library of Standard Webhooks and by the SDK."""

import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from alignx import WebhookInvalid, verify_webhook
from services.preference.webhooks.signing import WebhookSecrets

SECRETS = WebhookSecrets("an internal token")
BODY = b'{"type":"preferences.version","timestamp":"2026-01-02T03:04:05Z","data":{"user":"ada","version":3}}'


def signed(*generations: int, at: int | None = None) -> dict[str, str]:
    return SECRETS.headers("acme", "wh_1", list(generations), ("msg_1", at or int(time.time()), BODY))


@pytest.mark.parametrize("generation", [0, 1])
def test_both_secrets_verify_during_an_overlap(generation: int) -> None:
    secret = SECRETS.secret("acme", "wh_1", generation)
    assert Webhook(secret).verify(BODY, signed(1, 0))["data"] == {"user": "ada", "version": 3}
    event = verify_webhook(signed(1, 0), BODY, secret)
    assert (event.type, event.data.user, event.data.version) == ("preferences.version", "ada", 3)


def test_what_is_not_ours_is_refused() -> None:
    secret, old = SECRETS.secret("acme", "wh_1", 1), SECRETS.secret("acme", "wh_1", 0)
    others = [SECRETS.secret("beta", "wh_1", 1), SECRETS.secret("acme", "wh_2", 1)]
    cases = [
        (signed(1), BODY + b" ", secret),
        (signed(1) | {"webhook-id": "msg_2"}, BODY, secret),
        (signed(1) | {"webhook-timestamp": "x"}, BODY, secret),
        (signed(1) | {"webhook-signature": ""}, BODY, secret),
        (signed(1, at=int(time.time()) - 301), BODY, secret),
        (signed(1, at=int(time.time()) + 302), BODY, secret),
        (signed(1), BODY, old),
        *((signed(1), BODY, other) for other in others),
    ]
    for headers, body, key in cases:
        with pytest.raises(WebhookInvalid):
            verify_webhook(headers, body, key)
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, headers)


def test_another_internal_token_is_another_secret() -> None:
    other = WebhookSecrets("another internal token")
    assert other.secret("acme", "wh_1", 0) != SECRETS.secret("acme", "wh_1", 0)
    assert other.fingerprint("acme", "wh_1", 0) != SECRETS.fingerprint("acme", "wh_1", 0)
