"""Secrets of webhook endpoints, and the signatures of Standard Webhooks 1 (https://www.standardwebhooks.com).

    webhook-signature: v1,base64(HMAC-SHA256(secret, "<webhook-id>.<webhook-timestamp>.<body>"))

A secret follows from ALIGNX_INTERNAL_TOKEN, tenant, endpoint and the number of its rotations, as the signing key of
user tokens follows from it, so neither Redis nor a backup holds one. By scrypt, so that whoever has a secret cannot try
out a short internal token fast.
"""

import base64
import hashlib
import hmac

PREFIX = "whsec_"


class WebhookSecrets:
    """The secrets of a deployment."""

    def __init__(self, internal_token: str) -> None:
        self._root = hashlib.scrypt(internal_token.encode(), salt=b"alignx webhooks", n=2**14, r=8, p=1, dklen=32)

    def secret(self, tenant: str, endpoint: str, generation: int) -> str:
        """As the receiver is given it."""
        return PREFIX + base64.b64encode(self._key(tenant, endpoint, generation)).decode()

    def fingerprint(self, tenant: str, endpoint: str, generation: int) -> str:
        """Tells whether the secret is still the one that was given out: 16 hexadecimal digits."""
        return hashlib.sha256(self._key(tenant, endpoint, generation)).hexdigest()[:16]

    def headers(self, tenant: str, endpoint: str, generations: list[int], signed: "Signed") -> dict[str, str]:
        """Those of a request, with a signature by the secret of each generation."""
        event_id, at, body = signed
        content = f"{event_id}.{at}.".encode() + body
        signatures = [
            "v1," + base64.b64encode(hmac.digest(self._key(tenant, endpoint, generation), content, "sha256")).decode()
            for generation in generations
        ]
        return {"webhook-id": event_id, "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}

    def _key(self, tenant: str, endpoint: str, generation: int) -> bytes:
        return hmac.digest(self._root, f"{tenant}/{endpoint}/{generation}".encode(), "sha256")


Signed = tuple[str, int, bytes]
"""An event's id, seconds since 1970, and the body."""
