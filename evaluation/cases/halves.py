"""The held-out half of a benchmark's users, by a checksum of their ids.

Features and sentences of the fast profile were chosen on the other half. P-Soups has no held-out half: all of its
rows were looked at. Benchmarks that are not listed were not looked at.
"""

import zlib
from collections.abc import Mapping
from typing import Final

SALTS: Final[Mapping[str, str]] = {"movielens": "ml", "amazon-candidates": "g", "mind": "m", "prefeval": ""}
"""Prefix of a user's id in the checksum that halves the users of a benchmark."""


def is_held_out(benchmark: str, user: str) -> bool | None:
    """None for a benchmark without a held-out half."""
    salt = SALTS.get(benchmark)
    return None if salt is None else bool(zlib.crc32((salt + user.replace("-", "")).encode()) & 1)
