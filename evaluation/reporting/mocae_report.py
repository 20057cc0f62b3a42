"""The tables of a result of MoCaE.

python -m evaluation.reporting.mocae_report var/train/nano/mocae/result.json
"""

from pathlib import Path

import typer

from evaluation.reporting.document import Table, percent, points
from evaluation.results import Estimate
from evaluation.suites.mocae import MocaeResult

MEASURES = ("helpful", "harmless", "honest", "over-refusal", "own axis", "win rate")


def render_result(result: MocaeResult) -> str:
    """Markdown; every figure with its 95 % interval and n."""
    shown = [name for name in MEASURES if any(name in own for own in result.systems.values())]
    systems = Table(
        ("system", *shown, "n"),
        tuple(
            (name, *(percent(own[column]) if column in own else "" for column in shown), str(own["own axis"].rows))
            for name, own in result.systems.items()
        ),
    )
    routers = Table(
        ("router", "variant", "accuracy", "NLL", "Brier", "ECE", "change of NLL"),
        tuple(
            (
                name, variant, percent(own.accuracy), _number(own.nll), _number(own.brier),
                _number(own.calibration_error),
                _number(gain) if (gain := result.calibration_gain[name].get(variant)) else "",
            )
            for name, variants in result.routing.items()
            for variant, own in variants.items()
        ),
        names=2,
    )  # fmt: skip
    lines = [
        systems.markdown(),
        f"Best static merge, chosen on the other half of the prompts: {result.static}.",
        *(
            f"Routed by {name} less static: {points(gain)} points, n {gain.rows}: {_verdict(gain)}."
            for name, gain in result.routed_gain.items()
        ),
        f"Without axes in a request {'the router decides' if result.routed else f'{result.static} is served'}.",
        routers.markdown(),
    ]
    return "\n\n".join(lines)


def _number(value: Estimate) -> str:
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def _verdict(gain: Estimate) -> str:
    return "a gain" if gain.low > 0 else "a loss" if gain.high < 0 else "no gain"


def main(result: Path) -> None:
    """`result` is the JSON file that evaluation.suites.mocae writes."""
    print(render_result(MocaeResult.read_from(result)))


if __name__ == "__main__":
    typer.run(main)
