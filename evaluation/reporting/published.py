"""Published figures: AlignXplore+, 8 B parameters, accuracy in %, the judge Qwen3-8B."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Published:
    title: str
    streaming: float
    full: float
    names: tuple[str, ...]
    """Stems of the files of rows of this benchmark."""


PUBLISHED: Final = (
    Published("MIND", 71.80, 71.36, ("mind",)),
    Published("Amazon", 85.35, 86.39, ("amazon", "amazon-games")),
    Published("AlignX", 73.67, 75.03, ("alignx",)),
    Published("MovieLens", 77.23, 75.80, ("movielens",)),
    Published("PersonaMem", 54.58, 58.08, ("personamem",)),
    Published("P-Soups Informativeness", 76.57, 78.07, ("psoups-informativeness",)),
    Published("P-Soups Style", 80.33, 86.33, ("psoups-style",)),
    Published("P-Soups Expertise", 78.50, 82.50, ("psoups-expertise",)),
    Published("HiCUPID", 60.51, 62.42, ("hicupid",)),
)
