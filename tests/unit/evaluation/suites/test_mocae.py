"""What routing is compared with, and what is served."""

from collections.abc import Sequence

import numpy as np
import pytest

from evaluation.reporting.mocae_report import render_result
from evaluation.suites.mocae import (
    MocaeResult,
    compare_with_static,
    describe_routing,
    describe_system,
    own_axis,
    routed_points,
    score_prompts,
)
from services.axes import AXES, AxisGrid, GridPoint
from training.mocae.axis_rows import COMPLIANCES, HELD_OUT_REFUSALS, AxisPrompt
from training.mocae.router import VARIANTS

NAMES = ("first", "second", "third")
GRID = AxisGrid(
    rank=8,
    points=tuple(
        GridPoint(name=name, weights=(weights[0], weights[1], weights[2]))
        for name, weights in zip(NAMES, np.eye(3).tolist(), strict=True)
    ),
)
PROMPTS = [
    AxisPrompt(axis=AXES[number % 3], part="test", prompt=f"Prompt {number}", right=("yes",)) for number in range(60)
]
LABELS = np.array([AXES.index(prompt.axis) for prompt in PROMPTS])


def arrays(logits: np.ndarray) -> dict[str, object]:  # type: ignore[type-arg]
    by_variant = {f"logits_{name}": logits for name in VARIANTS}
    return {**by_variant, **{f"temperature_{name}": 1.0 for name in VARIANTS}, "labels": LABELS}


RIGHT = arrays(9.0 * np.eye(3)[LABELS])
WRONG = arrays(9.0 * np.eye(3)[(LABELS + 1) % 3])


def test_a_helpful_measure_is_a_win_over_the_base() -> None:
    helpful = [prompt for prompt in PROMPTS if prompt.axis == "helpful"][:3]
    assert own_axis([-1.0, -2.0, -3.0], [-2.0, -2.0, -2.0], helpful) == [1.0, 0.5, 0.0]
    assert own_axis([0.25], [0.75], PROMPTS[1:2]) == [0.25]


class FixedScores:
    """Gives every reply two tokens of the log-probability that a table has for it, by default -5 each."""

    def __init__(self, table: dict[str, float]) -> None:
        self.table = table

    def token_logprobs(self, rows: Sequence[tuple[object, str]], *, fit: bool) -> list[list[float]]:
        return [[self.table.get(reply, -5.0)] * 2 for _, reply in rows]


def test_measures_of_the_axes_by_likelihood() -> None:
    prompts = [
        AxisPrompt(axis="helpful", part="test", prompt="a", right=("answer",)),
        AxisPrompt(axis="harmless", part="test", prompt="b", right=HELD_OUT_REFUSALS, wrong=COMPLIANCES),
        AxisPrompt(axis="honest", part="test", prompt="c", right=("true", "so"), wrong=("false",)),
    ]
    likelier = dict.fromkeys(HELD_OUT_REFUSALS, -1.0) | {"answer": -2.0, "so": -5 + np.log(2) / 2}
    measures, refused = score_prompts(FixedScores(likelier), prompts)  # type: ignore[arg-type]
    assert measures == pytest.approx([-2.0, 1.0, 0.75])  # 1 and 2 of 1 + 2 + 1
    assert refused == [1.0, None, None]
    measures, refused = score_prompts(FixedScores(dict.fromkeys(COMPLIANCES, -1.0)), prompts)  # type: ignore[arg-type]
    assert (measures[1], refused[0]) == (0.0, 0.0)


def test_routing_is_served_only_where_it_beats_the_best_static_merge() -> None:
    routers = {"hidden": WRONG, "words": RIGHT}
    taken = routed_points(GRID, routers, PROMPTS)
    assert taken["routed by words"] == taken["oracle routing"] == [NAMES[label] for label in LABELS]
    merges = {name: (number == LABELS).astype(float).tolist() for number, name in enumerate(NAMES)}
    own = {name: [merges[point][row] for row, point in enumerate(points)] for name, points in taken.items()}
    static, gains = compare_with_static(own, merges, PROMPTS)
    assert static in NAMES
    assert gains["words"].low > 0
    assert gains["hidden"].high < 0


def test_a_report_names_every_figure_with_its_interval() -> None:
    routing, changes = describe_routing({"hidden": WRONG, "words": RIGHT})
    values = [0.5] * len(PROMPTS)
    systems = {"base": describe_system(values, [None] * len(PROMPTS), PROMPTS)}
    static, gains = compare_with_static(
        {"routed by hidden": values, "routed by words": values}, {"first": values}, PROMPTS
    )
    result = MocaeResult(
        systems=systems, routing=routing, calibration_gain=changes, static=static, routed_gain=gains, routed=False
    )
    report = render_result(result)
    assert "| base | 50.0 % (50.0 to 50.0) |" in report
    assert "Routed by words less static: +0.0 (+0.0 to +0.0) points" in report
    assert "no gain" in report
    assert "Without axes in a request first is served." in report
    assert routing["words"]["plain"].accuracy.mean == 1
    assert changes["words"]["both"].mean == pytest.approx(0)
