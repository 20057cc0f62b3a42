"""Published figures: AlignXplore+, 8 B parameters, accuracy in %, the judge Qwen3-8B."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from evaluation.conditions import FAMILY, Protocol
from evaluation.reporting.collect import Line


@dataclass(frozen=True)
class Published:
    title: str
    streaming: float
    full: float
    names: tuple[str, ...]
    """Stems of the files of rows of this benchmark."""
    upi: tuple[str, ...] = ()
    """Of those with the family's own rows."""


PUBLISHED: Final = (
    Published("MIND", 71.80, 71.36, ("mind",), ("mind_upi",)),
    Published("Amazon", 85.35, 86.39, ("amazon", "amazon-games"), ("amazon_upi",)),
    Published("AlignX", 73.67, 75.03, ("alignx",), ("alignx_upi",)),
    Published("MovieLens", 77.23, 75.80, ("movielens",), ("movielens_upi",)),
    Published("PersonaMem", 54.58, 58.08, ("personamem",), ("personamem_upi",)),
    Published("P-Soups Informativeness", 76.57, 78.07, ("psoups-informativeness",), ("concise_detail_upi",)),
    Published("P-Soups Style", 80.33, 86.33, ("psoups-style",), ("friendly_unfriendly_upi",)),
    Published("P-Soups Expertise", 78.50, 82.50, ("psoups-expertise",), ("student_phd_upi",)),
    Published("HiCUPID", 60.51, 62.42, ("hicupid",)),
)
JUDGE: Final = "Qwen3-8B"
COMPARED: Final = ("full", "streaming")
"""Settings that were published."""


def list_differences(line: Line, item: Published) -> list[str]:
    """What keeps a figure from being compared with the published one: it names rows, protocol, setting or judge."""
    protocol, judge = line.result.config.get("protocol", {}), line.result.judge
    same = {
        "rows": line.benchmark in item.upi and not line.result.config.get("limit"),
        "protocol": _is_published(protocol),
        "setting": line.setting in COMPARED,
        "judge": judge is not None and JUDGE.lower() in judge.name.lower(),
    }
    return [name for name, is_same in same.items() if not is_same]


def _is_published(protocol: Mapping[str, Any]) -> bool:
    """Whether each field that the family's protocol sets is as it sets it; prompts may be those of an imported file."""
    published = Protocol(name="family").model_dump(mode="json")
    own = {name: protocol.get(name, published[name]) for name in FAMILY}
    for name in ("prompts", "selection_prompts"):
        if own[name] != "own":
            own[name] = published[name]
    return protocol.get("name") == "family" and all(own[name] == published[name] for name in FAMILY)
