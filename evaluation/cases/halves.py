"""The halves of a benchmark: one to develop the fast profile on, one kept aside.

Rows go to a half by a hash of their topic (of PrefEval), else of their question (of P-Soups), else of their user, so
that what depends on each other stays together. Of MovieLens, the Amazon games and MIND no feature was ever chosen on
the kept half; all of PrefEval and P-Soups was looked at before their halves were drawn.
"""

import hashlib
import zlib
from collections.abc import Mapping
from typing import Final, Literal

Half = Literal["development", "kept"]
HALVES: Final[tuple[Half, Half]] = ("development", "kept")
SALTS: Final[Mapping[str, str]] = {"movielens": "ml", "amazon-candidates": "g", "mind": "m"}
"""Prefix of a user's id in the checksum that halved the users of these benchmarks first."""


def assign_half(benchmark: str, group: str) -> Half:
    """`group` is what stays together: a topic, a question or a user."""
    if salt := SALTS.get(benchmark):
        return HALVES[zlib.crc32((salt + group.replace("-", "")).encode()) & 1]
    return HALVES[hashlib.sha256(f"{benchmark}:{group}".encode()).digest()[-1] & 1]
