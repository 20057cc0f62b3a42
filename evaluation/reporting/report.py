"""Reports results of evaluation: a table with intervals and baselines over both halves, a plot, published figures.

`report` of a run names the folder for accuracy.md and accuracy.png. Runs on the same rows stand together, such as the
stages of a training chain; a benchmark is named after its file of rows. Every word follows from the figures; what a
conversion left out is listed where its note lies beside the results.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from evaluation.cases.halves import HALVES
from evaluation.conditions import ABLATIONS, POPULARITY_SETTINGS
from evaluation.reporting.collect import CollectedResults, Line
from evaluation.reporting.conversion import Conversion
from evaluation.reporting.document import NONE, Table, percent, percents, points
from evaluation.reporting.plots import plot_accuracy
from evaluation.reporting.published import PUBLISHED, Published
from evaluation.results import Scores
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
half. AUC is pooled over all options of all rows; ECE is the expected calibration error. Run `baseline` chooses \
without reading the history. {TUNED} popularity counts, and the negatives are drawn uniformly or by popularity: how \
they were drawn decides what it is worth; in the rows `-matched` both items are equally popular. Settings are those of \
evaluation/conditions.py; `profile` is the fast profile without any model and without the items' popularity."""


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
        mark = _mark(results, line.benchmark, counts_popularity=line.setting in POPULARITY_SETTINGS)
        rows.append((line.benchmark, line.run, line.setting + mark, *percents(line.accuracy), _auc(line), _ece(line)))
    return Table(("benchmark", "run", "setting", *OF_PARTS, "AUC", "ECE"), tuple(rows), names=3)


def _baselines(results: CollectedResults, benchmark: str) -> list[tuple[str, ...]]:
    """Of the run over the most rows; the profile where no run measured it."""
    runs = [result for name, result in results.results if name == benchmark]
    measured = any("profile" in result.settings for result in runs)
    baselines = max(runs, key=lambda result: len(result.users)).baselines
    marks = {"popularity": _mark(results, benchmark, counts_popularity=True)}
    return [
        (benchmark, "baseline", name + marks.get(name, ""), *percents(value), NONE, NONE)
        for name, value in baselines.items()
        if name in UNREAD or not measured
    ]


def _mark(results: CollectedResults, benchmark: str, *, counts_popularity: bool) -> str:
    note = results.conversions.get(benchmark)
    return f" {TUNED}" if counts_popularity and note and note.negatives in ("random", "popular") else ""


def _auc(line: Line) -> str:
    value = line.scores.auc if isinstance(line.scores, Scores) else None
    return f"{100 * value.mean:.1f} %" if value else NONE


def _ece(line: Line) -> str:
    value = line.scores.calibration if isinstance(line.scores, Scores) else None
    return f"{value.error:.3f}" if value else NONE


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
    """What the fast profile loses without each of its parts, or gains by popularity, paired by row."""
    rows = tuple(
        (
            benchmark,
            setting + _mark(results, benchmark, counts_popularity=setting in POPULARITY_SETTINGS),
            *(points(part) if part else NONE for part in (value, *map(value.halves.get, HALVES))),
        )
        for benchmark, result in results.results
        for setting in (*ABLATIONS, *POPULARITY_SETTINGS)
        if (value := result.differences.get(f"{setting} - profile")) and (value.low or value.high)
    )
    return Table(("benchmark", "setting less profile", *OF_PARTS), rows, names=2)


def render_measures(results: CollectedResults) -> Table:
    """Restraint and drift."""
    measures = results.measured.measures if results.measured else {}
    return Table(("measure", "all", *HALVES), tuple((name, *percents(value)) for name, value in measures.items()))


def render_report(results: CollectedResults) -> str:
    measures = ("## Restraint and drift", render_measures(results).markdown()) if results.measured else ()
    return "\n\n".join((f"# {TITLE}", *_accuracy(results), *measures, *_alignments(results))) + "\n"


def _accuracy(results: CollectedResults) -> Iterator[str]:
    if not results.results:
        return
    yield READING
    yield render_overview(results).markdown()
    yield from _unproven(results)
    yield f"![Accuracy by benchmark with 95 % intervals, and baselines]({PLOT})"
    for title, table in (
        ("By kind", render_kinds(results)),
        ("Without one part of the profile, in points, paired by row", render_ablation(results)),
    ):
        if table.rows:
            yield from (f"## {title}", table.markdown())
    yield from _published(results)
    yield from _differences(results)
    yield from _cost(results)
    yield from _rows(results)


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


