"""What every converter is given and keeps count of.

A converter is a function of a folder with a benchmark's official files, a Plan and a Tally; it yields
benchmark rows. It draws only from generators seeded by `Plan.rng`, so that a row depends on the seed
and on its own user, not on how many rows came before it.
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
    """How to convert."""

    seed: int = 42
    history: int = 50
    """Most events of a row's history; the oldest go."""
    negatives: Negatives = "random"
    """What a recommendation target is shown against: any item the user never took; one drawn by how often
    others had liked it by then; or one that others had taken exactly as often as the target, so that popularity
    tells nothing: a target without such an item is left out."""
    targets: int = 1
    """Most targets of one user of a recommendation benchmark, the last ones."""
    liked: float = 4.0
    """Lowest rating, on the scale of the data, that counts as liked."""

    def rng(self, *about: object) -> random.Random:
        return random.Random(":".join(map(str, (self.seed, *about))))

    def recent(self, history: Sequence[T]) -> tuple[T, ...]:
        return tuple(history[-self.history :])


@dataclass
class Tally:
    """What was read, and what was left out and why; filled while a conversion goes on."""

    rows: int = 0
    read: Counter[str] = field(default_factory=Counter)
    """Records of the source, by what they are."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Records, users or questions that no row came of, by reason."""
    first: Malformed | None = None
    """The first malformed record."""

    def malformed(self, place: str, reason: str) -> None:
        self.left_out[f"malformed: {reason}"] += 1
        self.first = self.first or Malformed(place, reason)

    def line(self, name: str) -> str:
        """All of it in one line."""
        read = ", ".join(f"{count:,} {what}" for what, count in self.read.items()) or "nothing"
        why = ", ".join(f"{reason} {count:,}" for reason, count in self.left_out.most_common()) or "nothing"
        first = f"; the first malformed: {self.first.place}" if self.first else ""
        return f"{name}: {self.rows:,} rows; read {read}; left out: {why}{first}"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that can be converted."""

    name: str
    files: str
    """What the folder must hold, in words."""
    convert: Callable[[Path, Plan, Tally], Iterator[BenchmarkRow]]


def named_file(folder: Path, *names: str) -> Path:
    """The first of the files that is there. Raises DatasetError, which names them and the folder."""
    require_folder(folder)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(f"{folder} holds no {' or '.join(names)}")


def files_like(folder: Path, *patterns: str) -> list[Path]:
    """The files that match a pattern, by name, at least one. Raises DatasetError."""
    require_folder(folder)
    found = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    if not found:
        raise DatasetError(f"{folder} holds no {' or '.join(patterns)}")
    return found


def only_file(folder: Path, *patterns: str) -> Path:
    """The one file that matches a pattern. Raises DatasetError for none and for several."""
    found = files_like(folder, *patterns)
    if len(found) > 1:
        named = ", ".join(file.name for file in found)
        raise DatasetError(f"{folder} holds several of {' or '.join(patterns)} ({named}); give each its own folder")
    return found[0]


def require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder" if folder.exists() else f"{folder} does not exist")


def against(query: str, chosen: Item, rejected: Item, tally: Tally) -> Target | None:
    """The target, or none when the two read the same, as two products of one title do."""
    if item_text(chosen) == item_text(rejected):
        tally.left_out["targets whose two items read the same"] += 1
        return None
    return Target(query=query, chosen=chosen, rejected=rejected)


def as_popular(counts: Sequence[int], wanted: int) -> list[int]:
    """The places of the counts that are `wanted`."""
    return [place for place, count in enumerate(counts) if count == wanted]


def offered(query: str, chosen: str, wrong: Sequence[str], rng: random.Random) -> dict[str, Any]:
    """Target and others of a question with several wrong options: one of them, drawn, is the rejected."""
    rejected = rng.randrange(len(wrong))
    rest = tuple(text for place, text in enumerate(wrong) if place != rejected)
    return {"target": Target(query=query, chosen=chosen, rejected=wrong[rejected]), "others": rest}


def message(role: str, content: object) -> Message | None:
    """A turn of a dialogue, or none for another role or without text. "User: …" loses its first word,
    which the role tells already."""
    if role not in ("user", "assistant") or not isinstance(content, str):
        return None
    text = content.strip().removeprefix(f"{role.capitalize()}:").strip()
    return Message(role="user" if role == "user" else "assistant", content=text) if text else None
