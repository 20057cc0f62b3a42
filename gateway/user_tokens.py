"""User tokens: short-lived, for one user and some scopes, minted by an API key and signed by the gateway.

    {"key": "3f9c…", "gen": 0, "sub": "ada", "scope": "chat select", "iat": 1763700000, "exp": 1763700600}

A JSON Web Token (RFC 7519) by HMAC-SHA256, so that a client can read when it ends. `hmac` of the standard library
is enough: one algorithm and one header, compared to the byte, leave a library nothing but choices to switch off.
`gen` counts the rotations of the key: a token ends with the secret that minted it. The tenant is no claim: it comes
from the key's record.

The signing key is derived from ALIGNX_INTERNAL_TOKEN, so all gateways of a deployment have the same one and Redis
holds none. By scrypt, so that whoever has a token cannot try out a short internal token fast.
"""

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import cast

import orjson

from alignx.schemas.tenants import SCOPES, Scope

_LONGEST = 4_096
"""Characters of a token that is looked at."""


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


_HEADER = _encode(b'{"alg":"HS256","typ":"JWT"}') + "."


@dataclass(frozen=True, slots=True)
class UserClaims:
    """What a token says."""

    key_id: str
    generation: int
    """Rotations of the key before the secret that minted the token."""
    user: str
    scopes: frozenset[Scope]
    expires_at: int
    """Seconds since 1970."""

    @property
    def expired(self) -> bool:
        return time.time() >= self.expires_at


def is_user_token(text: str) -> bool:
    """Whether `text` has the form of a token, genuine or not."""
    return text.startswith(_HEADER)


class UserTokens:
    """Signs tokens and reads those it has signed, and names users where their ids must not stand."""

    def __init__(self, internal_token: str) -> None:
        secret = hashlib.scrypt(internal_token.encode(), salt=b"alignx user tokens", n=2**14, r=8, p=1, dklen=64)
        self._signing, self._naming = secret[:32], secret[32:]

    def mint(self, claims: UserClaims) -> str:
        content = {
            "key": claims.key_id,
            "gen": claims.generation,
            "sub": claims.user,
            "scope": " ".join(scope for scope in SCOPES if scope in claims.scopes),
            "iat": int(time.time()),
            "exp": claims.expires_at,
        }
        signed = _HEADER + _encode(orjson.dumps(content))
        return f"{signed}.{self._sign(signed)}"

    def read(self, text: str) -> UserClaims | None:
        """The claims of a genuine token, whether or not it has expired; None for any other text."""
        signed, _, signature = text.rpartition(".")
        if len(text) > _LONGEST or not text.isascii() or not is_user_token(signed):
            return None
        if not hmac.compare_digest(signature, self._sign(signed)):
            return None
        encoded = signed.removeprefix(_HEADER)
        content = orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        return UserClaims(
            key_id=content["key"],
            generation=content["gen"],
            user=content["sub"],
            scopes=frozenset(cast("list[Scope]", content["scope"].split())),
            expires_at=content["exp"],
        )

    def hash_user(self, tenant: str, user: str) -> str:
        """A name for a user that only this deployment can tell from others: 32 hexadecimal digits."""
        return hmac.digest(self._naming, f"{tenant}/{user}".encode(), "sha256").hex()[:32]

    def _sign(self, text: str) -> str:
        return _encode(hmac.digest(self._signing, text.encode(), "sha256"))
