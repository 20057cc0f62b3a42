"""Which users no feature and no sentence of the fast profile was chosen on: half of them, by a checksum.

What was tried while the profile was made, was tried on the other half. P-Soups has no such half: all of its
rows were looked at. Of a benchmark that is not listed nothing was looked at.
"""

import zlib
from collections.abc import Mapping
from typing import Final

SALTS: Final[Mapping[str, str]] = {"movielens": "ml", "amazon-candidates": "g", "mind": "m", "prefeval": ""}
"""Stands before a user's id in the checksum that halves the users of a benchmark."""


def aside(benchmark: str, user: str) -> bool | None:
    """Whether the user is in the half kept aside; none for a benchmark without one."""
    salt = SALTS.get(benchmark)
    return None if salt is None else bool(zlib.crc32((salt + user.replace("-", "")).encode()) & 1)
