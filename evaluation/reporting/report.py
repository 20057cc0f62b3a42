"""Reports results of evaluation: tables with intervals and baselines over both halves, a plot, published figures.

`report` of a run names the folder for accuracy.md and accuracy.png. Runs on the same rows stand together, such as the
stages of a training chain; a benchmark is named after its file of rows. Every word follows from the figures; what a
conversion left out is listed where its note lies beside the results.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from evaluation.cases.halves import HALVES
from evaluation.conditions import ABLATIONS, POPULARITY_SETTINGS
from evaluation.reporting.collect import CollectedResults
from evaluation.reporting.document import NONE, Table, percent, percents, points
from evaluation.reporting.plots import plot_accuracy
from evaluation.reporting.published import PUBLISHED, list_differences
from evaluation.results import Estimate, Scores
from evaluation.scoring.intervals import difference
from training.exceptions import ConfigError

TITLE = "Results on benchmarks"
PLOT = "accuracy.png"
UNREAD = ("random", "longer wins", "popularity")
"""Baselines that choose without reading the history."""
CONTROLS = (
    "none", "other", "flipped", "drifted", "mixed", "truth", "profile-flipped", "profile-text", *ABLATIONS,
)  # fmt: skip
"""Controls and robustness: they stand in the table, not beside published figures."""
OF_PARTS = ("both halves", *HALVES)
TUNED = "†"
"""Marks a score that depends on how the negatives were drawn."""
READING = f"""\
Share of rows whose choice got the highest score, ties shared, with its 95 % bootstrap interval and the rows, over \
both halves of the users and over each: features of the fast profile are chosen on the development half alone \
(evaluation/cases/halves.py says what was looked at before). For questions that are answered, a win counts 1, a tie a \
half. AUC is pooled over all options of all rows; ECE is the expected calibration error; engine calls include those \
that a stored answer served. Run `baseline` chooses without reading the history. {TUNED} popularity counts, and the \
negatives are drawn uniformly or by popularity: how they were drawn decides what it is worth; in the rows `-matched` \
both items are equally popular. Settings are those of evaluation/conditions.py; `profile` is the fast profile without \
any model and without the items' popularity."""


class Section(NamedTuple):
    """A table of the report; left out without rows."""

    title: str
    note: str
    render: Callable[[CollectedResults], Table]
    on_terminal: bool = True


def render_report(results: CollectedResults) -> str:
    parts = [f"# {TITLE}"]
    for section in SECTIONS:
        table = section.render(results)
        if table.rows:
            parts += [f"## {section.title}", *filter(None, [section.note]), table.markdown()]
            if section.render is render_overview:
                parts += [*_unproven(results), f"![Accuracy by benchmark with 95 % intervals, and baselines]({PLOT})"]
    return "\n\n".join(parts) + "\n"


def render_terminal(results: CollectedResults) -> str:
    tables = (section.render(results) for section in SECTIONS if section.on_terminal)
    return "\n\n".join(table.plain() for table in tables if table.rows)


def render_overview(results: CollectedResults) -> Table:
    """Each score beside the baselines of its rows."""
    rows: list[tuple[str, ...]] = []
    shown: set[str] = set()
    for line in results.lines:
        if line.setting in ABLATIONS:
            continue
        if line.benchmark not in shown:
            shown.add(line.benchmark)
            rows += _baselines(results, line.benchmark)
        scores = line.scores
        auc, error = (scores.auc, scores.calibration_error) if isinstance(scores, Scores) else (None, None)
        rows.append(
            (
                line.benchmark,
                line.run,
                line.setting + _mark(results, line.benchmark, line.setting),
                *percents(line.accuracy),
                percent(auc) if auc else NONE,
                NONE if error is None else f"{error:.3f}",
                f"{scores.writing.summary_tokens:.0f}" if scores.writing else NONE,
                f"{scores.calls:,}",
                f"{scores.seconds:.1f}",
            )
        )
    head = ("benchmark", "run", "setting", *OF_PARTS, "AUC", "ECE", "tokens of a summary", "engine calls", "seconds")
    return Table(head, tuple(rows), names=3)


