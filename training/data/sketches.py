"""Counters of any number of values in constant memory.

`Spread` has quantiles, `Repeats` the share of repeated values, `Commonest` the share of the most frequent
value. Up to their capacity they are exact; beyond it the first two estimate from an even sample, and
the last gives a lower bound.
"""

import random
from hashlib import blake2b

from pydantic import BaseModel


class Quantiles(BaseModel):
    """Quantiles of a distribution."""

    least: float
    p10: float
    median: float
    p90: float
    most: float
    mean: float


class Spread:
    """Quantiles of a stream of numbers by reservoir sampling (Vitter's algorithm R), seeded."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._sample: list[float] = []
        self._capacity = capacity
        self._random = random.Random(0)
        self._least, self._most, self._sum = float("inf"), float("-inf"), 0.0
        self.count = 0

    def add(self, value: float) -> None:
        self.count += 1
        self._sum += value
        self._least, self._most = min(self._least, value), max(self._most, value)
        if len(self._sample) < self._capacity:
            self._sample.append(value)
        elif (index := int(self._random.random() * self.count)) < self._capacity:
            self._sample[index] = value

    def quantiles(self) -> Quantiles | None:
        if not self.count:
            return None
        ordered = sorted(self._sample)
        p10, median, p90 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.1, 0.5, 0.9))
        mean = self._sum / self.count
        return Quantiles(least=self._least, p10=p10, median=median, p90=p90, most=self._most, mean=mean)


def fingerprint(*texts: str) -> int:
    """64 bits of the texts, the same in every process; texts that join alike differ."""
    contents = [text.encode("utf-8", "surrogatepass") for text in texts]
    lengths = ",".join(str(len(content)) for content in contents).encode()
    return int.from_bytes(blake2b(b"\n".join((lengths, *contents)), digest_size=8).digest(), "little")


class Repeats:
    """The share of repeated values, by their fingerprints.

    Above `capacity` distinct values it counts only those whose fingerprint ends in one more zero bit, with
    all their repeats: an even sample of the distinct values.
    """

    def __init__(self, capacity: int = 200_000) -> None:
        self._counts: dict[int, int] = {}
        self._capacity = capacity
        self._mask = 0

    def add(self, value: int) -> None:
        if value & self._mask:
            return
        self._counts[value] = self._counts.get(value, 0) + 1
        while len(self._counts) > self._capacity:
            self._mask = self._mask << 1 | 1
            self._counts = {value: count for value, count in self._counts.items() if not value & self._mask}

    @property
    def exact(self) -> bool:
        return self._mask == 0

    def share(self) -> float:
        total = sum(self._counts.values())
        return (total - len(self._counts)) / total if total else 0.0


class Commonest:
    """The share of the most frequent value, from below (Misra and Gries): too low by 1 / `counters` at most."""

    def __init__(self, counters: int = 256) -> None:
        self._counts: dict[int, int] = {}
        self._counters = counters
        self.total = 0

    def add(self, value: int) -> None:
        self.total += 1
        if value in self._counts or len(self._counts) < self._counters:
            self._counts[value] = self._counts.get(value, 0) + 1
            return
        self._counts = {value: count - 1 for value, count in self._counts.items() if count > 1}

    def share(self) -> float:
        return max(self._counts.values(), default=0) / self.total if self.total else 0.0
