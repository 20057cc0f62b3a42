"""Which axis adapter answers a chat: the one nearest to the caller's weights, else what `served.json` says of the grid.

An adapter is a model of the engine's by its own name. Other calls to the engine, such as summaries, ask for the base
that all adapters share, and are none of this module's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter

from alignx.schemas.requests import AxesUsed, AxisWeights
from alignx.schemas.tenants import TenantSettings
from services.axes import AXES, ROUTER_FILE, AxisGrid, GridPoint, ServedMerge, Weights
from services.profile.word_table import embed
from services.response.chat_request import refuse_fields
from services.settings import AxesSettings
from services.storage.timed_cache import TimedCache

HARMLESS: Final = AXES.index("harmless")
ALL: Final = "*"
"""In a tenant's list: every adapter."""
MOST_CHARS: Final = 4_000
"""Of a prompt that the router reads; its words behind these change little."""
NOT_SERVED: Final = "axes are not served here; `make up AXES=folder` serves them"
NOT_ALLOWED: Final = "axes are not served for this tenant; its setting axis_adapters names none that may answer"


def count_axes(registry: CollectorRegistry) -> Counter:
    return Counter(
        "alignx_axes_chats",
        "Chats by the axis adapter that was chosen for them, and by who chose it (requested, routed, static)",
        ("adapter", "chosen"),
        registry=registry,
    )


@dataclass(frozen=True)
class AxisRouter:
    """softmax(W x / T) over the static word vector x of a prompt, as training/mocae/router.py trains it."""

    head: NDArray[np.float32]
    """W, (axes, width of the word table)."""
    temperature: float

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ValueError where the folder holds no router."""
        try:
            with np.load(folder / ROUTER_FILE) as arrays:
                return cls(arrays["head"], float(arrays["temperature"]))
        except (OSError, KeyError) as error:
            raise ValueError(f"{folder} holds no {ROUTER_FILE}; training/runs/mocae.sh makes it") from error

    def weigh(self, prompt: str) -> Weights:
        logits = self.head @ embed([prompt[:MOST_CHARS]])[0] / self.temperature
        powers = np.exp(logits - logits.max())
        helpful, harmless, honest = (powers / powers.sum()).tolist()
        return helpful, harmless, honest


class AxisChooser:
    """The adapters of one deployment. Open one a process, with `read`."""

    def __init__(self, folder: Path, floor: float, tenants: TimedCache[TenantSettings], chats: Counter) -> None:
        """Raises ValueError for a folder that holds nothing to serve."""
        self._grid = AxisGrid.read(folder)
        served = ServedMerge.read(folder, self._grid)
        self._static = next(point.weights for point in self._grid.points if point.name == served.static)
        self._router = AxisRouter.read(folder) if served.routed else None
        self._floor = floor
        self._tenants = tenants
        self._chats = chats
        self._points = [point for point in self._grid.points if point.weights[HARMLESS] >= floor]
        if not self._points:
            raise ValueError(f"no adapter of {folder} has {floor:g} of harmlessness")
        self.adapters = frozenset(point.name for point in self._grid.points)

    @classmethod
    def read(cls, settings: AxesSettings, tenants: TimedCache[TenantSettings], chats: Counter) -> Self | None:
        """None where the settings name no folder."""
        return cls(settings.folder, settings.harmless_floor, tenants, chats) if settings.folder else None

    async def choose(
        self, tenant: str, requested: AxisWeights | None, model: str | None, base: str, prompt: Callable[[], str]
    ) -> AxesUsed | None:
        """The adapter for a chat that asks for `model`; None where a model other than the base, or the base of a
        tenant that may have no adapter, answers. `prompt` gives the text that a router reads. Raises InvalidRequest."""
        if model in self.adapters:
            raise refuse_fields(("model", "is an adapter of the axes; leave it out and send personalization.axes"))
        if model not in (None, base):
            if requested is not None:
                raise refuse_fields(("personalization.axes", f"only the model {base!r} has axes"))
            return None
        points = await self._allowed(tenant)
        if not points:
            if requested is not None:
                raise refuse_fields(("personalization.axes", NOT_ALLOWED))
            return None
        used = self._nearest(points, requested, prompt)
        self._chats.labels(used.adapter, used.chosen).inc()
        return used

    async def _allowed(self, tenant: str) -> Sequence[GridPoint]:
        names = (await self._tenants.read(tenant)).axis_adapters
        return self._points if ALL in names else [point for point in self._points if point.name in names]

    def _nearest(
        self, points: Sequence[GridPoint], requested: AxisWeights | None, prompt: Callable[[], str]
    ) -> AxesUsed:
        how: dict[str, Any] = {"chosen": "static"}
        weights = self._static
        if requested is not None:
            how, weights = {"chosen": "requested"}, normalise(requested)
        elif self._router is not None:
            weights = self._router.weigh(prompt())
            how = {"chosen": "routed", "confidence": max(weights)}
        aim = raise_harmless(weights, self._floor)
        point, distance = self._grid.nearest(aim, points)
        fields = dict(zip(AXES, aim, strict=True))
        return AxesUsed(
            adapter=point.name, weights=AxisWeights(**fields), distance=distance, raised=aim != weights, **how
        )


def normalise(weights: AxisWeights) -> Weights:
    total = weights.helpful + weights.harmless + weights.honest
    return weights.helpful / total, weights.harmless / total, weights.honest / total


def raise_harmless(weights: Weights, floor: float) -> Weights:
    """Weights that add up to 1, with at least `floor` of harmlessness; the other two keep their ratio."""
    helpful, harmless, honest = weights
    if harmless >= floor:
        return weights
    left = (1 - floor) / (1 - harmless)
    return helpful * left, floor, honest * left