def _baselines(results: CollectedResults, benchmark: str) -> list[tuple[str, ...]]:
    """Of the run over the most rows; the profile where no run measured it."""
    runs = [result for name, result in results.results if name == benchmark]
    measured = any("profile" in result.settings for result in runs)
    baselines = max(runs, key=lambda result: len(result.users)).baselines
    return [
        (benchmark, "baseline", name + _mark(results, benchmark, name), *percents(value), *[NONE] * 5)
        for name, value in baselines.items()
        if name in UNREAD or not measured
    ]


def _mark(results: CollectedResults, benchmark: str, setting: str) -> str:
    note = results.conversions.get(benchmark)
    counts_popularity = setting in (*POPULARITY_SETTINGS, "popularity")
    return f" {TUNED}" if counts_popularity and note and note.negatives in ("random", "popular") else ""


def _unproven(results: CollectedResults) -> list[str]:
    """Scores that are not clearly above a baseline without reading."""
    items = []
    for line in results.lines:
        if line.setting in CONTROLS or not isinstance(line.scores, Scores):
            continue
        margins = line.scores.margins
        if reached := [name for name in UNREAD if name in margins and margins[name].low <= 0]:
            gaps = ", ".join(f"{name} {points(margins[name])}" for name in reached)
            items.append(f"{line.benchmark} ({line.label}; less {gaps})")
    sentence = "Not clearly above a baseline, paired by row, in points"
    return [f"{sentence}: {'; '.join(items)}."] if items else []


def render_kinds(results: CollectedResults) -> Table:
    """Each kind of target apart, of benchmarks that have several."""
    rows = tuple(
        (line.benchmark, line.run, line.setting, kind, *percents(value))
        for line in results.lines
        if line.setting not in CONTROLS and len(line.scores.by_kind) > 1
        for kind, value in line.scores.by_kind.items()
    )
    return Table(("benchmark", "run", "setting", "kind", *OF_PARTS), rows, names=4)


def render_ablation(results: CollectedResults) -> Table:
    """What the fast profile loses without each of its parts, or gains by popularity."""
    rows = tuple(
        (benchmark, setting + _mark(results, benchmark, setting), *_all_points(value))
        for benchmark, result in results.results
        for setting in (*ABLATIONS, *POPULARITY_SETTINGS)
        if (value := result.differences.get(f"{setting} - profile")) and (value.low or value.high)
    )
    return Table(("benchmark", "setting less profile", *OF_PARTS), rows, names=2)


def _all_points(value: Estimate) -> tuple[str, ...]:
    return tuple(points(part) if part else NONE for part in (value, *map(value.halves.get, HALVES)))


def render_published(results: CollectedResults) -> Table:
    rows = []
    for item in PUBLISHED:
        own = [
            f"{line.label} {percent(line.accuracy)}, {line.accuracy.rows:,} rows"
            f" ({', '.join(list_differences(line, item)) or 'comparable'})"
            for line in results.lines
            if line.benchmark in (*item.names, *item.upi) and line.setting not in CONTROLS
        ]
        rows.append((item.title, f"{item.streaming:.2f} %", f"{item.full:.2f} %", "; ".join(own) or "not measured"))
    measured = {line.benchmark for line in results.lines} & {
        name for item in PUBLISHED for name in (*item.names, *item.upi)
    }
    return Table(("benchmark", "published, streaming", "published, full", "here"), tuple(rows) if measured else ())


def render_differences(results: CollectedResults) -> Table:
    """Of settings of one run; of a setting from run to run, where rows are drawn one by one."""
    rows = [
        (benchmark, result.stage, name, *_all_points(value))
        for benchmark, result in results.results
        for name, value in result.differences.items()
        if not name.startswith((*ABLATIONS, *POPULARITY_SETTINGS))
    ]
    for (benchmark, earlier), (following, later) in pairwise(results.results):
        if benchmark != following or earlier.users != later.users or later.clusters:
            continue
        for name in (name for name in later.settings if name in earlier.settings):
            gain = difference(later.settings[name].right, earlier.settings[name].right)
            rows.append((benchmark, later.stage, f"{name} - {earlier.stage}: {name}", *_all_points(gain)))
    return Table(("benchmark", "run", "accuracy of", *OF_PARTS), tuple(rows), names=3)


