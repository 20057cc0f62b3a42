"""What converters share: their options, the count of rows, and helpers for files and targets.

A converter is a function of a folder with a benchmark's official files, a Plan and a Tally, and yields benchmark
rows. It draws from generators seeded by `Plan.rng` alone, so that a row depends on the seed and its own user, not
on the rows before it.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from alignx.schemas.interactions import Message
from alignx.schemas.items import Item, item_text
from evaluation.cases.benchmark_rows import BenchmarkRow, Target
from training.data.reading import Malformed
from training.exceptions import DatasetError

T = TypeVar("T")
UNMATCHED = "targets without an item that others had taken as often"
Negatives = Literal["random", "popular", "matched"]
NEGATIVES: tuple[Negatives, ...] = ("random", "popular", "matched")


@dataclass(frozen=True)
class Plan:
    """Options of a conversion."""

    seed: int = 42
    history: int = 50
    """Most events of a row's history; older ones are dropped."""
    negatives: Negatives = "random"
    """The rejected item of a recommendation target: any that the user never takes; one drawn by how often others
    had liked it before; or one that others had taken exactly as often as the target, so that popularity carries no
    information. A target without such an item is left out."""
    targets: int = 1
    """Most targets of one user of a recommendation benchmark, the last ones."""
    liked: float = 4.0
    """Lowest rating, on the scale of the data, that counts as liked."""

    def rng(self, *keys: object) -> random.Random:
        return random.Random(":".join(map(str, (self.seed, *keys))))

    def latest(self, history: Sequence[T]) -> tuple[T, ...]:
        return tuple(history[-self.history :])


@dataclass
class Tally:
    """Counts of what was read and left out, filled during a conversion."""

    rows: int = 0
    read: Counter[str] = field(default_factory=Counter)
    """Records of the source, by type."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Records, users or questions without a row, by reason."""
    first: Malformed | None = None
    """The first malformed record."""

    def add_malformed(self, location: str, reason: str) -> None:
        self.left_out[f"malformed: {reason}"] += 1
        self.first = self.first or Malformed(location, reason)

    def summary_line(self, name: str) -> str:
        read = ", ".join(f"{count:,} {what}" for what, count in self.read.items()) or "nothing"
        why = ", ".join(f"{reason} {count:,}" for reason, count in self.left_out.most_common()) or "nothing"
        first = f"; the first malformed: {self.first.location}" if self.first else ""
        return f"{name}: {self.rows:,} rows; read {read}; left out: {why}{first}"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark and its converter."""

    name: str
    files: str
    """Contents of the folder, in words."""
    convert: Callable[[Path, Plan, Tally], Iterator[BenchmarkRow]]


def find_file(folder: Path, *names: str) -> Path:
    """The first of the files that exists. Raises DatasetError, which names them and the folder."""
    require_folder(folder)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(f"{folder} holds no {' or '.join(names)}")


def find_files(folder: Path, *patterns: str) -> list[Path]:
    """The files that match a pattern, by name, at least one. Raises DatasetError."""
    require_folder(folder)
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    if not files:
        raise DatasetError(f"{folder} holds no {' or '.join(patterns)}")
    return files


def find_single_file(folder: Path, *patterns: str) -> Path:
    """The one file that matches a pattern. Raises DatasetError for none and for several."""
    files = find_files(folder, *patterns)
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DatasetError(f"{folder} holds several of {' or '.join(patterns)} ({names}); give each its own folder")
    return files[0]


def require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder" if folder.exists() else f"{folder} does not exist")


def make_target(query: str, chosen: Item, rejected: Item, tally: Tally) -> Target | None:
    """None where both items have the same text, such as two products of one title."""
    if item_text(chosen) == item_text(rejected):
        tally.left_out["targets whose two items read the same"] += 1
        return None
    return Target(query=query, chosen=chosen, rejected=rejected)


def draw_rejected(query: str, chosen: str, wrong: Sequence[str], rng: random.Random) -> dict[str, Any]:
    """Target and others of a question with several wrong options, one of which is drawn as the rejected."""
    rejected = rng.randrange(len(wrong))
    rest = tuple(text for index, text in enumerate(wrong) if index != rejected)
    return {"target": Target(query=query, chosen=chosen, rejected=wrong[rejected]), "others": rest}


def parse_message(role: str, content: object) -> Message | None:
    """A turn of a dialogue; None for another role or without text. A leading "User:" is removed."""
    if role not in ("user", "assistant") or not isinstance(content, str):
        return None
    text = content.strip().removeprefix(f"{role.capitalize()}:").strip()
    return Message(role="user" if role == "user" else "assistant", content=text) if text else None
