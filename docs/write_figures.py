"""Writes the table of measured figures of README.md, from docs/results.

    python -m docs.write_figures

Accuracy stands beside the best of the baselines that do not read the history, over the half of the users that no choice
of features has seen. A figure that the results no longer hold stops the writing.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
BEGIN: Final = "<!-- written by python -m docs.write_figures -->\n"
END: Final = "<!-- end of the figures -->\n"
BENCHMARKS: Final = {
    "psoups-style": "P-Soups, style of answers",
    "psoups-expertise": "P-Soups, expertise",
    "prefeval-explicit": "PrefEval, one of four answers",
    "personamem-32k": "PersonaMem 32k, one of four answers",
    "mind-matched": "MIND news, equally popular pairs",
    "amazon-games-matched": "Amazon games, equally popular pairs",
}
COSTS: Final = {
    "acknowledge one event, through the gateway, p50": "an event is stored on disk and acknowledged (p50)",
    "read a summary through the gateway, p50": "a summary is read (p50)",
    "engine calls an event, due by surprise": "calls of the language model for each event, with the default settings",
    "update after 10 000 / after 10": "prompt of an update after 10,000 events, against one after 10",
    "Redis for a user of 20 events of 198 bytes": "a user of 20 events in Redis",
}
BASELINES: Final = ("random", "longer wins", "popularity")


class Row(NamedTuple):
    benchmark: str
    run: str
    setting: str
    share: float
    """Of the kept half, in %."""
    text: str
    """The same with its interval and n."""


def read_accuracy(page: str) -> list[Row]:
    """The rows of the first table of docs/results/accuracy.md."""
    rows = []
    for line in page.split("\n## ")[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        share = re.match(r"([\d.]+) %", cells[5]) if len(cells) > 5 else None
        if share:
            rows.append(Row(cells[0], cells[1], cells[2].removesuffix(" †"), float(share[1]), cells[5]))
    return rows


def render_accuracy(rows: list[Row]) -> list[str]:
    lines = [
        "| choices foreseen, without a model | the profile (95 % interval), n | best baseline |",
        "|---|---:|---:|",
    ]
    for name, words in BENCHMARKS.items():
        [profile] = [row for row in rows if (row.benchmark, row.run, row.setting) == (name, "profile", "profile")]
        baselines = [
            row for row in rows if row.benchmark == name and row.run == "baseline" and row.setting in BASELINES
        ]
        best = max(baselines, key=lambda row: row.share)
        lines.append(f"| {words} | {profile.text} | {best.share:.1f} % ({best.setting}) |")
    return lines


def render_costs(page: str) -> list[str]:
    lines = ["| cost, on two cores | |", "|---|---:|"]
    for name, words in COSTS.items():
        figure = re.search(rf"^\| {re.escape(name)} \| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)
        assert figure, f"docs/results/benchmarks.md has no figure {name!r}"
        unit = "" if figure[2] in ("ratio", "calls") else f" {figure[2]}"
        lines.append(f"| {words} | {figure[1]}{'×' if figure[2] == 'ratio' else unit} |")
    return lines


def render_page() -> str:
    """README.md with the table as the results are now."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    accuracy = render_accuracy(read_accuracy((ROOT / "docs/results/accuracy.md").read_text(encoding="utf-8")))
    costs = render_costs((ROOT / "docs/results/benchmarks.md").read_text(encoding="utf-8"))
    return before + BEGIN + "\n".join([*accuracy, "", *costs, ""]) + END + rest.split(END)[1]


def main() -> None:
    README.write_text(render_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
