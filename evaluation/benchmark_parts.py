"""The parts of benchmarks that a folder of official files may hold, each measured by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from evaluation.cases.benchmark import NEGATIVES, Negatives, Plan, Tally
from evaluation.converters.registry import OTHER_KIND, convert


@dataclass(frozen=True)
class BenchmarkPart:
    name: str
    converter: str
    folder: str
    """Below the folder of official files."""
    about: str
    kind: str | None = None
    file: str | None = None
    """The one file of the folder to read; None for all."""
    negatives: Negatives | None = None

    def source(self, official: Path) -> Path:
        return official / self.folder / (self.file or "")

    def convert(self, official: Path, out: Path, limit: int | None) -> Tally:
        """Writes the rows. Raises DatasetError and ConfigError."""
        plan = Plan(negatives=self.negatives or Plan().negatives)
        with _isolate(self.source(official)) as folder:
            tally = convert(self.converter, folder, out, plan, limit=limit, kind=self.kind)
        del tally.left_out[OTHER_KIND]  # they are rows of another part
        return tally


@contextmanager
def _isolate(source: Path) -> Iterator[Path]:
    """A folder with this file alone, so that counts are of this file; a folder stays as it is."""
    if source.is_dir():
        yield source
        return
    with TemporaryDirectory(prefix="alignx-part-") as folder:
        (Path(folder) / source.name).symlink_to(source.resolve())
        yield Path(folder)


NEGATIVES_TEXT: Final[dict[Negatives, str]] = {
    "random": "any of them",
    "popular": "drawn by popularity",
    "matched": "exactly as popular as the other",
}


def _recommendation(name: str, converter: str, folder: str, about: str) -> list[BenchmarkPart]:
    """A recommendation benchmark with each kind of negatives."""
    return [
        BenchmarkPart(
            name if negatives == "random" else f"{name}-{negatives}",
            converter,
            folder,
            f"{about}, {NEGATIVES_TEXT[negatives]}",
            negatives=negatives,
        )
        for negatives in NEGATIVES
    ]


def _psoups(dimension: str, file: str, about: str) -> BenchmarkPart:
    about = f"{about}, from up to four earlier choices"
    return BenchmarkPart(f"psoups-{dimension}", "psoups", "psoups", about, file=file)


def _prefeval(kind: str, about: str) -> BenchmarkPart:
    return BenchmarkPart(
        f"prefeval-{kind}", "prefeval", "prefeval", f"one answer of four, the preference {about}", kind
    )


PARTS: Final = (
    *_recommendation("mind", "mind", "mind", "a clicked article against one shown beside it and not clicked"),
    *_recommendation("movielens", "movielens", "movielens/ml-100k", "a film rated 4 or more against one never rated"),
    *_recommendation("amazon-games", "amazon-candidates", "amazon/games", "the next purchase against a candidate"),
    *_recommendation("amazon-gift-cards", "amazon", "amazon/gift_cards", "a product rated 4 or more against another"),
    BenchmarkPart("alignx", "alignx", "alignx", "the preferred of two answers"),
    BenchmarkPart("personamem", "personamem", "personamem", "the right one of up to four answers"),
    BenchmarkPart("personamem-32k", "personamem-32k", "personamem32k", "the right one of four answers"),
    _psoups("informativeness", "concise_detail.json", "concise or detailed"),
    _psoups("style", "friendly_unfriendly.json", "friendly or unfriendly"),
    _psoups("expertise", "student_phd.json", "for a pupil or an expert"),
    BenchmarkPart("prism", "prism", "prism", "the preferred of two answers"),
    BenchmarkPart("uf-p-4", "uf-p-4", "uf_p_4", "the preferred of two answers"),
    _prefeval("explicit", "stated"),
    _prefeval("choice", "chosen by"),
    _prefeval("persona", "let through"),
)
"""HiCUPID is not among them: its questions need a model that answers."""