def _published(results: CollectedResults) -> list[str]:
    if not {line.benchmark for line in results.lines} & {name for item in PUBLISHED for name in item.names}:
        return []
    rows = tuple(
        (item.title, f"{item.streaming:.2f} %", f"{item.full:.2f} %", _own_scores(results, item)) for item in PUBLISHED
    )
    note = (
        "AlignXplore+ with 8 B parameters as published, judged by Qwen3-8B. Judge, rows and negatives here are "
        "others: the figures show the order of size and are no comparison of methods."
    )
    head = ("benchmark", "published, streaming", "published, full", "here")
    return ["## Beside published figures", note, Table(head, rows).markdown()]


def _own_scores(results: CollectedResults, published: Published) -> str:
    scores = [
        f"{line.label} {percent(line.accuracy)}, {line.accuracy.rows:,} rows"
        for line in results.lines
        if line.benchmark in published.names and line.setting not in CONTROLS
    ]
    return "; ".join(scores) or "not measured"


def _differences(results: CollectedResults) -> list[str]:
    """Of settings of one run; of a setting from run to run, where rows are drawn one by one."""
    rows = [
        (benchmark, result.stage, name, points(value), f"{value.rows:,}")
        for benchmark, result in results.results
        for name, value in result.differences.items()
        if not name.startswith((*ABLATIONS, *POPULARITY_SETTINGS))
    ]
    for (benchmark, earlier), (following, later) in pairwise(results.results):
        if benchmark != following or earlier.users != later.users or later.clusters:
            continue
        for name in (name for name in later.settings if name in earlier.settings):
            gain = difference(later.settings[name].right, earlier.settings[name].right)
            rows.append((benchmark, later.stage, f"{name} - {earlier.stage}: {name}", points(gain), f"{gain.rows:,}"))
    if not rows:
        return []
    head = ("benchmark", "run", "accuracy of", "points, 95 % interval", "rows")
    return ["## Differences, paired by row", Table(head, tuple(rows), names=3).markdown()]


def _alignments(results: CollectedResults) -> list[str]:
    head = ("run", "alignment accuracy", "prefers chosen", "reference", "gain", "gain by token", "pairs")
    rows = [
        (
            result.stage,
            percent(scores.alignment),
            percent(scores.policy_prefers),
            percent(scores.reference_prefers),
            points(scores.gain),
            points(scores.gain_by_token),
            f"{scores.alignment.rows:,}",
        )
        for result in results.alignments
        if (scores := result.alignment)
    ]
    note = (
        "Alignment accuracy: share of pairs for which the step from the reference raises the chosen reply more than "
        "the rejected one; the reference itself scores 50 %. Prefers chosen: finds the chosen reply likelier."
    )
    return ["## Alignment with preference pairs", note, Table(head, tuple(rows)).markdown()] if rows else []


def _cost(results: CollectedResults) -> list[str]:
    """Of runs that asked an engine."""
    rows = tuple(
        (line.benchmark, line.run, line.setting, _tokens(line), f"{line.scores.calls:,}", f"{line.scores.seconds:.1f}")
        for line in results.lines
        if line.setting not in ABLATIONS
    )
    head = ("benchmark", "run", "setting", "tokens of a summary", "engine calls", "seconds")
    note = "Engine calls include those that a stored answer served; seconds are of the run itself."
    judges = {
        f"Run {result.stage}: summaries by {result.model.name}, judged by {result.judge.name}."
        for _, result in results.results
        if result.model and result.judge
    }
    return ["## What it took", note, Table(head, rows, names=3).markdown(), *sorted(judges)]


def _tokens(line: Line) -> str:
    return f"{line.scores.writing.summary_tokens:.0f}" if line.scores.writing else NONE


def _rows(results: CollectedResults) -> Iterator[str]:
    """Where the rows came from and what is missing."""
    yield "## The rows"
    if results.conversions:
        yield (
            "Rows are of the files at hand, which may be parts of the published ones. Personas, profiles and system "
            "messages never enter a row; pairs of P-Soups that quote the true persona are left out."
        )
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
        yield Table(("benchmark", "what is foreseen", "rows", "read", "left out"), rows, names=5).markdown()
    yield Table(
        (
            "benchmark",
            "run",
            "rows",
            "the bootstrap draws",
            "malformed",
            "histories shortened",
            "replies that chose nothing",
        ),
        tuple(
            (
                benchmark,
                result.stage,
                f"{len(result.users):,}",
                f"{result.clusters:,} {result.drawn}" if result.clusters else "rows",
                f"{result.left_out:,}",
                f"{result.shortened:,}",
                f"{sum(scores.replies.unparsed for scores in result.settings.values() if scores.replies):,}",
            )
            for benchmark, result in results.results
        ),
        names=2,
    ).markdown()


def _limit(note: Conversion) -> str:
    return " (limit)" if note.limit else ""


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in counts.items()) or "nothing"


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
