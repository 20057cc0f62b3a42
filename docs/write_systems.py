"""Writes docs/results/systems.md: of each research system that the suite follows, what runs here and what it gives.

    python -m docs.write_systems

Figures are taken from docs/results/accuracy.md and benchmarks.md; what no file holds was not measured, and the page
says so. A figure that the results no longer hold stops the writing. A test compares the page with what this prints.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

RESULTS: Final = Path(__file__).parent / "results"
PAGE: Final = RESULTS / "systems.md"
NEEDS_GPU: Final = "not measured here: needs a GPU"
FAMILY: Final = "`training/runs/family.sh`"
REHEARSED: Final = f"{NEEDS_GPU}; the command is rehearsed on a nano model by `make train-smoke`"


class System(NamedTuple):
    name: str
    runs: str
    command: str
    figure: str
    published: str
    differs: str


def read_speed(page: str, stage: str) -> str:
    """How many times TRL's example script of a stage, from docs/results/benchmarks.md."""
    found = re.search(rf"^\| {stage}: ours by plain \| ([\d.]+) \|", page, re.MULTILINE)
    assert found, f"docs/results/benchmarks.md has no speed of {stage}"
    return f"speed on a CPU, 3 million parameters: {found[1]} times TRL's example"


def read_published(page: str) -> list[list[str]]:
    """Benchmark, published streaming and full, and what was measured, from docs/results/accuracy.md."""
    section = page.split("\n## Beside published figures\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line][2:]
    assert rows, "docs/results/accuracy.md compares with nothing published"
    return rows


def systems(speeds: str) -> list[System]:
    dpo, sft, grpo = (read_speed(speeds, stage) for stage in ("dpo", "sft", "grpo"))
    in_paper = "alignment accuracy and win rates, in the paper (arXiv 2503.15463)"
    return [
        System(
            "AlignX, AlignXpert ICA",
            "reading the rows, DPO with the history in the prompt, chat by `mode` ica, alignment accuracy, win rates",
            f"{FAMILY}, steps `alignxpert-ica`, `evaluate-alignxpert-ica`; `python -m evaluation.family.win_rate`",
            f"accuracy: {REHEARSED}; {dpo}",
            in_paper,
            "TRL in place of OpenRLHF; the draws of posts and choices have a seed, the public ones none; prompts are "
            "ours, since the public formatting script does not run; the judge of win rates is any engine, not GPT-4",
        ),
        System(
            "AlignX, AlignXpert PBA",
            "the same, with the directions that a user's evidence shows in words",
            f"{FAMILY}, steps `alignxpert-pba`, `evaluate-alignxpert-pba`",
            f"accuracy: {REHEARSED}; {dpo}",
            in_paper,
            "a prompt never names the row's own directions, which would be the label; no evidence, no row",
        ),
        System(
            "AlignXplore",
            "cold starts as raw text, RL by R_jud and R_gen, streaming RL, serving by raw completion",
            f"{FAMILY}, steps `alignxplore-*`; `ALIGNX_SUMMARY__PROMPTS=alignxplore`",
            f"accuracy: {REHEARSED}; GRPO, {grpo}",
            "accuracy by judge and by likelihood, in the paper (arXiv 2505.18071)",
            "GRPO of TRL in place of Open-Reasoner-Zero; advantages are divided by the group's deviation, which the "
            "public code means to do and does not; RL reads our prompts, not the raw template; sentences are our own",
        ),
        System(
            "AlignXplore+",
            "synthesis, SFT, two-stage GRPO, the published evaluation, serving with its prompts",
            f"{FAMILY}, steps `alignxplus-*`, `evaluate-alignxplus-*`; `make eval` for the profile",
            f"accuracy: below, of the profile without a model; of a checkpoint {REHEARSED}; SFT, {sft}",
            "average of nine benchmarks 73.17 % streaming, 75.10 % full (8 B, judge Qwen3-8B)",
            "negatives are drawn otherwise, MIND's split has a seed, the RL prompts are those that are served; "
            "what keeps a figure from comparison stands behind it in every report",
        ),
        System(
            "MoCaE",
            "experts of three axes, exact merges on a grid, a calibrated router, chats by `axes`, measures of worth",
            "`training/runs/mocae.sh`",
            "no figure of worth: a nano model learns nothing of an axis; at 7B " + NEEDS_GPU,
            "none is claimed: the public scripts cannot give their README's numbers",
            "the calibrators are stand-ins of our own, for the paper's formulas are not at hand; no moderation model",
        ),
        System(
            "AlignXada",
            "nothing: not built",
            "–",
            "–",
            "mean +3.82 points at 22.8 % of the tokens, 33 of 39 cells up (arXiv 2608.09507)",
            "a policy is a text that a strong model writes for each task and downstream model, and keeps only where "
            "held-out users gain; no model at hand here can write one, so nothing could be measured",
        ),
    ]


def render_page() -> str:
    speeds = (RESULTS / "benchmarks.md").read_text(encoding="utf-8")
    rows = read_published((RESULTS / "accuracy.md").read_text(encoding="utf-8"))
    lines = [
        "# The research systems, one by one",
        "",
        "What runs here of each, by which command, with which figure, and what differs from the published one. Written "
        "by `python -m docs.write_systems` from the results beside it. How to: "
        "[the family's files](../how-to/family.md), [MoCaE](../how-to/mocae.md), [axes of chats](../how-to/axes.md).",
        "",
        "| system | runs here | command | figure here | published | what differs, and why |",
        "|---|---|---|---|---|---|",
        *(f"| {' | '.join(system)} |" for system in systems(speeds)),
        "",
        "## AlignXplore+ by benchmark",
        "",
        "The profile reads no model's summary, and its rows, negatives and judge are not the published ones "
        "([accuracy](accuracy.md)): the figures show the order of size.",
        "",
        "| benchmark | published, streaming | published, full | the profile here (95 % interval) | checkpoint here |",
        "|---|---:|---:|---|---|",
        *(f"| {' | '.join(row)} | {NEEDS_GPU} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    PAGE.write_text(render_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
