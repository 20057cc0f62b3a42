"""Draws the steps of the last `python -m bench.run knee`: what was served, and how long it took, by what was offered.

.venv-training/bin/python -m bench.traffic.draw_knee        # docs/results/knee.png; matplotlib comes with training
"""

import json
from pathlib import Path

from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def main() -> None:
    steps = sorted(json.loads((RESULTS / "knee.json").read_text()), key=lambda step: step["offered"])
    offered = [step["offered"] for step in steps]
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(offered, offered, color="0.7", linestyle=":", label="offered")
    above.plot(offered, [step["served"] for step in steps], marker="o", label="served")
    above.plot(offered, [step["refused"] for step in steps], marker="x", label="refused (429, 503)")
    above.set_ylabel("calls a second")
    for name, label in (("p50_ms", "median"), ("p99_ms", "99th percentile"), ("refusal_ms", "refusals, 99th")):
        below.plot(offered, [step[name] for step in steps], marker="o", label=label)
    below.set_ylabel("milliseconds, from when a call was sent")
    below.set_xlabel("calls a second offered")
    below.set_yscale("log")
    for axes in (above, below):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.savefig(RESULTS / "knee.png", dpi=110)


if __name__ == "__main__":
    main()
