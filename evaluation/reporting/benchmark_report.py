"""Reports benchmark results: a table with intervals and baselines, published figures, plots.

    python -m evaluation.reporting.benchmark_report var/benchmarks/results --out docs
    python -m evaluation.reporting.benchmark_report profile.json engine.json --out var/report

RESULTS are JSON files of `python -m evaluation`, or folders that hold them. Into `--out` go results.md, its plots
results/*.svg, and results/index.html, a page that needs no other file. Several runs on a benchmark stand
together when they saw the same rows; a benchmark is called as its file of rows is. Every word follows
from the figures; what a conversion left out is told where its note lies beside the results.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluation.reporting import benchmark_plots
from evaluation.reporting.collect import Line, Measured, gather
from evaluation.reporting.document import NONE, Block, Heading, Table, Text, markdown
from evaluation.reporting.html_page import page
from evaluation.reporting.published import PUBLISHED, Published
from evaluation.reporting.tables import percent, points
from evaluation.results import Scores
from training.exceptions import ConfigError, TrainingError

TITLE = "Results on benchmarks"
NAME = "results"
UNREAD = ("random", "longer wins", "popularity")
"""Baselines that choose without reading the history."""
NO_SCORES = (
    "none", "other", "flipped", "drifted", "mixed", "truth", "profile-flipped", "profile-text",
)  # fmt: skip
"""Settings that are controls, or ask how a score holds: they stand in the table, not beside published figures."""


def overview(measured: Measured) -> Table:
    """Each score with its rows, interval and baselines."""
    head = ("benchmark", "run", "setting", "rows", "accuracy, 95 % interval", "kept aside", "AUC", "ECE")
    return Table(
        (*head, *UNREAD),
        tuple(
            (
                line.benchmark,
                line.run,
                line.setting,
                f"{line.accuracy.rows:,}",
                percent(line.accuracy),
                _aside(line),
                _auc(line),
                _ece(line),
                *(_baseline(line, name) for name in UNREAD),
            )
            for line in measured.lines
        ),
        names=3,
    )


def _aside(line: Line) -> str:
    found = line.scores.aside if isinstance(line.scores, Scores) else None
    return f"{percent(found)}, {found.rows:,} rows" if found else NONE


def _auc(line: Line) -> str:
    found = line.scores.auc if isinstance(line.scores, Scores) else None
    return f"{100 * found.mean:.1f} %" if found else NONE


def _ece(line: Line) -> str:
    found = line.scores.calibration if isinstance(line.scores, Scores) else None
    return f"{found.error:.3f}" if found else NONE


def _baseline(line: Line, name: str) -> str:
    found = line.result.baselines.get(name)
    if found is None:
        return NONE
    over = f", {found.rows:,} rows" if found.rows != line.accuracy.rows else ""
    return f"{100 * found.mean:.1f} %{over}"


def blocks(measured: Measured, drawn: Iterable[Block] = ()) -> list[Block]:
    """The whole report."""
    return [
        Heading(TITLE, 1),
        Text(
            "Share of rows whose choice got the highest score, ties shared, with its 95 % bootstrap interval; for "
            "questions that are answered, a win counts 1, a tie a half. Kept aside: over the users alone on whom no "
            "feature of the fast profile was chosen; where nothing stands there, none were kept aside, and of P-Soups "
            "all rows were looked at. AUC is pooled over all options of all rows; "
            "ECE is the expected calibration error. Random, the longest text and, where the rows tell it, "
            "popularity choose without reading the history; against negatives drawn by popularity the last may fall "
            "below a half, against negatives that are exactly as popular it tells nothing. Other settings are those of "
            "evaluation/conditions.py: `none` is the control without any summary, `flipped`, `drifted` and "
            "`mixed` disturb the history, `other` gives another user's summary. Setting `profile` is the fast "
            "profile without any model and without the items' popularity; `-text` a profile that has read the "
            "summary's sentences and nothing else, "
            f"`-flipped` one that was told {_flipped(measured)} of all choices the wrong way round, "
            "`-popularity` items that carry how "
            "often others took them, `-semantic` with sentence embeddings, `-all` with both; `wording` a judge that "
            "reads the profile's text alone. "
            "Folded in parts and stored between, the profile is the same by construction."
        ),
        overview(measured),
        *_unproven(measured),
        *drawn,
        *_published(measured),
        *_differences(measured),
        *_cost(measured),
        *_rows(measured),
    ]


def _flipped(measured: Measured) -> str:
    """The share of choices that was turned round, as the runs' options tell it."""
    protocols = [result.config.get("protocol") for _, result in measured.results]
    shares = sorted({each["flip"] for each in protocols if isinstance(each, dict) and "flip" in each})
    return " or ".join(f"{100 * share:.0f} %" for share in shares) or "a share"


def _unproven(measured: Measured) -> list[Block]:
    """Which scores a choice without reading may reach as well."""
    told = []
    for line in measured.lines:
        if line.setting in NO_SCORES or not isinstance(line.scores, Scores):
            continue
        margins = line.scores.margins
        if reached := [name for name in UNREAD if name in margins and margins[name].low <= 0]:
            found = ", ".join(f"{name} {points(margins[name])}" for name in reached)
            told.append(f"{line.benchmark} ({line.label}; less {found})")
    sentence = "Not clearly above a baseline, paired by row, in points"
    return [Text(f"{sentence}: {'; '.join(told)}.")] if told else []