def render_measures(results: CollectedResults) -> Table:
    measures = results.measured.measures if results.measured else {}
    return Table(("measure", *OF_PARTS), tuple((name, *percents(value)) for name, value in measures.items()))


def render_alignments(results: CollectedResults) -> Table:
    head = ("run", "alignment accuracy", "prefers chosen", "reference", "gain", "gain by token", "pairs")
    rows = tuple(
        (
            result.stage,
            *map(percent, (scores.alignment, scores.policy_prefers, scores.reference_prefers)),
            *map(points, (scores.gain, scores.gain_by_token)),
            f"{scores.alignment.rows:,}",
        )
        for result in results.alignments
        if (scores := result.alignment)
    )
    return Table(head, rows)


def render_conversions(results: CollectedResults) -> Table:
    """Where the rows came from and what is missing."""
    rows = tuple(
        (
            name,
            note.about,
            f"{note.rows:,}{' (limit)' if note.limit else ''}",
            _counts(note.read),
            _counts(note.left_out),
        )
        for name, note in results.conversions.items()
    )
    return Table(("benchmark", "what is foreseen", "rows", "read", "left out"), rows, names=5)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in counts.items()) or "nothing"


def render_runs(results: CollectedResults) -> Table:
    head = ("benchmark", "run", "summaries by", "judge", "rows", "drawn", "malformed", "shortened", "unparsed")
    rows = tuple(
        (
            benchmark,
            result.stage,
            result.model.name if result.model else NONE,
            result.judge.name if result.judge else NONE,
            f"{len(result.users):,}",
            f"{result.clusters:,} {result.drawn}" if result.clusters else "rows",
            f"{result.left_out:,}",
            f"{result.shortened:,}",
            f"{sum(scores.replies.unparsed for scores in result.settings.values() if scores.replies):,}",
        )
        for benchmark, result in results.results
    )
    return Table(head, rows, names=4)


SECTIONS: Final = (
    Section("Accuracy", READING, render_overview),
    Section("By kind", "", render_kinds),
    Section("Without one part of the profile, in points, paired by row", "", render_ablation),
    Section(
        "Restraint and drift",
        "Of the suites in evaluation/suites, whose rows were written for this project; what should be reached stands "
        "in brackets.",
        render_measures,
    ),
    Section(
        "Beside published figures",
        "AlignXplore+ with 8 B parameters as published, judged by Qwen3-8B. In brackets: what is "
        "not as published of a figure here, else that it is comparable; others show the order of size.",
        render_published,
        on_terminal=False,
    ),
    Section("Differences, in points, paired by row", "", render_differences),
    Section(
        "Alignment with preference pairs",
        "Alignment accuracy: share of pairs for which the step from the reference raises the chosen reply more than "
        "the rejected one; the reference itself scores 50 %. Prefers chosen: finds the chosen reply likelier.",
        render_alignments,
    ),
    Section(
        "The rows",
        "Rows are of the files at hand, which may be parts of the published ones. Personas, profiles and system "
        "messages never enter a row; pairs of P-Soups that quote the true persona are left out.",
        render_conversions,
        on_terminal=False,
    ),
    Section(
        "The runs",
        "Drawn: what the bootstrap draws as a whole. Shortened: histories that lost their oldest part in a prompt. "
        "Unparsed: sampled replies that selected no option, each counted as wrong.",
        render_runs,
        on_terminal=False,
    ),
)


def write(results: CollectedResults, out: Path) -> list[Path]:
    """The Markdown and the plot. Raises ConfigError where they cannot be written."""
    paths = [out / "accuracy.md", out / PLOT]
    try:
        out.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(render_report(results), encoding="utf-8")
        if results.results:
            plot_accuracy(results, paths[1])
        else:
            paths.pop()
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error}") from error
    return paths