def _published(measured: Measured) -> list[Block]:
    rows = tuple(
        (each.title, f"{each.streaming:.2f} %", f"{each.full:.2f} %", _beside(measured, each)) for each in PUBLISHED
    )
    note = (
        "AlignXplore+ with 8 B parameters as published, judged by Qwen3-8B. Judge, rows and negatives here are "
        "others: the figures show the order of size and are no comparison of methods."
    )
    head = ("benchmark", "published, streaming", "published, full", "here")
    return [Heading("Beside published figures"), Text(note), Table(head, rows)]


def _beside(measured: Measured, published: Published) -> str:
    told = [
        f"{line.label} {percent(line.accuracy)}, {line.accuracy.rows:,} rows"
        for line in measured.lines
        if line.benchmark in published.names and line.setting not in NO_SCORES
    ]
    return "; ".join(told) or "not measured"


def _differences(measured: Measured) -> list[Block]:
    rows = tuple(
        (benchmark, result.stage, name, points(value), f"{value.rows:,}")
        for benchmark, result in measured.results
        for name, value in result.differences.items()
    )
    if not rows:
        return []
    head = ("benchmark", "run", "accuracy of", "points, 95 % interval", "rows")
    return [Heading("Differences, paired by row"), Table(head, rows, names=3)]


def _cost(measured: Measured) -> list[Block]:
    rows = tuple(
        (line.benchmark, line.run, line.setting, _tokens(line), f"{line.scores.calls:,}", f"{line.scores.seconds:.1f}")
        for line in measured.lines
    )
    head = ("benchmark", "run", "setting", "tokens of a summary", "engine calls", "seconds")
    note = (
        "Engine calls are all that a setting needs, also where a kept answer of another setting or an earlier run "
        "served; seconds are of the run itself, in which what was kept took none."
    )
    return [Heading("What it took"), Text(note), Table(head, rows, names=3), *_judges(measured)]


def _tokens(line: Line) -> str:
    return f"{line.scores.writing.summary_tokens:.0f}" if line.scores.writing else NONE


def _judges(measured: Measured) -> list[Block]:
    """Who wrote and who judged in each run."""
    told = {
        f"Run {result.stage}: summaries by {result.model.name}, judged by {result.judge.name}."
        for _, result in measured.results
        if result.model and result.judge
    }
    return [Text(sentence) for sentence in sorted(told)]


def _rows(measured: Measured) -> list[Block]:
    """Where the rows came from and what is missing."""
    found: list[Block] = [Heading("The rows")]
    if measured.conversions:
        note = (
            "Rows are of the files at hand, which may be parts of the published ones. Personas, profiles and system "
            "messages never enter a row; pairs of P-Soups that quote the true persona are left out."
        )
        rows = tuple(
            (name, told.about, f"{told.rows:,}", _counts(told.read), _counts(told.left_out))
            for name, told in measured.conversions.items()
        )
        found += [Text(note), Table(("benchmark", "what is foreseen", "rows", "read", "left out"), rows, names=5)]
        if limited := [name for name, told in measured.conversions.items() if told.limit]:
            found.append(Text(f"Only the first rows, as --limit asked: {', '.join(limited)}."))
    results = dict(measured.results)
    left_out = [f"{name} {result.left_out:,}" for name, result in results.items() if result.left_out]
    shortened = [
        f"{name} ({result.stage}) {result.shortened:,}" for name, result in measured.results if result.shortened
    ]
    most = {name: max(len(found.users) for other, found in measured.results if other == name) for name in results}
    parts = [
        f"{name} ({result.stage}) {len(result.users):,}"
        for name, result in measured.results
        if len(result.users) < most[name]
    ]
    unread = [
        f"{line.benchmark} ({line.label}) {line.scores.replies.unparsed:,} of {line.accuracy.rows:,}"
        for line in measured.lines
        if isinstance(line.scores, Scores) and line.scores.replies and line.scores.replies.unparsed
    ]
    drawn = [
        f"{name} {result.clusters:,} {result.drawn} of {len(result.users):,} rows"
        for name, result in results.items()
        if result.clusters
    ]
    silent = [name for name in results if name not in measured.conversions]
    for told, names in (
        ("Intervals draw what rows share, each as a whole, and rows elsewhere", drawn),
        ("Measured on the first rows alone", parts),
        ("Sampled replies that selected no option, each counted as wrong", unread),
        ("Malformed rows left out by the runner", left_out),
        ("Histories that lost their oldest part in a prompt", shortened),
        ("Nothing is known of the conversion of", silent),
    ):
        if names:
            found.append(Text(f"{told}: {', '.join(names)}."))
    return found


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in counts.items()) or "nothing"


def write(measured: Measured, out: Path) -> list[Path]:
    """The Markdown and the page. Raises ConfigError where it cannot be written."""
    pictures = out / NAME
    paths = out / f"{NAME}.md", pictures / "index.html"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        told = blocks(measured, benchmark_plots.write(measured, pictures))
        paths[0].write_text(markdown(told, pictures=NAME), encoding="utf-8")
        paths[1].write_text(page(told, title=TITLE, pictures=pictures), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error}") from error
    return list(paths)


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises SystemExit."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.reporting.benchmark_report",
        description="Report benchmark results as Markdown, plots and a page.",
        epilog="example: python -m evaluation.reporting.benchmark_report var/benchmarks/results --out var/report",
    )
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="results of evaluation, or folders")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for results.md and results/")
    given = parser.parse_args(arguments)
    try:
        print(*write(gather(given.results), given.out), sep="\n")
    except TrainingError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
